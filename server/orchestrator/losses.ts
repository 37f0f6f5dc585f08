/** Owns what a step does without: leases, shares and shards of nodes that are lost, silent or behind go over to others. */
import type { ServerMessage } from '../../src/protocol/control.ts'
import { askHeirs } from './heirs.ts'
import { moveLeases } from './leases.ts'
import { applyWhenWhole, commitWhenWhole, sendApply, sendReduce, sumWhenWhole, tellOwners } from './merge.ts'
import { ACTIVE, activeOwners, chooseOwners } from './owners.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, RecoveryCause, Run, RunMessage } from './types.ts'

type Commands = OrchestratorCommand[]
type Of<K extends RunMessage['type']> = Extract<RunMessage, { type: K }>

export function onMissing(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Of<'missing'>,
  now: number,
  commands: Commands,
): void {
  const progress = run.round?.stages[node.stage]
  if (!progress?.contributors || run.round!.step !== message.step || progress.attempt !== message.attempt) return
  const { node: contributor, shards } = message
  if (!progress.lost.has(contributor)) return
  let missing = progress.missing.get(contributor)
  if (!missing) progress.missing.set(contributor, (missing = new Set()))
  for (const shard of shards) missing.add(`${node.id} ${shard}`)
  // As long as one owner of a shard has the share, or has summed with it, the other needs nothing made again.
  const gone = run.owners[node.stage]!.some((owners, shard) =>
    owners.slice(0, ACTIVE).every((id) => missing.has(`${id} ${shard}`) && !progress.norms[shard]!.has(id)),
  )
  if (gone) moveLeases(state, run, node.stage, contributor, 'silent', now, commands)
}

/** Somebody waits for what only a lost node had: its leases move after all, even those it had finished. */
export function onWaitingForLost(
  state: OrchestratorState,
  run: Run,
  lost: string,
  now: number,
  commands: Commands,
): void {
  run.round?.stages.forEach((progress, stage) => {
    if (progress.lost.has(lost) && !run.round!.apply) moveLeases(state, run, stage, lost, 'silent', now, commands)
  })
}

/**
 * A node of a stage cannot be counted on any more: its leases move, and so do its shards, as far as the step still needs
 * them. @returns false when the moments of a shard are lost with it
 */
export function doWithout(
  state: OrchestratorState,
  run: Run,
  stage: number,
  nodeId: string,
  cause: RecoveryCause,
  now: number,
  commands: Commands,
): boolean {
  const { round } = run
  if (!round) return true
  const progress = round.stages[stage]!
  progress.movedAt = now
  if (round.mode === 'evaluate') {
    moveLeases(state, run, stage, nodeId, cause, now, commands)
    return true
  }
  if (round.apply) return promote(state, run, stage, nodeId, now, commands)
  if (!replaceOwner(state, run, stage, nodeId, now, commands)) return false
  const work = progress.work.get(nodeId)
  if (!progress.contributors && work && work.finished === work.version) {
    // What it computed counts as long as its share of the sum is with all who need it: they are asked when they sum.
    progress.lost.add(nodeId)
  } else if (!progress.contributors) {
    moveLeases(state, run, stage, nodeId, cause, now, commands)
    sumWhenWhole(state, run, stage, now, commands)
  } else if (progress.contributors.some(([id]) => id === nodeId)) {
    // Its share may be with all who need it already; only who lacks it can tell, now or when it becomes an owner.
    progress.lost.add(nodeId)
    const { generation } = run
    const { attempt } = progress
    for (const owner of activeOwners(run.owners[stage]!)) {
      const message: ServerMessage = { type: 'lost', generation, step: round.step, attempt, node: nodeId }
      commands.push({ type: 'send', nodeId: owner, message })
    }
  }
  applyWhenWhole(state, run, now, commands)
  return true
}

/** Before the update: others take the lost owner's places, and sum what it was to sum. */
function replaceOwner(
  state: OrchestratorState,
  run: Run,
  stage: number,
  nodeId: string,
  now: number,
  commands: Commands,
): boolean {
  if (!run.owners[stage]!.some((owners) => owners.includes(nodeId))) return true
  const chosen = chooseOwners(state, run, stage, now)
  if (!chosen) return false
  const old = run.owners[stage]!
  run.owners[stage] = chosen
  tellOwners(run, stage, commands)
  const added = new Set<string>()
  const { norms, waived } = run.round!.stages[stage]!
  chosen.forEach((owners, shard) => {
    // Whoever has summed already goes on without a second: another would need every share again.
    if (norms[shard]!.has(owners[0]!) && !norms[shard]!.has(owners[1] ?? '')) waived[shard] = true
    for (const id of owners.slice(0, ACTIVE)) if (!old[shard]!.slice(0, ACTIVE).includes(id)) added.add(id)
  })
  for (const id of added) sendReduce(run, stage, id, commands)
  return true
}

/** During the update: the second owner's result takes the place of the primary's; nobody can take the second's. */
function promote(
  state: OrchestratorState,
  run: Run,
  stage: number,
  nodeId: string,
  now: number,
  commands: Commands,
): boolean {
  const progress = run.round!.stages[stage]!
  const here = state.nodes.has(nodeId) && run.members[stage]!.includes(nodeId)
  const told = new Set<string>()
  const bereft: number[] = []
  run.owners[stage]!.forEach((owners, shard) => {
    const place = owners.indexOf(nodeId)
    if (place < 0) return
    const rest = owners.filter((id) => id !== nodeId)
    if (rest.length === 0) {
      // Nobody else has this sum or these moments: a node that is only silent is waited for.
      if (!here) bereft.push(shard)
      return
    }
    if (place === 0 && !(progress.updated[shard] && progress.compared[shard])) {
      if (!progress.norms[shard]!.has(rest[0]!)) {
        // The second was not waited for and never summed: it cannot take the first one's place.
        if (!here) bereft.push(shard)
        return
      }
      progress.updated[shard] = false
      progress.compared[shard] = true
      told.add(rest[0]!)
    } else if (place === 1) progress.compared[shard] = true
    // A keeper has not summed: it is second to nobody until the next step.
    run.owners[stage]![shard] = place < ACTIVE ? rest.slice(0, 1) : rest
  })
  if (bereft.length > 0 && !askHeirs(run, stage, nodeId, bereft, now, commands)) return false
  tellOwners(run, stage, commands)
  if (run.round!.prepared) for (const id of told) sendApply(run, stage, id, commands)
  if (run.round!.prepared) commitWhenWhole(state, run, now, commands)
  return true
}

/** Who is heard again may still have the sum, or the moments, of shards that it owned: it is their second owner once more. */
export function readmit(run: Run, node: FleetNode, now: number, commands: Commands): void {
  const { round } = run
  const progress = round?.stages[node.stage]
  if (!round || !progress || round.mode !== 'train') return
  progress.lost.delete(node.id)
  let back = false
  run.owners[node.stage]!.forEach((owners, shard) => {
    if (owners.includes(node.id) || owners.length !== 1) return
    const useful = round.apply ? progress.norms[shard]!.has(node.id) : run.holders[node.stage]![shard]!.has(node.id)
    if (!useful || progress.updated[shard]) return
    owners.push(node.id)
    progress.waived[shard] = true
    back = true
  })
  if (!back) return
  progress.movedAt = now
  tellOwners(run, node.stage, commands)
  if (round.prepared) sendApply(run, node.stage, node.id, commands)
  else if (!round.apply) sendReduce(run, node.stage, node.id, commands)
}
