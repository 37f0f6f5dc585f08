/** Owns one open or opening connection to one partner: its handshake, its queue of frames, its reassembly. */
import { fail, SkeinError } from '../protocol/errors.ts'
import type { LinkKind } from '../protocol/control.ts'
import { PROTOCOL_VERSION } from '../protocol/version.ts'
import type { Channel, ChannelEvents } from './channel.ts'
import { HIGH_WATER_BYTES, MAX_QUEUED_BYTES, PING_MS, PINGS_REMEMBERED } from './limits.ts'
import { Reassembler, sliceFrame } from './slicing.ts'

export interface LinkOptions {
  linkId: string
  partner: string
  /** We dialled; the partner's Worker speaks first. */
  dialled: boolean
  now: () => number
  connect: (events: ChannelEvents) => Channel
  established: (link: Link) => void
  frame: (link: Link, bytes: Uint8Array<ArrayBuffer>) => void
  /** Once; `error` says why when this side closed it. */
  closed: (link: Link, error: SkeinError | null) => void
}

interface Outgoing {
  slices: Generator<Uint8Array<ArrayBuffer>>
  bytes: number
  resolve: () => void
  reject: (error: SkeinError) => void
}

/** What a link was found to do; null where it could not be told. */
export interface LinkSpeed {
  readonly rttMs: number
  readonly bytesPerSecond: number | null
}

const LISTENING = 'skein-listening '
const PING = 'skein-ping '
const PONG = 'skein-pong '

/**
 * A transferred channel loses what arrives before its new owner listens. So nothing is sent until both Workers are known to
 * listen: the one that was dialled says so first, the dialler had its channel before the connection began.
 */
export class Link {
  readonly linkId: string
  readonly partner: string
  readonly dialled: boolean
  readonly startedAt: number
  readonly channel: Channel
  /** When the handshake was done; meaningless before. */
  establishedAt = 0
  /** When bytes last came or went. */
  usedAt: number
  kind: LinkKind = 'unknown'
  state: 'opening' | 'established' | 'closed' = 'opening'
  upBytes = 0
  downBytes = 0
  readonly #options: LinkOptions
  readonly #reassembler = new Reassembler()
  readonly #queue: Outgoing[] = []
  #queuedBytes = 0
  #messageId = 0
  #announced = false
  /** The ping that was not answered yet: its number, and when it left. */
  #ping = { number: 0, at: -Infinity, open: false }
  readonly #roundTrips: number[] = []
  /** When the channel was filled, and with how much; null while it is not. */
  #filled: { at: number; bytes: number } | null = null
  #bytesPerMs: number | null = null

  constructor(options: LinkOptions) {
    this.linkId = options.linkId
    this.partner = options.partner
    this.dialled = options.dialled
    this.startedAt = options.now()
    this.usedAt = this.startedAt
    this.#options = options
    this.channel = options.connect({
      open: () => this.#open(),
      message: (data) => this.#message(data),
      drained: () => this.#drained(),
      closed: () => this.#end(null),
    })
  }

  /**
   * Resolves when the last slice was handed to the channel; `bytes` must not change until then.
   * @throws SkeinError `net.link_lost`, `net.frame_size`, `net.queue_full`
   */
  send(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.state !== 'established') return reject(lost(this.partner))
      if (this.#queuedBytes + bytes.byteLength > MAX_QUEUED_BYTES) {
        fail('net.queue_full', `More waits for ${this.partner} than memory allows.`, 'Await each send before the next.')
      }
      this.#messageId = (this.#messageId + 1) >>> 0
      this.#queue.push({ slices: sliceFrame(this.#messageId, bytes), bytes: bytes.byteLength, resolve, reject })
      this.#queuedBytes += bytes.byteLength
      this.#pump()
    })
  }

  /** How long nothing has passed, in milliseconds; 0 while something waits to leave. */
  idleMs(): number {
    const waiting = this.#queuedBytes > 0 || this.channel.buffered > 0
    return waiting ? 0 : this.#options.now() - this.usedAt
  }

  /** The shortest round trip of late, for a ping waits behind what was sent before it; null before the first. */
  get speed(): LinkSpeed | null {
    if (this.#roundTrips.length === 0) return null
    const bytesPerSecond = this.#bytesPerMs === null ? null : 1000 * this.#bytesPerMs
    return { rttMs: Math.min(...this.#roundTrips), bytesPerSecond }
  }

  /** Called now and then: asks for the round trip when that is due. */
  measure(): void {
    const now = this.#options.now()
    if (this.state !== 'established' || now - this.#ping.at < PING_MS) return
    this.#ping = { number: this.#ping.number + 1, at: now, open: true }
    this.channel.send(PING + this.#ping.number)
  }

  close(error: SkeinError | null = null): void {
    if (this.state === 'closed') return
    this.channel.close()
    this.#end(error)
  }

  evictStale(): void {
    this.#reassembler.evict(this.#options.now())
  }

  #open(): void {
    // A channel may be open on arrival and still fire `open`.
    if (this.#options.dialled || this.#announced) return
    this.#announced = true
    this.channel.send(LISTENING + PROTOCOL_VERSION)
  }

  #message(data: string | ArrayBuffer): void {
    if (this.state === 'closed') return
    try {
      if (typeof data === 'string') return this.#hear(data)
      this.downBytes += data.byteLength
      this.usedAt = this.#options.now()
      const frame = this.#reassembler.accept(new Uint8Array(data), this.#options.now())
      if (frame) this.#options.frame(this, frame)
    } catch (caught) {
      if (!(caught instanceof SkeinError)) throw caught
      this.close(caught)
    }
  }

  #hear(text: string): void {
    if (this.state !== 'established') return this.#handshake(text)
    if (text.startsWith(PING)) return this.channel.send(PONG + text.slice(PING.length, PING.length + 10))
    if (!text.startsWith(PONG)) return this.#handshake(text)
    if (!this.#ping.open || text !== PONG + this.#ping.number) return
    this.#ping.open = false
    this.#roundTrips.push(this.#options.now() - this.#ping.at)
    if (this.#roundTrips.length > PINGS_REMEMBERED) this.#roundTrips.shift()
  }

  #handshake(text: string): void {
    if (!text.startsWith(LISTENING) || this.state !== 'opening') {
      fail('net.handshake', `${this.partner} said something that is no handshake.`, 'Its link is dialled again.')
    }
    const version = text.slice(LISTENING.length, LISTENING.length + 10)
    if (version !== String(PROTOCOL_VERSION)) {
      fail('net.version', `${this.partner} speaks protocol ${version}, we ${PROTOCOL_VERSION}.`, 'Reload both pages.')
    }
    if (this.#options.dialled) this.channel.send(LISTENING + PROTOCOL_VERSION)
    this.state = 'established'
    this.establishedAt = this.usedAt = this.#options.now()
    // Not at once: what waited for the link goes first.
    this.#ping.at = this.establishedAt - PING_MS / 2
    this.#options.established(this)
  }

  /** How fast a channel that was full ran empty is how fast the line is. */
  #drained(): void {
    if (this.#filled) {
      const ms = this.#options.now() - this.#filled.at
      const rate = (this.#filled.bytes - this.channel.buffered) / Math.max(ms, 1)
      this.#bytesPerMs = this.#bytesPerMs === null ? rate : (this.#bytesPerMs + rate) / 2
      this.#filled = null
    }
    this.#pump()
  }

  #pump(): void {
    while (this.state === 'established' && this.channel.buffered < HIGH_WATER_BYTES) {
      const first = this.#queue[0]
      if (!first) return
      try {
        const { value, done } = first.slices.next()
        if (!done) {
          this.upBytes += value.byteLength
          this.usedAt = this.#options.now()
          this.channel.send(value)
          continue
        }
        first.resolve()
      } catch (caught) {
        // The frame cannot be cut: only its sender is told. A channel that refuses to send is lost.
        if (!(caught instanceof SkeinError)) return this.close(lost(this.partner))
        first.reject(caught)
      }
      this.#queue.shift()
      this.#queuedBytes -= first.bytes
    }
    if (this.state === 'established') this.#filled ??= { at: this.#options.now(), bytes: this.channel.buffered }
  }

  #end(error: SkeinError | null): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    for (const outgoing of this.#queue.splice(0)) outgoing.reject(lost(this.partner))
    this.#options.closed(this, error)
  }
}

export function lost(partner: string): SkeinError {
  return new SkeinError({
    code: 'net.link_lost',
    message: `The connection to ${partner} is gone.`,
    remedy: 'It is dialled again as soon as one of the two has something to say.',
  })
}
