/** Owns when a link that takes a longer way than it might looks for a shorter one: soon, and then ever less often. */
import type { LinkKind } from '../protocol/control.ts'
import { backoffMs } from './backoff.ts'
import { DIRECT_AFTER_MS, DIRECT_RETRY_FIRST_MS, DIRECT_RETRY_LONGEST_MS, SHORTER_WAY_MS } from './limits.ts'

/** A way that may be a longer one than need be. */
type LongWay = Extract<LinkKind, 'relayed' | 'server'>

interface Search {
  readonly way: LongWay
  tries: number
  nextAt: number
}

/**
 * ICE takes what answers first, which may be TURN where the ends could speak directly. A way through the server is sought
 * instead of for as long as there is none, since it costs the server; TURN may well be the best there is.
 */
export class ShorterWays {
  readonly #searches = new Map<string, Search>()

  /** `way`: the shortest that a link has now; a wait begins when it is first asked for. */
  isDue(partner: string, way: LinkKind, now: number): boolean {
    if (way !== 'relayed' && way !== 'server') {
      this.forget(partner)
      return false
    }
    const search = this.#searches.get(partner)
    if (search?.way === way) return now >= search.nextAt
    const nextAt = now + (way === 'server' ? SHORTER_WAY_MS : DIRECT_AFTER_MS)
    this.#searches.set(partner, { way, tries: 0, nextAt })
    return false
  }

  /** A way is being tried. */
  tried(partner: string, now: number): void {
    const search = this.#searches.get(partner)
    if (!search) return
    search.tries += 1
    search.nextAt =
      now +
      (search.way === 'server'
        ? SHORTER_WAY_MS
        : backoffMs(search.tries, DIRECT_RETRY_FIRST_MS, DIRECT_RETRY_LONGEST_MS))
  }

  forget(partner: string): void {
    this.#searches.delete(partner)
  }
}
