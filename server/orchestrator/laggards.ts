/** Owns what becomes of a shard whose owners are heard and yet do not do their part: others go on without them. */
import { applyWhenWhole, commitWhenWhole, sendApply, sendReduce, tellOwners } from './merge.ts'
import { ACTIVE, synced } from './owners.ts'
import { WAITING_HOLDS_MS } from './stalls.ts'
import type { OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** Where nobody of two has summed there is nobody to go on alone: another one has to begin, so there is more time. */
const LAGGARDS_OF_PATIENCE = 3

/**
 * One of two owners does not follow: it is done without for this step if it is the second, and gives way to the second if
 * that one has what the first lacks.
 */
export function dropLaggards(state: OrchestratorState, run: Run, stage: number, now: number, commands: Commands): void {
  const { round } = run
  const progress = round?.stages[stage]
  if (!round || !progress || round.mode !== 'train' || now - progress.movedAt < state.timing.laggardMs) return
  if (round.prepared ? false : round.apply !== null || !progress.contributors) return
  const told = new Set<string>()
  let dropped = 0
  run.owners[stage]!.forEach((owners, shard) => {
    const [first, second, ...rest] = owners
    if (!first || !second || progress.compared[shard]) return
    const norms = progress.norms[shard]!
    // Both have summed and other stages have not: nobody is behind here.
    if (!round.prepared && norms.has(first) && norms.has(second)) return
    const behind = round.prepared
      ? norms.has(second) && (!progress.updated[shard] || waitsFor(state, second, first, now))
      : norms.has(second) && !norms.has(first)
    if (behind) {
      run.owners[stage]![shard] = [second, first, ...rest]
      progress.updated[shard] = false
      told.add(second)
    } else if (progress.waived[shard] || !(round.prepared ? progress.updated[shard] : norms.has(first))) return
    progress.waived[shard] = true
    dropped++
  })
  if (dropped === 0) return
  progress.movedAt = now
  const who = dropped === 1 ? 'An owner' : `${dropped} owners`
  const text = `${who} of a shard in stage ${stage + 1} did not follow; the other goes on alone.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  tellOwners(run, stage, commands)
  if (round.prepared) {
    for (const id of told) sendApply(run, stage, id, commands)
    commitWhenWhole(state, run, now, commands)
  } else applyWhenWhole(state, run, now, commands)
}

/** The second has its own update and waits for the first one's bytes: then it is the first that nobody can reach. */
function waitsFor(state: OrchestratorState, second: string, first: string, now: number): boolean {
  const node = state.nodes.get(second)
  return node !== undefined && now - node.waitingAt < WAITING_HOLDS_MS && node.waitingOn.includes(first)
}

/**
 * Whoever is to sum a shard neither does nor waits for anything, as a page whose GPU hangs: somebody else who has its moments
 * takes the first place, and is not held against the one before.
 */
export function replaceMute(state: OrchestratorState, run: Run, stage: number, now: number, commands: Commands): void {
  const { round } = run
  const progress = round?.stages[stage]
  if (!progress?.contributors || round?.mode !== 'train' || round.apply) return
  if (now - progress.movedAt < LAGGARDS_OF_PATIENCE * state.timing.laggardMs) return
  const heard = synced(state, run, stage)
  const isMute = (id: string) => {
    const node = state.nodes.get(id)
    return !node || node.suspect || now - node.waitingAt >= WAITING_HOLDS_MS
  }
  const added = new Set<string>()
  run.owners[stage]!.forEach((owners, shard) => {
    const active = owners.slice(0, ACTIVE)
    if (!active.every((id) => isMute(id) && !progress.norms[shard]!.has(id))) return
    const holders = run.holders[stage]![shard]!
    const heir = heard.find(({ id }) => !active.includes(id) && holders.get(id) === run.step)
    if (!heir) return
    run.owners[stage]![shard] = [heir.id, ...active.slice(0, ACTIVE - 1)]
    progress.waived[shard] = true
    added.add(heir.id)
  })
  if (added.size === 0) return
  progress.movedAt = now
  const text = `An owner of a shard in stage ${stage + 1} does not sum; another volunteer that has its moments does.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  tellOwners(run, stage, commands)
  for (const id of added) sendReduce(run, stage, id, commands)
}
