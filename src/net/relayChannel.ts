/** Owns the channel of last resort: a WebSocket through the server, which passes on what both ends send. */
import { SkeinError } from '../protocol/errors.ts'
import { RELAY_CLOSE, RELAY_PATH } from '../protocol/signalling.ts'
import type { Channel, ChannelEvents } from './channel.ts'

export interface RelayWay {
  /** Of the server, such as `https://skein.example`. */
  origin: string
  nodeId: string
  token: string
  partner: string
}

/** `refused`: the server gave a reason of its own for closing it. */
export function relayChannel(
  { origin, nodeId, token, partner }: RelayWay,
  events: ChannelEvents,
  refused: (error: SkeinError) => void,
): Channel {
  const url = new URL(RELAY_PATH, origin)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  url.search = new URLSearchParams({ id: nodeId, token, to: partner }).toString()
  const socket = new WebSocket(url)
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => events.open()
  socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => events.message(event.data)
  socket.onclose = ({ code, reason }) => {
    if (code === RELAY_CLOSE.spent || code === RELAY_CLOSE.full) refused(overCap(partner, reason))
    events.closed()
  }
  return {
    send(data) {
      if (socket.readyState !== WebSocket.OPEN) throw new Error('The relay’s socket is not open.')
      socket.send(data)
    },
    close: () => socket.close(),
  }
}

function overCap(partner: string, reason: string): SkeinError {
  return new SkeinError({
    code: 'net.relay_cap',
    message: `No way to ${partner} opened but through the server, which carries no more for it. ${reason}`.trim(),
    remedy: 'Try another network, or let the operator add a TURN server or raise the caps of the relay.',
  })
}
