/** Owns the page's side of the network: PeerJS, which only the main thread can run, at the command of the Worker. */
import { Peer } from 'peerjs'
import { BROKER_BASE, BROKER_KEY, LEAVE_PATH } from '../protocol/signalling.ts'
import type { ErrorBody } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import { forwardChannel, type ForwardedEnd } from './forwarding.ts'
import { DIRECT_HANDOVER, HANDOVER, handoverSerializers, type HandoverConnection } from './handover.ts'
import { BROKER_DEADLINE_MS, DIAL_DEADLINE_MS, ICE_GRACE_MS, REDIAL_FIRST_MS, REDIAL_LONGEST_MS } from './limits.ts'
import type { LinksMessage, PeerIdentity, SessionMessage } from './linkMessages.ts'
import { routeOf } from './route.ts'

export interface PeerSessionOptions {
  /** The other end belongs to the Worker's `PeerLinks`. */
  port: MessagePort
  /** Origin of the server whose broker to use, such as `https://skein.example`. */
  origin: string
  /** True: keep every channel in the page and forward; else only where the browser cannot transfer channels. */
  forward?: boolean
  /** False: a connection that this end dials brings no TURN server, the other end’s will do. Left out: it does. */
  dialsWithTurn?: boolean
}

/** Who may still be told apart by PeerJS only in the sentence of its error. */
const unavailable = /^Could not connect to peer (\S+)$/

export class PeerSession {
  readonly #port: MessagePort
  readonly #origin: URL
  #forward: boolean
  readonly #dialsWithTurn: boolean
  #identity: PeerIdentity | null = null
  #peer: Peer | null = null
  readonly #connections = new Map<string, HandoverConnection>()
  readonly #forwarded = new Map<string, ForwardedEnd>()
  #failures = 0
  #retry: ReturnType<typeof setTimeout> | undefined
  #error: ErrorBody | null = null

  constructor(options: PeerSessionOptions) {
    this.#port = options.port
    this.#origin = new URL(options.origin)
    this.#forward = options.forward ?? false
    this.#dialsWithTurn = options.dialsWithTurn ?? true
    this.#port.onmessage = (event: MessageEvent<LinksMessage>) => this.#command(event.data)
  }

  /**
   * Says in the Worker's place that this node leaves: a page that goes away may end the Worker before its own word is out,
   * and a beacon outlives the page.
   */
  sayGoodbye(): void {
    if (this.#identity) navigator.sendBeacon(new URL(LEAVE_PATH, this.#origin), this.#identity.token)
  }

  /** Leaves the broker and closes every connection. */
  close(): void {
    clearTimeout(this.#retry)
    this.#identity = null
    this.#discardPeer()
    this.#port.onmessage = null
    this.#port.close()
  }

  #post(message: SessionMessage, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer)
  }

  #command(message: LinksMessage): void {
    switch (message.type) {
      case 'open':
        return this.#open(message.identity)
      case 'dial':
        return this.#dial(message.partner, message.direct)
      case 'established':
        return void this.#measureRoute(message.strandId)
      case 'drop':
        return this.#connections.get(message.strandId)?.close()
      case 'forward':
        return this.#forwarded.get(message.strandId)?.send(message.data)
      case 'close':
        return this.close()
    }
  }

  #open(identity: PeerIdentity): void {
    const same = this.#identity?.nodeId === identity.nodeId
    this.#identity = identity
    clearTimeout(this.#retry)
    if (same && this.#peer && !this.#peer.destroyed) {
      // PeerJS reads the token again when it reconnects; connections already made need none.
      Object.assign(this.#peer.options, { token: identity.token, config: { iceServers: identity.iceServers } })
      if (this.#peer.disconnected) this.#connectBroker()
      return
    }
    this.#failures = 0
    this.#discardPeer()
    this.#connectBroker()
  }

  #connectBroker(): void {
    const identity = this.#identity
    if (!identity) return
    if (this.#peer && !this.#peer.destroyed) this.#peer.reconnect()
    else this.#createPeer(identity)
    const peer = this.#peer
    this.#retry = setTimeout(() => {
      if (peer === this.#peer && peer && !peer.open && !peer.disconnected) peer.disconnect()
    }, BROKER_DEADLINE_MS)
  }

  #createPeer({ nodeId, token, iceServers }: PeerIdentity): void {
    const secure = this.#origin.protocol === 'https:'
    const peer = new Peer(nodeId, {
      host: this.#origin.hostname,
      port: Number(this.#origin.port) || (secure ? 443 : 80),
      path: BROKER_BASE,
      key: BROKER_KEY,
      secure,
      token,
      // Given even when empty: PeerJS's default would send every address to somebody else's servers.
      config: { iceServers },
      serializers: handoverSerializers({
        dialsWithTurn: this.#dialsWithTurn,
        channel: (connection, channel) => this.#handOver(connection, channel),
        closed: (connection) => this.#closed(connection),
      }),
    })
    this.#peer = peer
    const current = (listener: () => void) => () => {
      if (this.#peer === peer) listener()
    }
    peer.on(
      'open',
      current(() => this.#brokerOpen()),
    )
    peer.on(
      'disconnected',
      current(() => this.#brokerGone()),
    )
    peer.on('connection', (connection) => {
      setTimeout(() => {
        if (!this.#connections.has(connection.connectionId)) connection.close()
      }, DIAL_DEADLINE_MS)
    })
    peer.on('error', (error) => {
      const absent = unavailable.exec(error.message)?.[1]
      if (absent) this.#absent(absent)
      else this.#error = brokerError(error.type, error.message)
    })
  }

  #brokerOpen(): void {
    clearTimeout(this.#retry)
    this.#failures = 0
    this.#error = null
    this.#post({ type: 'broker', connected: true, error: null })
  }

  #brokerGone(): void {
    clearTimeout(this.#retry)
    this.#failures += 1
    this.#post({ type: 'broker', connected: false, error: this.#error })
    const pause = backoffMs(this.#failures, REDIAL_FIRST_MS, REDIAL_LONGEST_MS)
    this.#retry = setTimeout(() => this.#connectBroker(), pause)
  }

  #discardPeer(): void {
    const peer = this.#peer
    this.#peer = null
    peer?.destroy()
    for (const connection of [...this.#connections.values()]) connection.close()
  }

  #dial(partner: string, direct: boolean): void {
    if (!this.#peer?.open) return
    // The answer, if any, is a `strand` message out of #handOver.
    const serialization = direct ? DIRECT_HANDOVER : HANDOVER
    this.#peer.connect(partner, { serialization, reliable: true, label: HANDOVER })
    // ICE may have found it by itself since it was last asked, which no event tells everywhere.
    if (direct) for (const [id, { peer }] of this.#connections) if (peer === partner) void this.#measureRoute(id)
  }

  /** Ends dials to a partner that the broker does not know. */
  #absent(partner: string): void {
    for (const connection of [...this.#connections.values()]) {
      if (connection.peer === partner && connection.peerConnection?.connectionState !== 'connected') connection.close()
    }
  }

  #handOver(connection: HandoverConnection, channel: RTCDataChannel): void {
    const { connectionId: strandId, peer: partner, dialled } = connection
    if (partner === this.#identity?.nodeId) return connection.close()
    this.#connections.set(strandId, connection)
    connection.on('iceStateChanged', (state) => this.#iceChanged(connection, state))
    if (!this.#forward) {
      try {
        return this.#post({ type: 'strand', strandId, partner, dialled, channel }, [channel as unknown as Transferable])
      } catch {
        // This browser cannot transfer channels.
        this.#forward = true
      }
    }
    this.#post({ type: 'strand', strandId, partner, dialled, channel: null })
    const end = forwardChannel(
      strandId,
      channel,
      (message, transfer) => this.#post(message, transfer),
      () => connection.close(),
    )
    this.#forwarded.set(strandId, end)
  }

  #closed(connection: HandoverConnection): void {
    const strandId = connection.connectionId
    this.#forwarded.delete(strandId)
    if (this.#connections.delete(strandId)) this.#post({ type: 'gone', strandId })
  }

  #iceChanged(connection: HandoverConnection, state: RTCIceConnectionState): void {
    const { connectionId: strandId } = connection
    if (state === 'connected' || state === 'completed') {
      this.#post({ type: 'shaky', strandId, shaky: false })
      // A restart may have found another way.
      return void this.#measureRoute(strandId)
    }
    if (state !== 'disconnected') return
    this.#post({ type: 'shaky', strandId, shaky: true })
    setTimeout(() => {
      if (connection.peerConnection?.iceConnectionState === 'disconnected') connection.close()
    }, ICE_GRACE_MS)
  }

  async #measureRoute(strandId: string): Promise<void> {
    const stats = await this.#connections.get(strandId)?.peerConnection?.getStats()
    if (!stats) return
    const entries: unknown[] = []
    stats.forEach((entry: unknown) => entries.push(entry))
    this.#post({ type: 'kind', strandId, kind: routeOf(entries) })
  }
}

function brokerError(type: string, message: string): ErrorBody {
  return {
    code: 'net.broker_unreachable',
    message: `The connection broker answered “${type}”: ${message}`.slice(0, 2000),
    remedy: 'Reload the page; if it persists, WebSockets to this server may be blocked here.',
  }
}
