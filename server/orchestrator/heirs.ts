/** Owns a shard that nobody is left of who updated it: with local steps whoever took the mean has all that they had. */
import type { ServerMessage } from '../../src/protocol/control.ts'
import { breakGeneration } from './generations.ts'
import { commitWhenWhole, tellOwners } from './merge.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/**
 * Asks the stage who has taken these shards as they stand after the step that is being applied. Their lost first owner stays
 * named until somebody has answered, so that what it sent last is still taken.
 * @returns false when nobody can have them: the step's moments are at its owners alone, or none was told to update yet
 */
export function askHeirs(
  run: Run,
  stage: number,
  lost: string,
  shards: readonly number[],
  now: number,
  commands: Commands,
): boolean {
  const round = run.round!
  if (run.config.sync !== 'local' || !round.prepared) return false
  const { bereft, updated, attempt } = round.stages[stage]!
  for (const shard of shards) {
    bereft.set(shard, now)
    updated[shard] = false
  }
  const { generation } = run
  const message: ServerMessage = { type: 'lost', generation, step: round.step, attempt, node: lost }
  for (const nodeId of run.members[stage]!) commands.push({ type: 'send', nodeId, message })
  return true
}

/** Still nobody's: its second owner may have summed after all and taken the first one's place. */
function isBereft(run: Run, stage: number, shard: number): boolean {
  const first = run.owners[stage]![shard]![0]!
  return run.round!.stages[stage]!.bereft.has(shard) && !run.members[stage]!.includes(first)
}

/** The first that has taken a bereft shard is its owner, and the only one: what others took was not sent by it. */
export function inherit(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  shard: number,
  now: number,
  commands: Commands,
): void {
  const { stage } = node
  const round = run.round!
  if (!run.owners[stage]![shard] || !isBereft(run, stage, shard)) return
  const { bereft, updated, compared } = round.stages[stage]!
  bereft.delete(shard)
  run.owners[stage]![shard] = [node.id]
  updated[shard] = compared[shard] = true
  round.movedAt = now
  tellOwners(run, stage, commands)
  const text = `The owners of a shard in stage ${stage + 1} are gone; a volunteer that had taken its mean goes on with it.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  commitWhenWhole(state, run, now, commands)
}

/** Who has taken a shard says so at once: when nobody has for a while, it is lost. */
export function giveUpHeirless(
  state: OrchestratorState,
  run: Run,
  stage: number,
  now: number,
  commands: Commands,
): void {
  for (const [shard, since] of run.round!.stages[stage]!.bereft) {
    if (now - since < state.timing.laggardMs || !isBereft(run, stage, shard)) continue
    const text = `The owners of a shard in stage ${stage + 1} are gone, and nobody had taken its mean.`
    breakGeneration(state, run, text, now, commands)
    return
  }
}
