/** Owns the PeerJS connection types that hand their raw data channel over instead of using it. */
import { BufferedConnection, type Peer, type SerializerMapping } from 'peerjs'

/** Both ends name it, so that a stranger's PeerJS client with another serialization gets nowhere. */
export const HANDOVER = 'skein'
/** The same without TURN: as both ends name it, neither has a relayed address, and the connection opens directly or not at all. */
export const DIRECT_HANDOVER = 'skein-direct'

export interface HandoverHooks {
  /** Called while the channel may still be transferred: right after its creation, or inside `ondatachannel`. */
  channel(connection: HandoverConnection, channel: RTCDataChannel): void
  /** Once per connection, whoever closed it. */
  closed(connection: HandoverConnection): void
  /** Whether a connection that this end dials may bring TURN; else only one that it answers does. */
  readonly dialsWithTurn: boolean
}

interface ConnectionOptions {
  /** The offer; an answering connection alone has one. */
  _payload?: unknown
}

export type HandoverConnection = InstanceType<ReturnType<typeof handoverConnection>>

/**
 * Relies on `_initializeDataChannel`, which PeerJS calls from its base constructor (hence no fields are read in it), on
 * `options._payload`, which only an answering connection has, and on `provider.options.config`, which that constructor reads;
 * all are why peerjs is pinned.
 */
function handoverConnection(hooks: HandoverHooks, serialization: string, direct: boolean) {
  return class extends BufferedConnection {
    readonly serialization = serialization
    #closed = false

    constructor(partner: string, peer: Peer, options: ConnectionOptions) {
      const turn = !direct && (hooks.dialsWithTurn || options._payload !== undefined)
      super(partner, turn ? peer : peerWithoutTurn(peer), options)
      this.provider = peer
    }

    get dialled(): boolean {
      return (this.options as ConnectionOptions)._payload === undefined
    }

    override _initializeDataChannel(channel: RTCDataChannel): void {
      hooks.channel(this, channel)
    }

    override close(): void {
      super.close()
      if (this.#closed) return
      this.#closed = true
      hooks.closed(this)
    }

    protected override _handleDataMessage(): void {}

    protected override _send(): void {
      throw new Error('The channel of this connection was handed over.')
    }
  }
}

/** For PeerJS's `serializers` option. */
export function handoverSerializers(hooks: HandoverHooks): SerializerMapping {
  return {
    [HANDOVER]: handoverConnection(hooks, HANDOVER, false),
    [DIRECT_HANDOVER]: handoverConnection(hooks, DIRECT_HANDOVER, true),
  }
}

/** What a connection sees of its peer, with other ICE servers. */
function peerWithoutTurn(peer: Peer): Peer {
  const { iceServers = [], ...config } = peer.options.config as RTCConfiguration
  const options = { ...peer.options, config: { ...config, iceServers: withoutTurn(iceServers) } }
  return Object.create(peer, { options: { value: options } }) as Peer
}

/**
 * A TURN server over UDP is a STUN server too (RFC 8656, 3): it still tells the end by what address others know it, without
 * which nobody could be let through to it, not even by the other end's relayed address.
 */
function withoutTurn(servers: readonly RTCIceServer[]): RTCIceServer[] {
  const urls = servers
    .flatMap((server) => server.urls)
    .flatMap((url) => {
      if (/^stuns?:/i.test(url)) return [url]
      const [, host, query] = /^turn:([^?]+)(?:\?(.*))?$/i.exec(url) ?? []
      return host === undefined || query?.toLowerCase() === 'transport=tcp' ? [] : [`stun:${host}`]
    })
  return [...new Set(urls)].map((url) => ({ urls: url }))
}
