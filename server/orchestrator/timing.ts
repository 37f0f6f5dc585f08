/** Owns how long the orchestrator waits for what: no barrier is without a deadline. */

/** All times are milliseconds of the caller's clock; the core has none. */
export interface Timing {
  /** Silence after which a node is suspect: its leases move to others. */
  suspectMs: number
  /** Silence after which a node is taken for gone. */
  evictMs: number
  /** Time that a node whose socket closed has to come back before it is suspect. */
  resumeMs: number
  /** Longest wait for missing replicas while every stage has at least one. */
  formationMs: number
  /** Longest time without progress for a node that loads weights or compiles. */
  prepareMs: number
  /** Longest time without any progress within a step. */
  stallMs: number
  /** A node on which others wait is too slow when it is later than its stage by this time at least. */
  stragglerMs: number
  /** How long one owner of a shard waits for the other before it goes on alone. */
  laggardMs: number
  /** How long two nodes may fail to reach each other, with work waiting on it, until one of them loses its leases. */
  linkMs: number
  /** Longest time for the shards of a checkpoint to be uploaded and read back. */
  saveMs: number
  /** How long a node that failed is passed over while others are there. */
  failurePenaltyMs: number
  /** Pause after a generation failed, doubled with each further failure in a row, up to 60 times this. */
  retryMs: number
  /** How long a run waits for its nodes to come back after the server was started again. */
  recoveryMs: number
  /** How long a stage's merge waits for audits of its claims after its last lease was finished; 0: no claim is audited. */
  auditMs: number
  /** Round trip that lanes have to save for two of their links to be given up for others; Infinity: nobody looks. */
  nearerMs: number
}

/** Where claims are audited at all. */
export const AUDIT_MS = 3000

export const DEFAULT_TIMING: Timing = {
  suspectMs: 6000,
  evictMs: 20_000,
  resumeMs: 700,
  formationMs: 5000,
  prepareMs: 90_000,
  stallMs: 120_000,
  stragglerMs: 10_000,
  laggardMs: 5000,
  linkMs: 15_000,
  saveMs: 600_000,
  failurePenaltyMs: 10_000,
  retryMs: 500,
  recoveryMs: 15_000,
  auditMs: 0,
  nearerMs: 10,
}

/** How long silence may last where nodes beat every `heartbeatMs`: never less than three beats until suspect, ten until gone. */
export function silenceTiming(heartbeatMs: number): Pick<Timing, 'suspectMs' | 'evictMs'> {
  return {
    suspectMs: Math.max(DEFAULT_TIMING.suspectMs, 3 * heartbeatMs),
    evictMs: Math.max(DEFAULT_TIMING.evictMs, 10 * heartbeatMs),
  }
}
