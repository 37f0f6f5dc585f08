/** Owns what becomes of a step that gets no further: how long it may, who holds it up, when it begins again and is given up. */
import { innerSteps } from '../../src/protocol/lanes.ts'
import { dismiss } from './departures.ts'
import { failGeneration } from './generations.ts'
import { synced } from './owners.ts'
import { beginAgain } from './recovery.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** A step is stuck after so many times what one takes, and no sooner than this. */
const STEPS_OF_PATIENCE = 6
const SHORTEST_STALL_MS = 30_000
/** A report of waiting counts as long as this: it is repeated every two seconds while it lasts. */
export const WAITING_HOLDS_MS = 3000
/** Whoever keeps what it holds has nothing to load: it answers once its device is done with at most so many microbatches. */
const MICROBATCHES_BEFORE_AN_ANSWER = 4

/** A run whose steps are short is stuck sooner than one whose steps take minutes; lanes tell of each step of their own. */
export function patience({ round, usualMs, config }: Run, stallMs: number): number {
  if (!round || usualMs === null) return stallMs
  return Math.min(stallMs, Math.max(SHORTEST_STALL_MS, (STEPS_OF_PATIENCE * usualMs) / innerSteps(config)))
}

/** Does without those who hold the step up, if anybody can be told to; begins it again; and in the end gives it up. */
export function unstick(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { round, generation } = run
  const text = `${round ? `Step ${round.step}` : 'The run'} made no progress for ${Math.round((now - (round?.movedAt ?? run.lastProgress)) / 1000)} s.`
  const stuck = new Set(hung(state, run, now))
  let without = 0
  for (const node of stuck) {
    node.penaltyUntil = now + 6 * state.timing.failurePenaltyMs
    // The only one of its stage gets another chance: without it everything since the checkpoint would be lost.
    if (!synced(state, run, node.stage).some((other) => !stuck.has(other))) continue
    commands.push({ type: 'send', nodeId: node.id, message: { type: 'release', generation, reason: 'no headway' } })
    if (!dismiss(state, run, node, 'slow', 'nothing comes from it any more', now, commands)) return
    if (run.round !== round) return
    without += 1
  }
  // A step that is being applied cannot begin again: whoever updates in their place gets its time.
  if (round?.apply && without > 0) {
    round.movedAt = now
    return
  }
  if (run.brokenInARow > 0 || !beginAgain(state, run, text, now, commands))
    failGeneration(state, run, text, now, commands)
  else run.brokenInARow += 1
}

/** Nodes that are heard and owe the step something, without waiting for others themselves. */
function hung(state: OrchestratorState, run: Run, now: number): FleetNode[] {
  const owing = new Set<string>()
  run.round?.stages.forEach((progress, stage) => {
    for (const id of progress.pending) owing.add(id)
    if (progress.contributors)
      run.owners[stage]!.forEach(([first], shard) => {
        const done = run.round!.prepared ? progress.updated[shard] : first && progress.norms[shard]!.has(first)
        if (first && !done) owing.add(first)
      })
  })
  return [...owing].flatMap((id) => {
    const node = state.nodes.get(id)
    return node && node.runId === run.id && now - node.waitingAt >= WAITING_HOLDS_MS ? [node] : []
  })
}

/**
 * A step began again with nodes whose weights were counted on. One that neither says that it has them nor waits for any is
 * dead, though its heart beats: it gets no second stall to hold up. And where nobody of a stage says so, while all that are
 * left wait for each other, the weights are gone.
 */
export function watchPresumed(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const round = run.round!
  for (const [stage, ids] of run.members.entries()) {
    const nodes = ids.flatMap((id) => state.nodes.get(id) ?? [])
    const presumed = nodes.filter(({ presumedAt }) => presumedAt !== null)
    if (presumed.length === 0) continue
    for (const node of presumed) if (node.presumedAt === Infinity) node.presumedAt = now
    const answerMs = (node: FleetNode) => longestAnswer(run, node, state.timing.stallMs)
    const overdue = (node: FleetNode, patienceMs: number) => now - node.presumedAt! >= patienceMs
    const waits = ({ suspect, waitingAt }: FleetNode) => suspect || now - waitingAt < WAITING_HOLDS_MS
    const mute = presumed.filter((node) => !waits(node) && overdue(node, answerMs(node)))
    for (const node of mute) node.penaltyUntil = now + 6 * state.timing.failurePenaltyMs
    if (!nodes.some(({ ready, presumedAt }) => ready !== null && presumedAt === null)) {
      // Weights that are on their way between those who wait may take longer than an answer.
      const slowest = Math.max(patience(run, state.timing.stallMs) / 2, ...presumed.map(answerMs))
      if (mute.length === 0 && !presumed.every((node) => overdue(node, slowest))) continue
      for (const node of mute) node.troubles += 1
      const text = `Nobody in stage ${stage + 1} says that it has the weights since step ${round.step} began again.`
      failGeneration(state, run, text, now, commands)
      return
    }
    for (const { id } of mute) {
      const { generation } = run
      commands.push({ type: 'send', nodeId: id, message: { type: 'release', generation, reason: 'no headway' } })
      const why = 'nothing came from it since the step began again'
      if (!dismiss(state, run, state.nodes.get(id)!, 'failed', why, now, commands) || run.round !== round) return
    }
  }
}

/** A server that was started again does not know how long a microbatch takes, and nothing has stalled under it yet. */
function longestAnswer({ brokenInARow }: Run, { busyMs }: FleetNode, stallMs: number): number {
  if (busyMs === null && brokenInARow === 0) return stallMs / 2
  return Math.max(SHORTEST_STALL_MS, MICROBATCHES_BEFORE_AN_ANSWER * (busyMs ?? 0))
}
