/** Owns who computes what within a step: pure functions of the membership and the measured speeds. */
import { overlaps } from './lanes.ts'
import type { RunConfig } from './runConfig.ts'

/** More shards make each owner's part smaller and the messages of a merge more: so many are enough where parts are small. */
const USUAL_SHARDS = 8
/** The most that the protocol names. */
const MOST_SHARDS = 64
/** Elements of a shard beyond which a stage is cut further: moments, two f32 an element, travel in one frame of 256 MiB. */
const SHARD_ELEMENTS = 2 ** 24

/**
 * Into how many shards a stage's vectors are cut: the same for all stages and however many replicas come and go. One a replica,
 * but never more than eight unless a stage is so large that they would not fit their frames. Eight where they merge while lanes go
 * on: what is sent after the last inner step is one of them.
 */
export function shardCount(
  config: Pick<RunConfig, 'replicas' | 'stages' | 'partition' | 'model' | 'sync' | 'local'>,
): number {
  const large = Math.ceil(largestStage(config) / SHARD_ELEMENTS)
  return Math.min(
    MOST_SHARDS,
    Math.max(large, overlaps(config) ? USUAL_SHARDS : Math.min(config.replicas, USUAL_SHARDS)),
  )
}

/** Elements of the largest stage, give or take paddings and norms. */
function largestStage({ stages, partition, model }: Pick<RunConfig, 'stages' | 'partition' | 'model'>): number {
  const { dModel: d, heads, kvHeads, ffn, vocabSize, layers } = model
  const layer = d * (2 * d + 2 * (d / heads) * kvHeads + 3 * ffn)
  const most = partition ? Math.max(...partition) : Math.ceil(layers / stages)
  return most * layer + vocabSize * d * (stages === 1 ? 2 : 1)
}

/**
 * Parts `count` microbatches from `first` on among the nodes of one stage in proportion to their speeds (largest
 * remainder), each node's in one run of neighbours: nodes at the same place of adjacent stages then share most of their
 * microbatches, and few links carry a lane.
 * @returns the owner's place in `speeds` for each microbatch in order
 */
export function apportion(speeds: readonly number[], count: number): number[] {
  const total = speeds.reduce((sum, speed) => sum + speed, 0)
  const owners: number[] = []
  let before = 0
  speeds.forEach((speed, i) => {
    before += speed
    // Ends are rounded, not lengths, so that the lengths add up whatever the speeds are.
    const end = i === speeds.length - 1 ? count : Math.round((before / total) * count)
    while (owners.length < end) owners.push(i)
  })
  return owners
}

/** Shards start at multiples of this many elements, so that a shard can be bound as a storage buffer (256 bytes). */
export const SHARD_ALIGNMENT = 64

export interface Shard {
  readonly offset: number
  readonly length: number
}

/**
 * Cuts a flat vector of `length` elements into one shard a replica; late shards may be empty in a tiny stage. `cuts`, rising,
 * are the only places where a shard may start, for an optimizer that cannot work on half a matrix: the largest shard is then
 * as small as these allow.
 */
export function shardsOf(length: number, replicas: number, cuts?: readonly number[]): Shard[] {
  if (cuts) return shardsAt([...cuts.filter((cut) => cut > 0 && cut < length), length], replicas)
  const unit = Math.ceil(length / replicas / SHARD_ALIGNMENT) * SHARD_ALIGNMENT
  return Array.from({ length: replicas }, (_, r) => {
    const offset = Math.min(r * unit, length)
    return { offset, length: Math.min(unit, length - offset) }
  })
}

/** `ends`: where shards may end, rising, the last at the vector's end. */
function shardsAt(ends: readonly number[], replicas: number): Shard[] {
  const filled = (most: number): Shard[] => {
    const shards: Shard[] = []
    let offset = 0
    let end = 0
    for (const next of ends) {
      if (next - offset > most && end > offset) {
        shards.push({ offset, length: end - offset })
        offset = end
      }
      end = next
    }
    return [...shards, { offset, length: end - offset }]
  }
  let [least, most] = [Math.max(...ends.map((end, i) => end - (ends[i - 1] ?? 0))), ends.at(-1)!]
  while (least < most) {
    const middle = Math.floor((least + most) / 2)
    if (filled(middle).length <= replicas) most = middle
    else least = middle + 1
  }
  const shards = filled(most)
  while (shards.length < replicas) shards.push({ offset: ends.at(-1)!, length: 0 })
  return shards
}
