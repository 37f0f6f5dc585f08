/** Owns the cut of a model's layers into stages by the speed and the memory of the devices that are there for each. */
import { codeWidthOf } from '../codec/boundary.ts'
import { MAX_FRAME_PAYLOAD_BYTES } from '../protocol/frame.ts'
import type { ModelConfig, RunConfig } from '../protocol/runConfig.ts'
import { MAX_STAGE_BYTES, shardBytes } from './config.ts'
import { paddedVocabulary, stageLayout } from './layout.ts'
import { layoutMemory } from './memory.ts'

/** What a microbatch costs, in any unit that is the same for all three. */
export interface LayerCosts {
  /** Each layer. */
  readonly layerCost: number
  /** On top of its layers, the first stage. */
  readonly embeddingCost: number
  /** On top of its layers, the last stage. */
  readonly headCost: number
}

export interface PartitionProblem extends LayerCosts {
  readonly layers: number
  readonly stages: number
  /** Throughput of each stage: cost units in a unit of time, over all its devices. */
  readonly capacity: readonly number[]
  /** Bytes that the smallest device of each stage offers. */
  readonly memory: readonly number[]
  /** Bytes that `layers` layers take at `stage`; Infinity where they cannot be trained as one stage. */
  readonly bytes: (stage: number, layers: number) => number
}

/** The cost of a stage that holds `layers` layers. */
export function stageCost(costs: LayerCosts, stage: number, stages: number, layers: number): number {
  const ends = (stage === 0 ? costs.embeddingCost : 0) + (stage === stages - 1 ? costs.headCost : 0)
  return layers * costs.layerCost + ends
}

/**
 * The layers of each stage, at least one, such that the slowest stage is as fast as memory allows. Among cuts of which that
 * is equal, the one whose stages take the most equal times (the least sum of squares), then the one that gives the earlier
 * stages less. Exact: the linear partition problem, by dynamic programming (Skiena, "The Algorithm Design Manual", 2nd ed.
 * 2008, section 8.5) in O(stages · layers²).
 * @returns null when no cut fits
 * @throws RangeError unless there is a capacity and a memory for each stage
 */
export function choosePartition(problem: PartitionProblem): number[] | null {
  const { layers, stages, capacity, memory, bytes } = problem
  if (capacity.length !== stages || memory.length !== stages)
    throw new RangeError(`${capacity.length} capacities and ${memory.length} memories for ${stages} stages.`)
  const most = layers - stages + 1
  const times = capacity.map((speed, stage) =>
    Array.from({ length: Math.max(0, most) + 1 }, (_, count) => {
      if (count === 0 || !(speed > 0) || bytes(stage, count) > memory[stage]!) return Infinity
      return stageCost(problem, stage, stages, count) / speed
    }),
  )
  const slowest = (partition: readonly number[]) => Math.max(...partition.map((count, s) => times[s]![count]!))
  const fastest = bestCut(layers, times, Math.max)
  if (!fastest) return null
  const limit = slowest(fastest)
  const squares = times.map((row) => row.map((time) => (time <= limit ? time * time : Infinity)))
  return bestCut(layers, squares, (a, b) => a + b)
}

/** The cut with the least combined value of `values[stage][layers]`; `combine` grows with both and 0 is neutral to it. */
function bestCut(
  layers: number,
  values: readonly (readonly number[])[],
  combine: (a: number, b: number) => number,
): number[] | null {
  const stages = values.length
  // best[s][n]: the least that stages s and after can do with n layers; taken[s][n]: how many of them s then has.
  const best = Array.from({ length: stages + 1 }, () => new Array<number>(layers + 1).fill(Infinity))
  const taken = values.map(() => new Array<number>(layers + 1).fill(0))
  best[stages]![0] = 0
  for (let s = stages - 1; s >= 0; s--) {
    for (let n = 1; n <= layers; n++) {
      for (let count = 1; count <= Math.min(n, values[s]!.length - 1); count++) {
        const value = combine(values[s]![count]!, best[s + 1]![n - count]!)
        if (value >= best[s]![n]!) continue
        best[s]![n] = value
        taken[s]![n] = count
      }
    }
  }
  if (best[0]![layers] === Infinity) return null
  let left = layers
  return taken.map((counts) => {
    const count = counts[left]!
    left -= count
    return count
  })
}

/**
 * FLOPs of one trained token, forward and back: six for each weight that is multiplied, and for attention the causal half of
 * its seven products (Dao 2023). The embedding is looked up, which takes none.
 */
export function layerCosts(model: ModelConfig): LayerCosts {
  const { dModel: d, ffn, heads, kvHeads, blockSize } = model
  const weights = 2 * d * d + 2 * (d / heads) * kvHeads * d + 3 * ffn * d
  return { layerCost: 6 * weights + 7 * d * blockSize, embeddingCost: 0, headCost: 6 * paddedVocabulary(model) * d }
}

/** The bytes that so many layers take at a stage of this run, by formula; Infinity beyond what a stage or a frame may be. */
export function stageBytes(config: RunConfig): PartitionProblem['bytes'] {
  const known = new Map<string, number>()
  return (stage, layerCount) => {
    const ends = { hasEmbedding: stage === 0, hasHead: stage === config.stages - 1 }
    const key = `${layerCount} ${ends.hasEmbedding} ${ends.hasHead}`
    let bytes = known.get(key)
    if (bytes === undefined) {
      const layout = stageLayout(config.model, { stage, firstLayer: 0, layerCount, ...ends }, codeWidthOf(config))
      const { total } = layoutMemory(config, layout)
      const carried = config.replicas === 1 || shardBytes(config, layout) <= MAX_FRAME_PAYLOAD_BYTES
      bytes = carried && total <= MAX_STAGE_BYTES ? total : Infinity
      known.set(key, bytes)
    }
    return bytes
  }
}
