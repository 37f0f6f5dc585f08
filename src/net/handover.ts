/** Owns the PeerJS connection type that hands its raw data channel over instead of using it. */
import { BufferedConnection, type SerializerMapping } from 'peerjs'

/** Both ends name it, so that a stranger's PeerJS client with another serialization gets nowhere. */
export const HANDOVER = 'skein'

export interface HandoverHooks {
  /** Called while the channel may still be transferred: right after its creation, or inside `ondatachannel`. */
  channel(connection: HandoverConnection, channel: RTCDataChannel): void
  /** Once per connection, whoever closed it. */
  closed(connection: HandoverConnection): void
}

export type HandoverConnection = InstanceType<ReturnType<typeof handoverConnection>>

/**
 * Relies on `_initializeDataChannel`, which PeerJS calls from its base constructor (hence no fields are read in it), and on
 * `options._payload`, which only an answering connection has; both are why peerjs is pinned.
 */
function handoverConnection(hooks: HandoverHooks) {
  return class extends BufferedConnection {
    readonly serialization = HANDOVER
    #closed = false

    get dialled(): boolean {
      return (this.options as { _payload?: unknown })._payload === undefined
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
  return { [HANDOVER]: handoverConnection(hooks) }
}
