/** Owns what becomes of a run when somebody in it leaves, fails, falls silent or is too slow: it is done without. */
import { saveWithout } from './checkpoints.ts'
import { goOn } from './commit.ts'
import { breakGeneration, failGeneration } from './generations.ts'
import { moveLeases } from './leases.ts'
import { doWithout } from './losses.ts'
import { synced } from './owners.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, RecoveryCause, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/**
 * Takes a node out of its run for good: what it held goes to others.
 * @returns false when the generation ended with it
 */
export function dismiss(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  cause: RecoveryCause,
  why: string,
  now: number,
  commands: Commands,
): boolean {
  const { stage, id } = node
  run.members[stage] = run.members[stage]!.filter((other) => other !== id)
  for (const holders of run.holders[stage]!) holders.delete(id)
  node.runId = null
  node.stage = -1
  const wasReady = node.ready !== null
  node.ready = null
  const before = run.recovered
  const text = `A volunteer of stage ${stage + 1} is gone: ${why}.`
  // Who leaves is nobody's fault; what fails may fail for ever, and is tried again after a pause that grows.
  const endGeneration = cause === 'failed' ? failGeneration : breakGeneration
  saveWithout(run, id, now, commands)
  if (!restorable(run, stage, state)) {
    endGeneration(state, run, `${text} It was the last one there.`, now, commands)
    return false
  }
  if (!doWithout(state, run, stage, id, cause, now, commands)) {
    endGeneration(state, run, `${text} A part of the optimizer's state is gone with it.`, now, commands)
    return false
  }
  if (!state.runs.has(run.id) || run.members.length === 0) return false
  const moved = run.recovered - before
  const rest = moved > 0 ? ` ${microbatches(moved)} within step ${run.round?.step ?? run.step}.` : ''
  if (wasReady || moved > 0 || cause === 'failed')
    commands.push({ type: 'tell', runId: run.id, step: run.step, text: `${text}${rest}` })
  commands.push({ type: 'runChanged', runId: run.id })
  goOn(state, run, now, commands)
  return true
}

const microbatches = (count: number) =>
  count === 1 ? 'Its microbatch is computed by others' : `Its ${count} microbatches are computed by others`

/** Whether somebody of the stage has its weights, or may still load them from a checkpoint that nothing came after. */
function restorable(run: Run, stage: number, state: OrchestratorState): boolean {
  const ids = run.members[stage]!
  if (ids.some((id) => state.nodes.get(id)?.ready !== null)) return true
  return ids.length > 0 && run.step === run.checkpoint.step && !run.round?.apply
}

/** Counts no longer on a node that may come back: it keeps its place, its work of this step goes to others. */
export function suspect(
  state: OrchestratorState,
  node: FleetNode,
  cause: RecoveryCause,
  why: string,
  now: number,
  commands: Commands,
): void {
  if (node.suspect) return
  node.suspect = true
  const run = node.runId === null ? undefined : state.runs.get(node.runId)
  if (!run) return
  const { stage } = node
  const before = run.recovered
  if (!doWithout(state, run, stage, node.id, cause, now, commands)) {
    const text = `A volunteer of stage ${stage + 1} fell silent, and a part of the optimizer's state is gone with it.`
    breakGeneration(state, run, text, now, commands)
    return
  }
  if (!state.runs.has(run.id) || run.members.length === 0) return
  const moved = run.recovered - before
  const rest = moved > 0 ? ` ${microbatches(moved)}.` : ''
  const text = `A volunteer of stage ${stage + 1} ${why}.${rest}`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  commands.push({ type: 'runChanged', runId: run.id })
}

/** Takes the leases of a node that is there but too slow, if somebody else can have them. */
export function relieve(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  why: string,
  now: number,
  commands: Commands,
): boolean {
  const others = synced(state, run, node.stage).filter(({ id }) => id !== node.id)
  if (others.length === 0) return false
  const moved = moveLeases(state, run, node.stage, node.id, 'slow', now, commands)
  if (moved === 0) return false
  const text = `A volunteer of stage ${node.stage + 1} ${why}. ${microbatches(moved)}.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  return true
}
