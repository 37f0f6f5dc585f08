/** Owns what the audit desk is told of the live runs and may do in them. */
import type { AuditedRuns } from '../audits/desk/port.ts'
import { claimedRun } from '../orchestrator/claims.ts'
import { affords } from '../orchestrator/purse.ts'
import { inputHolder, isHeard, outputTakers } from '../orchestrator/whereabouts.ts'
import type { OrchestratorState } from '../orchestrator/types.ts'
import type { DistributedEvent } from './coordinator.ts'

/** @param dispatch feeds the orchestrator and carries out what it decides */
export function auditedRuns(
  state: OrchestratorState,
  dispatch: (event: DistributedEvent) => void,
  send: AuditedRuns['send'],
): AuditedRuns {
  return {
    send,
    configOf: (runId) => state.runs.get(runId)?.config ?? null,
    isCurrent: (runId, generation) => state.runs.get(runId)?.generation === generation,
    classOf(nodeId, runId) {
      const node = state.nodes.get(nodeId)
      const run = state.runs.get(runId)
      if (!run || node?.runId !== runId) return null
      const { vendor, architecture } = node.adapter
      return { vendor, architecture, products: run.config.products }
    },
    isHere: (nodeId, runId) => isHeard(state, runId, nodeId),
    isUnderWay: (claim) => claimedRun(state, claim) !== null,
    takersOf: (claim, drawn) => outputTakers(state, claim, drawn),
    holderOf: (claim, microbatch, direction) => inputHolder(state, claim, microbatch, direction),
    creditAudit(runId, credit) {
      const run = state.runs.get(runId)
      // What is left of a run that has ended may have been sent back.
      if (!run || !affords(run, credit)) return false
      dispatch({ type: 'auditCredited', runId, credit })
      return true
    },
    claimSettled: (place, receipt) => dispatch({ type: 'claimSettled', ...place, receipt }),
    convicted: (place, device, error) => dispatch({ type: 'convicted', ...place, device, error }),
    redo: (place, device) => dispatch({ type: 'redo', ...place, device }),
  }
}
