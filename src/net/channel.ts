/** Owns the two ways in which a Worker reaches a data channel: it has the channel itself, or the page forwards for it. */
import type { LinksMessage } from './linkMessages.ts'

export interface Channel {
  /** The bytes may be transferred away. */
  send(data: string | Uint8Array<ArrayBuffer>): void
  close(): void
}

export interface ChannelEvents {
  open(): void
  message(data: string | ArrayBuffer): void
  closed(): void
}

/** A channel that was transferred to this Worker; `open` may have fired before it arrived. */
export function ownedChannel(channel: RTCDataChannel, events: ChannelEvents): Channel {
  channel.binaryType = 'arraybuffer'
  const send = (data: string | Uint8Array<ArrayBuffer>) =>
    typeof data === 'string' ? channel.send(data) : channel.send(data)
  /** What is to go out before the channel is open: the partner's first message may arrive earlier, and be answered. */
  const held: (string | Uint8Array<ArrayBuffer>)[] = []
  // It may be open a while before `open` is told: what comes then must not overtake what was held.
  const flush = () => {
    if (channel.readyState === 'connecting') return
    for (const data of held.splice(0)) send(data)
  }
  channel.onopen = () => {
    flush()
    events.open()
  }
  channel.onmessage = (event: MessageEvent<string | ArrayBuffer>) => events.message(event.data)
  channel.onclose = () => events.closed()
  if (channel.readyState === 'open') queueMicrotask(() => events.open())
  else if (channel.readyState !== 'connecting') queueMicrotask(() => events.closed())
  return {
    send(data) {
      held.push(data)
      flush()
    },
    close: () => channel.close(),
  }
}

/** A channel that stayed with the page, whose answers are fed in through `events`. */
export class ForwardedChannel implements Channel {
  readonly events: ChannelEvents
  readonly #strandId: string
  readonly #post: (message: LinksMessage, transfer: Transferable[]) => void

  constructor(
    strandId: string,
    post: (message: LinksMessage, transfer: Transferable[]) => void,
    events: ChannelEvents,
  ) {
    this.#strandId = strandId
    this.#post = post
    this.events = events
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (typeof data === 'string') return this.#post({ type: 'forward', strandId: this.#strandId, data }, [])
    const whole = data.byteLength === data.buffer.byteLength ? data.buffer : data.slice().buffer
    this.#post({ type: 'forward', strandId: this.#strandId, data: whole }, [whole])
  }

  close(): void {
    this.#post({ type: 'drop', strandId: this.#strandId }, [])
  }
}
