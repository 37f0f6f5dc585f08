/** Owns the two ways in which a Worker reaches a data channel: it has the channel itself, or the page forwards for it. */
import { LOW_WATER_BYTES } from './limits.ts'
import type { LinksMessage } from './linkMessages.ts'

export interface Channel {
  /** Bytes sent that have not left yet. */
  readonly buffered: number
  /** The bytes may be transferred away. */
  send(data: string | Uint8Array<ArrayBuffer>): void
  close(): void
}

export interface ChannelEvents {
  open(): void
  message(data: string | ArrayBuffer): void
  /** `buffered` fell below the low-water mark. */
  drained(): void
  closed(): void
}

/** A channel that was transferred to this Worker; `open` may have fired before it arrived. */
export function ownedChannel(channel: RTCDataChannel, events: ChannelEvents): Channel {
  channel.binaryType = 'arraybuffer'
  channel.bufferedAmountLowThreshold = LOW_WATER_BYTES
  channel.onopen = () => events.open()
  channel.onmessage = (event: MessageEvent<string | ArrayBuffer>) => events.message(event.data)
  channel.onbufferedamountlow = () => events.drained()
  channel.onclose = () => events.closed()
  if (channel.readyState === 'open') queueMicrotask(() => events.open())
  else if (channel.readyState !== 'connecting') queueMicrotask(() => events.closed())
  return {
    get buffered() {
      return channel.bufferedAmount
    },
    send: (data) => (typeof data === 'string' ? channel.send(data) : channel.send(data)),
    close: () => channel.close(),
  }
}

/** A channel that stayed with the page; the page's answers are fed in through `events` and `taken`. */
export class ForwardedChannel implements Channel {
  readonly events: ChannelEvents
  readonly #linkId: string
  readonly #post: (message: LinksMessage, transfer: Transferable[]) => void
  /** Bytes on their way to the page, and bytes waiting in the page's channel. */
  #underway = 0
  #waiting = 0

  constructor(linkId: string, post: (message: LinksMessage, transfer: Transferable[]) => void, events: ChannelEvents) {
    this.#linkId = linkId
    this.#post = post
    this.events = events
  }

  get buffered(): number {
    return this.#underway + this.#waiting
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (typeof data === 'string') {
      this.#underway += data.length
      return this.#post({ type: 'forward', linkId: this.#linkId, data }, [])
    }
    this.#underway += data.byteLength
    const whole = data.byteLength === data.buffer.byteLength ? data.buffer : data.slice().buffer
    this.#post({ type: 'forward', linkId: this.#linkId, data: whole }, [whole])
  }

  taken(bytes: number, waiting: number): void {
    const before = this.buffered
    this.#underway -= bytes
    this.#waiting = waiting
    if (before > LOW_WATER_BYTES && this.buffered <= LOW_WATER_BYTES) this.events.drained()
  }

  close(): void {
    this.#post({ type: 'drop', linkId: this.#linkId }, [])
  }
}
