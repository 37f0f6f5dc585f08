/** Owns how many bytes may pass: so many a second, with a second's worth at once, and so many a day. */

const DAY_MS = 24 * 60 * 60 * 1000

export interface AllowanceLimits {
  bytesPerSecond: number
  bytesPerDay: number
}

/** Takes the time, in milliseconds of any monotonic clock. */
export class Allowance {
  readonly #limits: AllowanceLimits
  /** May be negative: what passed ahead of its time. */
  #ready: number
  #readyAt: number
  #today = 0
  #daySince: number

  constructor(limits: AllowanceLimits, now: number) {
    this.#limits = limits
    this.#ready = limits.bytesPerSecond
    this.#readyAt = this.#daySince = now
  }

  /** Whether the day's bytes are used up. */
  isSpent(now: number): boolean {
    if (now - this.#daySince >= DAY_MS) {
      this.#daySince = now
      this.#today = 0
    }
    return this.#today >= this.#limits.bytesPerDay
  }

  /** Counts what passes; returns for how many milliseconds nothing more should. */
  take(bytes: number, now: number): number {
    const { bytesPerSecond } = this.#limits
    this.#ready = Math.min(bytesPerSecond, this.#ready + ((now - this.#readyAt) / 1000) * bytesPerSecond) - bytes
    this.#readyAt = now
    this.#today += bytes
    return this.#ready < 0 ? (-this.#ready / bytesPerSecond) * 1000 : 0
  }
}
