/** Owns what is summed before a step's lanes have ended: where merges overlap local steps, each shard once every lane has made it final. */
import type { ServerMessage } from '../../src/protocol/control.ts'
import { finalUpdates, laneCount, laneMicrobatches, overlaps } from '../../src/protocol/lanes.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import { activeOwners } from './owners.ts'
import type { StageProgress } from './round.ts'
import type { FleetNode, OrchestratorCommand, Run, RunMessage } from './types.ts'

type Advanced = Extract<RunMessage, { type: 'advanced' }>

/** A lane of the step under way has taken so many updates at this node. */
export function onAdvanced(
  run: Run,
  node: FleetNode,
  { lane, inner }: Advanced,
  commands: OrchestratorCommand[],
): void {
  const { config, round } = run
  const progress = round!.stages[node.stage]!
  if (!overlaps(config) || progress.owner[lane * laneMicrobatches(config)] !== node.id) return
  progress.advanced.set(lane, { id: node.id, inner })
  sumAhead(run, node.stage, commands)
}

/** Asks the owners for the sums of what is final everywhere, in the attempt that the sum of all shards will have. */
function sumAhead(run: Run, stage: number, commands: OrchestratorCommand[]): void {
  const { config, round, generation } = run
  const { step, stages } = round!
  const progress = stages[stage]!
  if (progress.contributors || progress.orphans.length > 0) return
  const least = leastAdvanced(config, progress)
  const owners = run.owners[stage]!
  const shards = [...owners.keys()].filter(
    (shard) => finalUpdates(config, { step, shard, shards: owners.length }) <= least,
  )
  if (shards.length <= (progress.ahead ?? 0)) return
  if (progress.ahead === null) progress.attempt += 1
  progress.ahead = shards.length
  const { attempt } = progress
  const contributors = contributorsOf(progress)
  const message: ServerMessage = { type: 'reduce', generation, step, attempt, contributors, shards }
  for (const nodeId of activeOwners(owners)) commands.push({ type: 'send', nodeId, message })
}

/** Updates that every lane has taken where it is now. */
function leastAdvanced(config: RunConfig, { advanced, owner }: StageProgress): number {
  let least = Infinity
  for (let lane = 0; lane < laneCount(config); lane++) {
    const known = advanced.get(lane)
    least = Math.min(least, known?.id === owner[lane * laneMicrobatches(config)] ? known!.inner : 0)
  }
  return least
}

/** Who computed the stage, with the versions of their leases: in the order of the first microbatch each has, so that a repeated step sums alike. */
export function contributorsOf({ owner, work }: StageProgress): [string, number][] {
  return [...new Set(owner)].map((id) => [id, work.get(id)!.version])
}
