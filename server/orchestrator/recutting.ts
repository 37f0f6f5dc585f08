/** Owns a run's change to another cut of its layers, at a checkpoint: decided before it is made, carried out once it is kept. */
import { codeWidthOf } from '../../src/codec/boundary.ts'
import { layerCosts, stageBytes } from '../../src/model/partition.ts'
import { runPartition } from '../../src/model/layout.ts'
import { stepMicrobatches } from '../../src/protocol/lanes.ts'
import { breakGeneration } from './generations.ts'
import { rebalance } from './rebalance.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** What a restart takes where none of this run was seen yet. */
const USUAL_RESTART_MS = 20_000

/** At the commit of a step that is saved: stops there if another cut would pay. */
export function recutWhenPays(state: OrchestratorState, run: Run, stepMs: number, commands: Commands): void {
  const { config, saving } = run
  if (!saving || saving.step !== run.step || run.recut || config.stages < 2) return
  // What a learned boundary passes on is trained for the place it has; elsewhere it would be another model.
  if (codeWidthOf(config) !== null) return
  // While a stage lacks somebody its times say nothing of what they will be.
  const whole = run.members.every(
    (ids) => ids.length >= config.replicas && ids.every((id) => state.nodes.get(id)?.suspect === false),
  )
  if (!whole) return
  const leasing = run.members.map((ids) => ids.flatMap((id) => state.nodes.get(id) ?? []).filter(isLeasing))
  if (leasing.some((nodes) => nodes.length === 0)) return
  const found = rebalance({
    partition: runPartition(config),
    costs: layerCosts(config.model),
    busyMs: leasing.map((nodes) => nodes.map(({ busyMs }) => busyMs)),
    memory: leasing.map((nodes) => Math.min(...nodes.map(({ memoryBytes }) => memoryBytes))),
    bytes: stageBytes(config),
    microbatches: stepMicrobatches(config),
    stepMs,
    stepsLeft: config.steps - run.step,
    restartMs: run.restartMs ?? USUAL_RESTART_MS,
  })
  if (!found) return
  run.recut = found.partition
  run.detail = `Layers move between stages at this checkpoint: ${found.partition.join(', ')} from now on.`
  const seconds = (found.savedMs / 1000).toFixed(1)
  const text = `The stages take ${runPartition(config).join(', ')} layers and are out of balance; ${found.partition.join(', ')} saves ${seconds} s a step.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  commands.push({ type: 'runChanged', runId: run.id })
}

const isLeasing = (node: FleetNode) => node.ready !== null && !node.suspect

/** The checkpoint that the run stopped at is kept: now it is cut anew. @returns false when nothing of the kind is due */
export function recutWhenSaved(run: Run, commands: Commands): boolean {
  if (!run.recut || run.step !== run.checkpoint.step) return false
  commands.push({ type: 'recutCheckpoint', runId: run.id, step: run.step, partition: run.recut })
  return true
}

export function onCheckpointRecut(
  state: OrchestratorState,
  event: { runId: string; config: Run['config']; stageBytes: readonly number[]; checkpoint: Run['checkpoint'] },
  now: number,
  commands: Commands,
): void {
  const run = state.runs.get(event.runId)
  if (!run || run.checkpoint.step !== event.checkpoint.step) return
  run.recut = null
  run.config = event.config
  run.stageBytes = event.stageBytes
  run.checkpoint = event.checkpoint
  breakGeneration(state, run, 'The layers are cut anew; volunteers load their new stages.', now, commands)
}

/** Goes on with the cut there is: no other could be made. */
export function giveUpRecut(run: Run, reason: string, commands: Commands): void {
  run.recut = null
  run.detail = ''
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: `The layers stay as they are: ${reason}` })
  commands.push({ type: 'runChanged', runId: run.id })
}
