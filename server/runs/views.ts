/** Owns how the live state and the store's records become what the API shows. */
import { parameterCount, stageLayouts } from '../../src/model/layout.ts'
import { estimateStageMemory } from '../../src/model/memory.ts'
import type { FleetView, NodeView, RunDetail, RunEvent, RunSummary } from '../../src/protocol/api.ts'
import { PROTOCOL_VERSION } from '../../src/protocol/version.ts'
import type { CheckpointRecord, RunRecord } from '../db/store.ts'
import type { FleetNode, OrchestratorState, Run } from '../orchestrator/types.ts'
import type { RunStats } from './runStats.ts'

export function nodeView(node: FleetNode, state: OrchestratorState, now: number): NodeView {
  const members = node.runId ? (state.runs.get(node.runId)?.members ?? []) : []
  const stage = members.findIndex((ids) => ids.includes(node.id))
  const { id: nodeId, kind, adapter, phase, progress, stats, runId } = node
  return {
    nodeId,
    kind,
    adapter,
    phase,
    progress,
    stats,
    silentMs: now - node.lastHeard,
    runId,
    stage: stage < 0 ? null : stage,
    replica: stage < 0 ? null : members[stage]!.indexOf(nodeId),
  }
}

export function fleetView(state: OrchestratorState, version: string): FleetView {
  const nodes = [...state.nodes.values()]
  const working = nodes.filter((node) => node.runId !== null).length
  const standby = nodes.filter((node) => node.runId === null && !node.paused).length
  return { protocol: PROTOCOL_VERSION, version, nodes: nodes.length, working, standby, runsActive: state.runs.size }
}

export function summaryView(record: RunRecord, stats: RunStats): RunSummary {
  const { id, name, state, detail, datasetId, config, step, valLoss, rollbacks, createdAt, startedAt, finishedAt } =
    record
  return {
    id,
    name,
    state,
    detail,
    datasetId,
    config,
    parameters: parameterCount(stageLayouts(config.model, config.stages)),
    step,
    loss: stats.lastLoss(id),
    valLoss,
    tokensPerSecond: stats.tokensPerSecond(id),
    boundaryBytesPerToken: record.boundaryBytesPerToken ?? stats.boundaryBytesPerToken(id),
    rollbacks,
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
  events: RunEvent[],
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
    events,
    error: summary.state === 'failed' ? { code: 'run.failed', message: summary.detail, remedy: FAILED_REMEDY } : null,
  }
}

const FAILED_REMEDY = 'The event log says what came before; launch the run again once that is mended.'

/** While a run waits, survivors are shown where they sat, so that the empty places stand out. */
function seats(run: Run | undefined, state: OrchestratorState, stages: number, replicas: number): (string | null)[][] {
  const grid: (string | null)[][] = Array.from({ length: stages }, () => Array<string | null>(replicas).fill(null))
  if (!run) return grid
  if (run.members.length > 0) run.members.forEach((ids, stage) => ids.forEach((id, r) => (grid[stage]![r] = id)))
  else
    for (const [id, stage] of run.lastSeats) {
      const free = grid[stage]?.indexOf(null) ?? -1
      if (free >= 0 && state.nodes.has(id)) grid[stage]![free] = id
    }
  return grid
}
