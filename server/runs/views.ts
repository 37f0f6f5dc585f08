/** Owns how the live state and the store's records become what the API shows. */
import { parameterCount, runLayouts } from '../../src/model/layout.ts'
import { estimateStageMemory } from '../../src/model/memory.ts'
import type { FleetView, NodeView, RunDetail, RunSummary } from '../../src/protocol/api.ts'
import { costOf } from '../../src/protocol/payment.ts'
import { PROTOCOL_VERSION } from '../../src/protocol/version.ts'
import type { CheckpointRecord, RunRecord } from '../db/store.ts'
import type { FleetNode, OrchestratorState, Run } from '../orchestrator/types.ts'
import type { Refunds } from './budgets.ts'
import type { RunStats } from './runStats.ts'

export function nodeView(node: FleetNode, state: OrchestratorState, now: number): NodeView {
  const run = node.runId === null ? undefined : state.runs.get(node.runId)
  const { id: nodeId, kind, adapter, phase, progress, stats, runId, stage, suspect } = node
  const replica = run?.members[stage]?.indexOf(nodeId) ?? -1
  const progressOfStage = run?.round?.stages[stage]
  return {
    nodeId,
    kind,
    adapter,
    phase,
    progress,
    stats,
    silentMs: now - node.lastHeard,
    runId,
    stage: replica < 0 ? null : stage,
    replica: replica < 0 ? null : replica,
    standby: progressOfStage !== undefined && !progressOfStage.work.has(nodeId),
    suspect,
  }
}

export function fleetView(state: OrchestratorState, version: string): FleetView {
  const nodes = [...state.nodes.values()]
  const working = nodes.filter((node) => node.runId !== null).length
  const standby = nodes.filter((node) => node.runId === null && !node.paused).length
  return { protocol: PROTOCOL_VERSION, version, nodes: nodes.length, working, standby, runsActive: state.runs.size }
}

/** @param credit all that was earned in the run; null while that cannot be told */
export function summaryView(
  record: RunRecord,
  stats: RunStats,
  credit: bigint | null,
  addressOf: (wallet: string) => string | null,
  refunds: Refunds,
): RunSummary {
  const {
    id,
    name,
    state,
    detail,
    datasetId,
    config,
    step,
    valLoss,
    rollbacks,
    recovered,
    payment,
    createdAt,
    startedAt,
    finishedAt,
  } = record
  return {
    id,
    name,
    state,
    detail,
    datasetId,
    config,
    parameters: parameterCount(runLayouts(config)),
    step,
    loss: stats.lastLoss(id),
    valLoss,
    tokensPerSecond: stats.tokensPerSecond(id),
    boundaryBytesPerToken: record.boundaryBytesPerToken ?? stats.boundaryBytesPerToken(id),
    rollbacks,
    recovered,
    payment: payment && {
      ...payment,
      deposit: payment.deposit && { ...payment.deposit, address: addressOf(payment.deposit.wallet), refunds },
      spent: credit === null ? null : String(costOf(credit, BigInt(payment.planckPerPflop))),
    },
    createdAt,
    startedAt,
    finishedAt,
  }
}

export function detailView(
  summary: RunSummary,
  state: OrchestratorState,
  generation: number,
  checkpoints: readonly CheckpointRecord[],
  story: Pick<RunDetail, 'events' | 'olderEvents'>,
  now: number,
): RunDetail {
  const { config } = summary
  const grid = seats(state.runs.get(summary.id), state, config.stages, config.replicas)
  const seated = new Set(grid.flat())
  const nodes = [...state.nodes.values()].filter((node) => seated.has(node.id))
  return {
    ...summary,
    generation,
    grid,
    nodes: nodes.map((node) => nodeView(node, state, now)),
    stageMemoryBytes: grid.map((_, stage) => estimateStageMemory(config, stage).total),
    checkpoints: checkpoints.map(({ step, bytes, createdAt }) => ({ step, bytes, createdAt })),
    ...story,
    error: summary.state === 'failed' ? { code: 'run.failed', message: summary.detail, remedy: FAILED_REMEDY } : null,
  }
}

const FAILED_REMEDY = 'The event log says what came before; launch the run again once that is mended.'

/** While a run waits, those that are back are shown at their own stage, so that the empty places stand out. */
function seats(run: Run | undefined, state: OrchestratorState, stages: number, replicas: number): (string | null)[][] {
  const ids: string[][] = Array.from({ length: stages }, (_, stage) => [...(run?.members[stage] ?? [])])
  if (run && run.members.length === 0)
    for (const node of state.nodes.values()) {
      const stage = run.reservations.get(node.deviceId)
      if (stage !== undefined && node.runId === null) ids[stage]?.push(node.id)
    }
  return ids.map((held) => [...held, ...Array<null>(Math.max(0, replicas - held.length)).fill(null)])
}
