/** Owns how often devices are audited, what audits pay, and what a conviction costs. */
import type { Standing } from './types.ts'

export interface AuditPolicy {
  /** Of a newcomer's receipts, the share that is audited. */
  readonly newRate: number
  /** What that falls to with record. */
  readonly settledRate: number
  /** Audits passed that halve the rate. */
  readonly halving: number
  /** Of the merges of a shard: they cost no product of matrices. */
  readonly mergeRate: number
  /** Receipts in a row that are audited for sure after something odd. */
  readonly watch: number
  /** Percent of the model FLOPs of a recomputation that its juror is credited. */
  readonly creditPercent: bigint
  /** Of the first conviction; each further one shuts out `shutGrowth` times longer, to `longestShutMs` at most. */
  readonly shutMs: number
  readonly shutGrowth: number
  readonly longestShutMs: number
  /** Longest wait for an answer. */
  readonly answerMs: number
  /** Shorter than a merge waits for audits: after so long another juror is asked beside one that is silent. */
  readonly patienceMs: number
  /** Jurors of one claim that another is asked beside for being silent, at most. */
  readonly mostLate: number
  /** Recomputations of one claim, at most. */
  readonly mostJurors: number
  /** Audits for which a device may fail to show what it signed for, and so many passed for each further one. */
  readonly mostUnshown: number
  readonly passedPerUnshown: number
  /** Standard deviations of the logarithm of a norm, and of the attributed loss, that are odd. */
  readonly oddNorm: number
  readonly oddLoss: number
  /** Digests of a stage that a new claim is held against. */
  readonly digestMemory: number
}

const HOUR = 3_600_000

export const DEFAULT_POLICY: AuditPolicy = {
  newRate: 0.25,
  settledRate: 0.04,
  halving: 6,
  mergeRate: 0.1,
  watch: 4,
  creditPercent: 100n,
  shutMs: 24 * HOUR,
  shutGrowth: 4,
  longestShutMs: 90 * 24 * HOUR,
  answerMs: 60_000,
  patienceMs: 1000,
  mostLate: 2,
  mostJurors: 5,
  mostUnshown: 2,
  passedPerUnshown: 16,
  oddNorm: 6,
  oddLoss: 4,
  digestMemory: 4096,
}

/** The share of a device's receipts that is audited. Whoever was convicted once never gets below the newcomer's rate. */
export function auditRate(policy: AuditPolicy, { passed, convictions, watched }: Standing): number {
  if (watched > 0) return 1
  if (convictions > 0) return policy.newRate
  return Math.max(policy.settledRate, policy.newRate * 0.5 ** (passed / policy.halving))
}

/** Milliseconds that the `nth` conviction (from 1) shuts a device out for. */
export function shutOutMs({ shutMs, shutGrowth, longestShutMs }: AuditPolicy, nth: number): number {
  return Math.min(longestShutMs, shutMs * shutGrowth ** (nth - 1))
}

export function freshStanding(): Standing {
  return { passed: 0, convictions: 0, shutUntil: 0, watched: 0, unshown: 0, cleared: new Map() }
}
