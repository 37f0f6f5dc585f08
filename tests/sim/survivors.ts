/** Owns the world's own answer to the question whether a rollback was needed: who is left of each stage, and with what. */
import { NOWHERE } from '../../src/stage/machine/state.ts'
import type { Witness } from './invariants.ts'
import type { SimNode } from './node.ts'
import type { World } from './world.ts'

/**
 * What of a run is really lost, in words; null when every stage still has a way on from the last commit: of each shard a live
 * node with its parameters and one with its moments, as they stand after that step or after the one being applied.
 */
export function lostStage(world: World, runId: string, witness: Witness): string | null {
  const { committed, round, restarted, holders } = witness
  const stages = new Map<number, SimNode[]>()
  for (const node of world.nodes.values()) {
    const { tenure } = node
    // Who is cut off may have what nobody heard that it has.
    if (!tenure || tenure.assignment.runId !== runId || node.hung || node.paused || node.island !== 0) continue
    if (!world.state.nodes.has(node.id) || tenure.assignment.generation < witness.generation) continue
    const { stage } = tenure.assignment
    stages.set(stage, [...(stages.get(stage) ?? []), node])
  }
  // Once the word to update is out the server cannot know who has heard it.
  const applied =
    round?.prepared === true ||
    [...stages.values()].flat().some(({ tenure }) => tenure!.parameterSteps.includes(committed + 1))
  const count = world.watch.witnesses.get(runId)!.reference.vectors[0]!.length
  for (let stage = 0; stage < count; stage++) {
    const nodes = stages.get(stage) ?? []
    if (nodes.length === 0) return `stage ${stage} has lost every replica`
    const shards = nodes[0]!.tenure!.ranges.length
    for (let shard = 0; shard < shards; shard++) {
      const stands = (steps: (number | null)[]) => steps[shard] === committed || steps[shard] === committed + 1
      // Bytes that were not their first owner's are void once the next step begins: with that owner the stage's own are gone.
      if (!nodes.some(({ tenure, machine }) => stands(tenure!.parameterSteps) && machine.parameters[shard] !== NOWHERE))
        return `stage ${stage} has lost the parameters of shard ${shard}`
      // A copy that came a moment ago, and of which the server has not heard yet, could not be counted on.
      const known = holders[stage]?.[shard]
      if (!nodes.some(({ id, tenure }) => stands(tenure!.momentSteps) && (!known || known.has(id))))
        return `stage ${stage} has lost the moments of shard ${shard}`
      // Some weights have gone on to the next step, or may have; these cannot follow, and what their sum was made from is gone too.
      const summed = nodes.some(
        (node) => node.tenure!.momentSteps[shard] === committed + 1 || holdsSum(node, shard, committed + 1),
      )
      const missing = round?.stages[stage]?.contributors?.some(([id]) => !nodes.some((node) => node.id === id))
      if (applied && !summed && (missing || restarted))
        return `stage ${stage} has lost the sum of shard ${shard} that others were updated by, or may have been`
    }
  }
  return null
}

/** Whether the sum of all contributors for this shard lies here, not yet applied. */
function holdsSum({ machine: { current } }: SimNode, shard: number, step: number): boolean {
  return current?.step === step && current.shards[shard]?.reduced === true
}
