/** Owns when the way through the server is tried, after the others have not opened, and what came of it. */
import type { SkeinError } from '../protocol/errors.ts'
import { backoffMs } from './backoff.ts'
import { RELAY_AFTER_MS, RELAY_RETRY_FIRST_MS, RELAY_RETRY_LONGEST_MS } from './limits.ts'

interface Attempts {
  failures: number
  nextAt: number
  error: SkeinError | null
}

export class Relaying {
  readonly #attempts = new Map<string, Attempts>()

  /** `openingSince`: since when another connection to this node has been opening in vain; both ends see that alike. */
  isDue(partner: string, openingSince: number, now: number): boolean {
    return now - openingSince >= RELAY_AFTER_MS && now >= (this.#attempts.get(partner)?.nextAt ?? 0)
  }

  succeeded(partner: string): void {
    this.#attempts.delete(partner)
  }

  failed(partner: string, error: SkeinError | null, now: number): void {
    const failures = (this.#attempts.get(partner)?.failures ?? 0) + 1
    const pause = backoffMs(failures, RELAY_RETRY_FIRST_MS, RELAY_RETRY_LONGEST_MS)
    this.#attempts.set(partner, { failures, nextAt: now + pause, error })
  }

  /** Why the server would not pass on what is for this node. */
  errorOf(partner: string): SkeinError | null {
    return this.#attempts.get(partner)?.error ?? null
  }

  forget(): void {
    this.#attempts.clear()
  }
}
