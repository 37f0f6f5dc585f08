/** Owns what a stage tells a server of what it has, so that one that was away goes on from there. */
import type { Holding } from '../../protocol/control.ts'
import { hasVectors, NOWHERE, type StageState, updatable } from './state.ts'

/** Null where there is nothing yet to go on with. */
export function holding<T>(state: StageState<T>): Holding | null {
  const { assignment, current } = state
  if (!assignment || !hasVectors(state)) return null
  // What a kept model is still to finish its device does before it takes anything else.
  const standing = (step: number, shard: number) => (state.finishing.has(shard) ? assignment.finish!.step : step)
  const parameters = state.parameters.map(standing)
  const first = parameters[0] ?? NOWHERE
  const whole = first !== NOWHERE && parameters.every((step) => step === first)
  const moments: [number, number][] = []
  state.moments.map(standing).forEach((step, shard) => {
    if (step !== NOWHERE) moments.push([shard, step])
  })
  return {
    runId: assignment.runId,
    generation: assignment.generation,
    stage: assignment.stage,
    step: whole ? first : null,
    moments,
    reduced: current ? summedShards(state) : [],
    open: parameters.flatMap((_, shard) => (state.finishing.has(shard) || state.madeBy[shard] ? [shard] : [])),
  }
}

/** Shards of the step under way that lack nothing but the word to update them. */
export function summedShards<T>(state: StageState<T>): number[] {
  const summed: number[] = []
  // What was summed ahead of the others may yet be void.
  if (state.current?.reduce?.ahead) return summed
  state.current?.shards.forEach((sum, shard) => {
    if (sum.reduced && sum.update === 'none' && updatable(state, shard)) summed.push(shard)
  })
  return summed
}
