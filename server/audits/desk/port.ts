/** Owns what the audit desk asks of the live system; the coordinator implements it. */
import type { DeviceClass } from '../../../src/audit/tolerances.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import type { ErrorBody } from '../../../src/protocol/errors.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { ClaimPlace } from '../../orchestrator/types.ts'

export interface AuditedRuns {
  /** Null once the run has ended. */
  configOf(runId: string): RunConfig | null
  /** Whether the run is still in this generation: nodes forget what they did in another. */
  isCurrent(runId: string, generation: number): boolean
  /** What decides how a node of this run rounds; null when it is not here. */
  classOf(nodeId: string, runId: string): DeviceClass | null
  send(nodeId: string, message: ServerMessage): void
  /** Books credit for a recomputation; false where the run's budget does not reach for it beside its step. */
  creditAudit(runId: string, credit: bigint): boolean
  /** Nothing waits for this claim any more. */
  claimSettled(place: ClaimPlace, receipt: string): void
  convicted(place: ClaimPlace, device: string, error: ErrorBody): void
  redo(place: ClaimPlace, device: string): void
}
