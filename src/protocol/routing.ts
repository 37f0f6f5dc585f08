/** Owns who computes what within a step: pure functions of the membership that server and nodes evaluate alike. */
import type { Members } from './control.ts'

/** The owner of (microbatch, stage): microbatches go round the replicas of each stage. */
export function ownerOf(members: Members, microbatch: number, stage: number): string {
  const replicas = members[stage]
  if (!replicas) throw new RangeError(`No stage ${stage} among ${members.length}.`)
  return replicas[microbatch % replicas.length]!
}

/** Microbatches from `first` on that one replica owns, in the order in which it computes them. */
export function microbatchesOf(
  members: Members,
  stage: number,
  replica: number,
  first: number,
  microbatches: number,
): number[] {
  const replicas = members[stage]!.length
  const all = Array.from({ length: microbatches }, (_, i) => first + i)
  return all.filter((m) => m % replicas === replica)
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

/**
 * The nodes that one node exchanges tensors with, each once: its own stage, and the neighbours that share a microbatch.
 * Replicas r and q of adjacent stages share one exactly when r ≡ q modulo the greatest common divisor of their counts.
 */
export function partnersOf(members: Members, stage: number, replica: number): string[] {
  const self = members[stage]![replica]!
  const replicas = members[stage]!.length
  const partners = new Set(members[stage])
  for (const neighbours of [members[stage - 1], members[stage + 1]]) {
    if (!neighbours) continue
    const divisor = greatestCommonDivisor(replicas, neighbours.length)
    neighbours.forEach((id, q) => q % divisor === replica % divisor && partners.add(id))
  }
  partners.delete(self)
  return [...partners].sort()
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}
