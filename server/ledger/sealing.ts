/** Owns when an epoch ends: the clock it is measured by, and the rule, which is a pure function. */
import type { ClockUnit } from '../../src/protocol/ledger.ts'

/** What epochs are measured by: finalized blocks where a chain is configured, this machine's time elsewhere. */
export interface LedgerClock {
  readonly unit: ClockUnit
  /** Milliseconds since 1970, or the height of the last finalized block. It may wait for a node of the chain, and fail. */
  now(): Promise<number>
}

export const serverClock = (now: () => number = Date.now): LedgerClock => ({
  unit: 'ms',
  now: () => Promise.resolve(Math.floor(now())),
})

/**
 * Whether the clock has passed a multiple of `length` since `since`: epochs end at the same moments whenever the server was
 * started, and a clock set back ends none.
 */
export function epochOver(since: number, now: number, length: number): boolean {
  return Math.floor(now / length) > Math.floor(since / length)
}
