/** Owns the PeerJS-wire broker: it lets two nodes that the server knows exchange their WebRTC offers, and nothing else. */
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocket, WebSocketServer, type RawData } from 'ws'
import {
  BROKER_CLOSE,
  BROKER_KEY,
  BROKER_PATH,
  parsePeerMessage,
  type BrokerMessage,
  type RelayedMessage,
} from '../../src/protocol/signalling.ts'
import { BROKER_LIMITS, type BrokerLimits } from './limits.ts'
import { WaitingRoom } from './waiting.ts'

export interface BrokerOptions {
  /** The node a token was issued to; null when the token is not valid. */
  nodeOf(token: string): string | null
  limits?: Partial<BrokerLimits>
  /** Monotonic milliseconds. */
  now?: () => number
}

export interface Broker {
  close(): void
  /** Peers connected at the moment. */
  connections(): number
}

interface Peer {
  readonly id: string
  readonly socket: WebSocket
  /** Messages it may still send, refilled over time. */
  allowance: number
  refilledAt: number
  heardAt: number
}

/**
 * Serves {@link BROKER_PATH} of `server`; upgrades for any other path are left to other listeners.
 * A peer's id must be the node its token was issued to. A new socket of the same id replaces the older one. What is said
 * to a peer that is not there waits `waitMs`; then the one who offered is told EXPIRE.
 */
export function attachBroker(server: Server, options: BrokerOptions): Broker {
  const limits = { ...BROKER_LIMITS, ...options.limits }
  const now = options.now ?? (() => performance.now())
  const peers = new Map<string, Peer>()
  const waiting = new WaitingRoom(limits)
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: limits.messageBytes,
    clientTracking: true,
  })

  function send(peer: Peer, message: BrokerMessage) {
    if (peer.socket.readyState !== WebSocket.OPEN) return
    if (peer.socket.bufferedAmount > limits.bufferedBytes) return peer.socket.terminate()
    peer.socket.send(JSON.stringify(message))
  }

  function refuse(socket: WebSocket, code: number, reason: string) {
    const message: BrokerMessage = { type: 'ERROR', payload: { msg: reason } }
    socket.send(JSON.stringify(message))
    socket.close(code, reason)
  }

  function expired(src: string, message: RelayedMessage) {
    const sender = peers.get(src)
    // Candidates belong to an offer, whose expiry says it all.
    if (sender && message.type === 'OFFER') send(sender, { type: 'EXPIRE', src: message.dst, dst: src })
  }

  function relay(src: string, message: RelayedMessage, bytes: number) {
    const target = peers.get(message.dst)
    if (target) return send(target, { ...message, src })
    if (message.type === 'LEAVE') return
    if (!waiting.add({ src, message, bytes, until: now() + limits.waitMs })) expired(src, message)
  }

  function heard(peer: Peer, data: RawData, isBinary: boolean) {
    const at = now()
    peer.heardAt = at
    peer.allowance = Math.min(limits.burst, peer.allowance + ((at - peer.refilledAt) / 1000) * limits.perSecond)
    peer.refilledAt = at
    if (peer.allowance < 1) return refuse(peer.socket, BROKER_CLOSE.tooFast, 'Too many signalling messages; slow down.')
    peer.allowance -= 1
    const text = isBinary ? '' : String(data)
    const message = parsePeerMessage(text)
    if (!message) return refuse(peer.socket, BROKER_CLOSE.malformed, 'Not a signalling message of PeerJS 1.5.')
    if (message.type !== 'HEARTBEAT') relay(peer.id, message, text.length)
  }

  function welcome(socket: WebSocket, id: string) {
    const older = peers.get(id)
    const peer: Peer = { id, socket, allowance: limits.burst, refilledAt: now(), heardAt: now() }
    peers.set(id, peer)
    older?.socket.close(BROKER_CLOSE.replaced, 'Another socket of this node took over.')
    socket.on('message', (data, isBinary) => heard(peer, data, isBinary))
    socket.on('pong', () => (peer.heardAt = now()))
    socket.on('close', () => {
      if (peers.get(id) === peer) peers.delete(id)
    })
    send(peer, { type: 'OPEN' })
    for (const entry of waiting.take(id)) send(peer, { ...entry.message, src: entry.src })
  }

  function upgrade(request: IncomingMessage, stream: Duplex, head: Buffer) {
    const url = new URL(request.url ?? '/', 'http://localhost')
    if (url.pathname !== BROKER_PATH) return
    const id = url.searchParams.get('id') ?? ''
    const allowed =
      url.searchParams.get('key') === BROKER_KEY &&
      id !== '' &&
      options.nodeOf(url.searchParams.get('token') ?? '') === id
    sockets.handleUpgrade(request, stream, head, (socket) => {
      // A message over the size cap, or a broken frame; `close` follows and does the tidying.
      socket.on('error', () => {})
      if (!allowed)
        return refuse(socket, BROKER_CLOSE.refused, 'This id and token do not belong together, or the token expired.')
      if (peers.size >= limits.connections && !peers.has(id)) {
        return refuse(socket, BROKER_CLOSE.full, 'The broker holds as many peers as it can.')
      }
      welcome(socket, id)
    })
  }

  const sweep = setInterval(
    () => {
      const at = now()
      for (const entry of waiting.expire(at)) expired(entry.src, entry.message)
      for (const peer of peers.values()) {
        if (at - peer.heardAt > limits.silentMs) peer.socket.terminate()
        else if (at - peer.heardAt > limits.pingAfterMs) peer.socket.ping()
      }
    },
    Math.min(1000, limits.waitMs),
  )
  sweep.unref()
  server.on('upgrade', upgrade)

  return {
    close() {
      clearInterval(sweep)
      server.off('upgrade', upgrade)
      for (const socket of sockets.clients) socket.terminate()
      sockets.close()
    },
    connections: () => peers.size,
  }
}
