/**
 * Owns how many bytes may be under way on one connection: enough to fill the line, few enough that no queue grows on it.
 *
 * After BBR (Cardwell et al., “BBR: Congestion-Based Congestion Control”, ACM Queue 14(5), 2016), above SCTP instead of below:
 * the product of the largest delivery rate and the shortest round trip of late is what the line holds. SCTP alone fills
 * the line's queue until it overflows, and then halves.
 */
import { FIRST_WINDOW_BYTES, LARGEST_WINDOW_BYTES, LEAST_WINDOW_BYTES } from './limits.ts'

/** What is kept of a slice until it is acknowledged. */
export interface Sent {
  readonly bytes: number
  readonly at: number
  /** Acknowledged bytes of the connection when it was sent, and when the last of them were. */
  readonly delivered: number
  readonly deliveredAt: number
  /** Nothing more waited: what came of it says nothing about the line. */
  readonly last: boolean
  /** Met no queue of ours. */
  readonly probe: boolean
}

/** Milliseconds over which the largest rate counts. */
const RATE_SPAN_MS = 2_000
/**
 * Our own queue may hide that the way has become longer or shorter. So every so often, by the clock and thus on all connections
 * at once, part of the window is left empty for a moment, at least so long, and the round trips of then are believed.
 */
const PROBE_EVERY_MS = 10_000
const PROBE_MS = 300
const PROBE_ROUNDS = 3
const PROBE_SHARE = 0.5
/** While the rate still grows: the window is what the connection could deliver if it were twice as fast. */
const STARTING_GAIN = 2
/** Later: a quarter more, so that a line that has become faster is found. */
const STEADY_GAIN = 1.25
/** The start ends when the rate has not grown by a quarter in so many round trips, or a queue has. */
const PLATEAU_ROUNDS = 3
/** A queue is a round trip longer than the shortest by a quarter and so many milliseconds, for so many slices in a row. */
const QUEUE_MS = 10
const QUEUED_SLICES = 12

export class Pace {
  #underWay = 0
  #delivered = 0
  #deliveredAt = 0
  #shortest = Infinity
  /** Of the slices that met no queue of ours. */
  #probed = Infinity
  /** Largest rates, in bytes a millisecond, of the span under way and of the one before. */
  #rate = 0
  #rateBefore = 0
  #spanSince = -Infinity
  #starting = true
  #roundEnd = 0
  #plateauRate = 0
  #plateauRounds = 0
  #queued = 0

  get underWay(): number {
    return this.#underWay
  }

  /** The shortest round trip of late in milliseconds; Infinity before the first. */
  get rttMs(): number {
    return this.#shortest
  }

  /** What the line was found to carry, in bytes a millisecond; null while it may carry more. */
  get bytesPerMs(): number | null {
    return this.#starting ? null : this.#bandwidth
  }

  /** Bytes that may be put under way now; not above 0 when there is no room. */
  room(now: number): number {
    const held = this.#bandwidth * this.#shortest
    if (!Number.isFinite(held)) return FIRST_WINDOW_BYTES - this.#underWay
    if (this.#intoProbe(now) !== null) return Math.max(LEAST_WINDOW_BYTES, PROBE_SHARE * held) - this.#underWay
    const gain = this.#starting ? STARTING_GAIN : STEADY_GAIN
    // What has come counts until it is acknowledged, several slices at a time.
    const window = Math.max(this.#starting ? FIRST_WINDOW_BYTES : 0, gain * held + LEAST_WINDOW_BYTES)
    return Math.min(LARGEST_WINDOW_BYTES, window) - this.#underWay
  }

  /** `last`: nothing more waits to be sent. */
  send(bytes: number, last: boolean, now: number): Sent {
    // After silence the time since the last delivery is no measure.
    if (this.#underWay === 0) this.#deliveredAt = now
    this.#underWay += bytes
    const into = this.#intoProbe(now)
    const probe = into !== null && into >= this.#shortest
    return { bytes, at: now, delivered: this.#delivered, deliveredAt: this.#deliveredAt, last, probe }
  }

  acknowledge(sent: Sent, now: number): void {
    this.#underWay -= sent.bytes
    this.#delivered += sent.bytes
    this.#deliveredAt = now
    const rtt = Math.max(now - sent.at, 0.05)
    this.#hearRtt(rtt, sent.probe)
    const rate = (this.#delivered - sent.delivered) / Math.max(now - sent.deliveredAt, rtt)
    this.#hearRate(rate, sent.last, now)
    if (this.#starting) this.#endStart(sent, rtt)
  }

  get #bandwidth(): number {
    return Math.max(this.#rate, this.#rateBefore)
  }

  /** Milliseconds since the probe under way began; null while there is none. */
  #intoProbe(now: number): number | null {
    const into = now % PROBE_EVERY_MS
    return into < Math.max(PROBE_MS, PROBE_ROUNDS * this.#shortest) && Number.isFinite(this.#shortest) ? into : null
  }

  #hearRtt(rtt: number, probe: boolean): void {
    if (probe) this.#probed = Math.min(this.#probed, rtt)
    else if (Number.isFinite(this.#probed)) {
      this.#shortest = this.#probed
      this.#probed = Infinity
    }
    this.#shortest = Math.min(this.#shortest, rtt)
  }

  #hearRate(rate: number, last: boolean, now: number): void {
    if (last && rate < this.#bandwidth) return
    if (now - this.#spanSince > Math.max(RATE_SPAN_MS, 10 * this.#shortest)) {
      this.#rateBefore = this.#rate
      this.#rate = 0
      this.#spanSince = now
    }
    this.#rate = Math.max(this.#rate, rate)
  }

  #endStart(sent: Sent, rtt: number): void {
    this.#queued = rtt > 1.25 * this.#shortest + QUEUE_MS ? this.#queued + 1 : 0
    if (sent.delivered >= this.#roundEnd && !sent.last) {
      this.#roundEnd = this.#delivered
      const grew = this.#bandwidth > 1.25 * this.#plateauRate
      if (grew) this.#plateauRate = this.#bandwidth
      this.#plateauRounds = grew ? 0 : this.#plateauRounds + 1
    }
    if (this.#plateauRounds >= PLATEAU_ROUNDS || this.#queued >= QUEUED_SLICES) this.#starting = false
  }
}
