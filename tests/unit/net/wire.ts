/** Owns connections between two ends under a virtual clock: ordered, slow, and breaking when a test says so. */
import type { Channel, ChannelEvents } from '../../../src/net/channel.ts'

type Data = string | Uint8Array<ArrayBuffer>

export class Timeline {
  now = 0
  /** A binary heap, the earliest first; of one time the one that was added first. */
  readonly #heap: { at: number; order: number; run: () => void }[] = []
  #order = 0

  at(when: number, run: () => void): void {
    this.#heap.push({ at: when, order: this.#order++, run })
    for (let i = this.#heap.length - 1; i > 0;) {
      const parent = (i - 1) >> 1
      if (!this.#before(i, parent)) break
      this.#swap(i, parent)
      i = parent
    }
  }

  /** Runs what is due, in order, until nothing is left or `until` has come. */
  run(until = Infinity): void {
    while (this.#heap.length > 0 && this.#heap[0]!.at <= until) {
      const { at, run } = this.#heap[0]!
      const last = this.#heap.pop()!
      if (this.#heap.length > 0) {
        this.#heap[0] = last
        this.#sink()
      }
      this.now = Math.max(this.now, at)
      run()
    }
    if (Number.isFinite(until)) this.now = until
  }

  #sink(): void {
    for (let i = 0; ;) {
      const [left, right] = [2 * i + 1, 2 * i + 2]
      let first = i
      if (left < this.#heap.length && this.#before(left, first)) first = left
      if (right < this.#heap.length && this.#before(right, first)) first = right
      if (first === i) return
      this.#swap(i, first)
      i = first
    }
  }

  #before(i: number, j: number): boolean {
    const [a, b] = [this.#heap[i]!, this.#heap[j]!]
    return a.at < b.at || (a.at === b.at && a.order < b.order)
  }

  #swap(i: number, j: number): void {
    ;[this.#heap[i], this.#heap[j]] = [this.#heap[j]!, this.#heap[i]!]
  }
}

/** One direction that several connections may share. */
export class Line {
  readonly bytesPerMs: number
  readonly delayMs: number
  #free = 0
  /** The longest that a byte waited for the line, in milliseconds, since it was last set. */
  longestWaitMs = 0
  bytes = 0

  constructor(bytesPerMs: number, delayMs: number) {
    this.bytesPerMs = bytesPerMs
    this.delayMs = delayMs
  }

  arrival(now: number, bytes: number): number {
    const start = Math.max(now, this.#free)
    this.longestWaitMs = Math.max(this.longestWaitMs, start - now)
    this.#free = start + bytes / this.bytesPerMs
    this.bytes += bytes
    return this.#free + this.delayMs
  }
}

const sizeOf = (data: Data) => (typeof data === 'string' ? data.length : data.byteLength)

/** A connection of two ends, each of which is given its channel by `end`. */
export class Wire {
  readonly #time: Timeline
  readonly #lines: readonly [Line, Line]
  readonly #events: (ChannelEvents | null)[] = [null, null]
  #broken = false

  /** `lines[0]` leads from the first end to the second. */
  constructor(time: Timeline, lines: readonly [Line, Line]) {
    this.#time = time
    this.#lines = lines
  }

  end(which: 0 | 1): (events: ChannelEvents) => Channel {
    return (events) => {
      this.#events[which] = events
      return { send: (data) => this.#send(which, data), close: () => this.break() }
    }
  }

  open(): void {
    for (const events of this.#events) events?.open()
  }

  /** What is under way is lost; both ends hear of it, the second a while later. */
  break(): void {
    if (this.#broken) return
    this.#broken = true
    this.#time.at(this.#time.now, () => this.#events[0]?.closed())
    this.#time.at(this.#time.now + 30, () => this.#events[1]?.closed())
  }

  #send(from: 0 | 1, data: Data): void {
    if (this.#broken) return
    const arrival = this.#lines[from].arrival(this.#time.now, sizeOf(data))
    this.#time.at(arrival, () => {
      if (this.#broken) return
      this.#events[1 - from]?.message(typeof data === 'string' ? data : data.slice().buffer)
    })
  }
}
