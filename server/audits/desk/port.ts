/** Owns what the audit desk asks of the live system; the coordinator implements it. */
import type { DeviceClass } from '../../../src/audit/tolerances.ts'
import type { ExhibitKind } from '../../../src/protocol/audit.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import type { ErrorBody } from '../../../src/protocol/errors.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { ClaimPlace, WorkClaim } from '../../orchestrator/types.ts'
import type { Drawn } from './exhibits.ts'

export interface Taker {
  readonly kind: ExhibitKind
  readonly nodeId: string
}

export interface AuditedRuns {
  /** Null once the run has ended. */
  configOf(runId: string): RunConfig | null
  /** Whether the run is still in this generation: nodes forget what they did in another. */
  isCurrent(runId: string, generation: number): boolean
  /** What decides how a node of this run rounds; null when it is not here. */
  classOf(nodeId: string, runId: string): DeviceClass | null
  /** Whether the node is in the run, and heard. */
  isHere(nodeId: string, runId: string): boolean
  /** Whether the step goes on that the claim is of: nodes forget what they did in another. */
  isUnderWay(claim: WorkClaim): boolean
  /** Who is here and was given what the claimant made: who took it first, for each kind. */
  takersOf(claim: WorkClaim, drawn: Pick<Drawn, 'microbatch' | 'shard'>): Taker[]
  /** Who can give an input of the claim; null where nobody is here that has it and is to be believed. */
  holderOf(claim: WorkClaim, microbatch: number, direction: 'activation' | 'gradient'): string | null
  send(nodeId: string, message: ServerMessage): void
  /** Books credit for a recomputation; false where the run's budget does not reach for it beside its step. */
  creditAudit(runId: string, credit: bigint): boolean
  /** Nothing waits for this claim any more. */
  claimSettled(place: ClaimPlace, receipt: string): void
  convicted(place: ClaimPlace, device: string, error: ErrorBody): void
  redo(place: ClaimPlace, device: string): void
}
