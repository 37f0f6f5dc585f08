/** Owns what replicas of a stage send each other to merge one step: counted over the owners that the server would choose. */
import { FRAME_HEADER_BYTES } from '../../../src/protocol/frame.ts'

/** Bytes of the tensors of one shard, frames' headers not included. */
export interface ShardTensors {
  /** What one replica gives to the sum. */
  readonly share: number
  /** What the first owner gives to all others. */
  readonly result: number
  /** What a keeper, who does not sum, takes of the optimizer's state after each step. */
  readonly state: number
}

/** Primary, second, and keeper, as `spreadOwners` has them. */
const PLACES = 3

/**
 * Bytes that all replicas together send in one step, which is what they receive. Of a replica it is the same divided by their
 * number, since the shards are spread evenly.
 */
export function mergeTraffic(replicas: number, shards: readonly ShardTensors[]): number {
  const owners = Math.min(PLACES, replicas)
  return shards.reduce((sum, { share, result, state }) => {
    const active = Math.min(2, owners)
    const frame = (count: number, bytes: number) => (bytes > 0 ? count * (bytes + FRAME_HEADER_BYTES) : 0)
    // Each owner has its own share, and all but the first owner take the result.
    return sum + frame(active * (replicas - 1), share) + frame(replicas - 1, result) + frame(owners - active, state)
  }, 0)
}
