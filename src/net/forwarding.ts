/** Owns the page's half of a channel that cannot be transferred: messages go to the Worker as transferables, and back. */
import type { SessionMessage } from './linkMessages.ts'

export interface ForwardedEnd {
  send(data: string | ArrayBuffer): void
}

export function forwardChannel(
  strandId: string,
  channel: RTCDataChannel,
  post: (message: SessionMessage, transfer?: Transferable[]) => void,
  closed: () => void,
): ForwardedEnd {
  channel.binaryType = 'arraybuffer'
  channel.onopen = () => post({ type: 'forwardOpen', strandId })
  channel.onmessage = (event: MessageEvent<string | ArrayBuffer>) =>
    post({ type: 'forwarded', strandId, data: event.data }, typeof event.data === 'string' ? [] : [event.data])
  channel.onclose = closed
  if (channel.readyState === 'open') post({ type: 'forwardOpen', strandId })
  return {
    send(data) {
      try {
        if (typeof data === 'string') channel.send(data)
        else channel.send(data)
      } catch {
        closed()
      }
    },
  }
}
