/** Owns what goes between this node and one partner, over all connections with it: queues, striping and reassembly. */
import { fail, SkeinError } from '../protocol/errors.ts'
import { MAX_QUEUED_BYTES } from './limits.ts'
import { cutFrame, Reassembler, type Parcel } from './slicing.ts'
import type { Strand } from './strand.ts'

/** In the order in which they are served: what a step waits for, what ends a step, what nobody waits for. */
export const PRIORITIES = ['boundary', 'merge', 'checkpoint'] as const
export type Priority = (typeof PRIORITIES)[number]

/** What a link was found to do; null where it could not be told. */
export interface LinkSpeed {
  readonly rttMs: number
  readonly bytesPerSecond: number | null
}

interface Outgoing {
  readonly parcels: readonly Parcel[]
  /** The next of them. */
  at: number
  readonly bytes: number
  readonly resolve: () => void
  readonly reject: (error: SkeinError) => void
}

interface Queue {
  /** Was under way on a connection that broke. */
  readonly again: Parcel[]
  readonly frames: Outgoing[]
}

export class Link {
  readonly partner: string
  /** What both ends call it: an end that has lost its link names another one. */
  readonly own: string
  readonly theirs: string
  readonly #frame: (bytes: Uint8Array<ArrayBuffer>) => void
  readonly #strands = new Set<Strand>()
  readonly #reassembler = new Reassembler()
  readonly #queues: Record<Priority, Queue>
  /** By what was sent and is not acknowledged: where it goes when its connection breaks. */
  readonly #priorities = new WeakMap<Parcel, Priority>()
  #queuedBytes = 0
  #messageId = 0
  #closed = false

  /** @param frame takes whole frames, each in a buffer that nothing else uses */
  constructor(first: Strand, frame: (bytes: Uint8Array<ArrayBuffer>) => void) {
    this.partner = first.partner
    this.own = first.ownLink
    this.theirs = first.partnerLink
    this.#frame = frame
    const queue = (): Queue => ({ again: [], frames: [] })
    this.#queues = { boundary: queue(), merge: queue(), checkpoint: queue() }
    this.add(first)
  }

  get strands(): ReadonlySet<Strand> {
    return this.#strands
  }

  /** Whether this strand's ends mean this link by it. */
  holds({ ownLink, partnerLink }: Strand): boolean {
    return ownLink === this.own && partnerLink === this.theirs
  }

  /** The shortest round trip of late, in milliseconds; Infinity before there was one. */
  get rttMs(): number {
    return Math.min(...[...this.#strands].map((strand) => strand.rttMs))
  }

  /** Of all its connections together; null before the first round trip. */
  get speed(): LinkSpeed | null {
    const { rttMs } = this
    if (!Number.isFinite(rttMs)) return null
    const rates = [...this.#strands].flatMap(({ bytesPerMs }) => (bytesPerMs === null ? [] : [bytesPerMs]))
    return { rttMs, bytesPerSecond: rates.length === 0 ? null : 1000 * rates.reduce((sum, rate) => sum + rate, 0) }
  }

  get idleMs(): number {
    if (this.#queuedBytes > 0) return 0
    return Math.min(...[...this.#strands].map((strand) => strand.idleMs))
  }

  /** Connections through TURN that a direct one, which the other end is known to have too, has made needless. */
  get needless(): Strand[] {
    const strands = [...this.#strands]
    const direct = strands.some((strand) => strand.kind === 'direct' && strand.confirmed && !strand.shaky)
    return direct ? strands.filter(({ kind }) => kind === 'relayed') : []
  }

  /** Bytes of frames that have not come whole. */
  get heldBytes(): number {
    return this.#reassembler.heldBytes
  }

  add(strand: Strand): void {
    this.#strands.add(strand)
    this.pump()
  }

  /** What was under way on it goes over the others; the receiver drops what had arrived. Returns whether there are any. */
  remove(strand: Strand): boolean {
    this.#strands.delete(strand)
    for (const parcel of strand.takeUnderWay()) this.#queues[this.#priorities.get(parcel)!].again.push(parcel)
    this.pump()
    return this.#strands.size > 0
  }

  /**
   * Resolves when the last slice was handed to a connection. `bytes` must not change even then: a slice whose connection breaks
   * is cut out of them again.
   * @throws SkeinError `net.link_lost`, `net.frame_size`, `net.queue_full`
   */
  send(bytes: Uint8Array, priority: Priority): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(lost(this.partner))
      if (this.#queuedBytes + bytes.byteLength > MAX_QUEUED_BYTES) {
        fail('net.queue_full', `More waits for ${this.partner} than memory allows.`, 'Await each send before the next.')
      }
      this.#messageId = (this.#messageId + 1) >>> 0
      const parcels = cutFrame(this.#messageId, bytes)
      for (const parcel of parcels) this.#priorities.set(parcel, priority)
      this.#queues[priority].frames.push({ parcels, at: 0, bytes: bytes.byteLength, resolve, reject })
      this.#queuedBytes += bytes.byteLength
      this.pump()
    })
  }

  /** @throws SkeinError as {@link Reassembler.accept} */
  accept(slice: Uint8Array<ArrayBuffer>, now: number): void {
    const frame = this.#reassembler.accept(slice, now)
    if (frame) this.#frame(frame)
  }

  evictStale(now: number): void {
    this.#reassembler.evict(now)
  }

  /** Gives the connections what they have room for, the most urgent first, each slice where least is under way. */
  pump(): void {
    if (this.#closed) return
    for (let parcel = this.#next(); parcel; parcel = this.#next()) {
      const strand = this.#idlest()
      if (!strand) return
      this.#take(parcel)
      strand.send(parcel, this.#next() === undefined)
    }
  }

  /** All connections are gone, or are given up: fails what waits. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const strand of [...this.#strands]) strand.close()
    for (const priority of PRIORITIES) {
      for (const frame of this.#queues[priority].frames.splice(0)) frame.reject(lost(this.partner))
    }
    this.#queuedBytes = 0
  }

  /** Of those with room the one that has least under way: what is sent together is to arrive together. */
  #idlest(): Strand | null {
    let best: Strand | null = null
    for (const strand of this.#strands) {
      if (strand.room > 0 && (!best || strand.underWay < best.underWay)) best = strand
    }
    return best
  }

  #next(): Parcel | undefined {
    for (const priority of PRIORITIES) {
      const { again, frames } = this.#queues[priority]
      const next = again[0] ?? frames[0]?.parcels[frames[0].at]
      if (next) return next
    }
    return undefined
  }

  #take(parcel: Parcel): void {
    const { again, frames } = this.#queues[this.#priorities.get(parcel)!]
    if (again[0] === parcel) return void again.shift()
    const frame = frames[0]!
    frame.at += 1
    if (frame.at < frame.parcels.length) return
    frames.shift()
    this.#queuedBytes -= frame.bytes
    frame.resolve()
  }
}

export function lost(partner: string): SkeinError {
  return new SkeinError({
    code: 'net.link_lost',
    message: `The connection to ${partner} is gone.`,
    remedy: 'It is dialled again as soon as one of the two has something to say.',
  })
}
