/** Proves that routing gives every microbatch one owner, in proportion to speed, and every element one shard. */
import { describe, expect, it } from 'vitest'
import { runLayouts } from '../../../src/model/layout.ts'
import { MAX_FRAME_PAYLOAD_BYTES } from '../../../src/protocol/frame.ts'
import { apportion, SHARD_ALIGNMENT, shardCount, shardsOf } from '../../../src/protocol/routing.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'

/** By trying every way to cut. */
function smallestLargest(ends: readonly number[], replicas: number, from = 0): number {
  const total = ends.at(-1)! - from
  if (replicas === 1) return total
  const further = ends.filter((end) => end > from && end < ends.at(-1)!)
  return Math.min(total, ...further.map((end) => Math.max(end - from, smallestLargest(ends, replicas - 1, end))))
}

describe('routing', () => {
  it('cuts a vector into aligned shards that cover it exactly', () => {
    for (const length of [0, 1, 63, 64, 65, 128, 640, 1000, 4096, 999_936])
      for (let replicas = 1; replicas <= 17; replicas++) {
        const shards = shardsOf(length, replicas)
        expect(shards).toHaveLength(replicas)
        let end = 0
        for (const shard of shards) {
          expect(shard.length).toBeGreaterThanOrEqual(0)
          expect(shard.offset).toBe(end)
          if (shard.length > 0) expect(shard.offset % SHARD_ALIGNMENT).toBe(0)
          end += shard.length
        }
        expect(end).toBe(length)
      }
  })

  it('cuts only where it may, the largest shard as small as that allows', () => {
    const cuts = [0, 640, 704, 1344, 1408, 4096, 4160]
    const ends = [640, 704, 1344, 1408, 4096, 4160, 4224]
    for (let replicas = 1; replicas <= 9; replicas++) {
      const shards = shardsOf(4224, replicas, cuts)
      expect(shards).toHaveLength(replicas)
      let end = 0
      for (const { offset, length } of shards) {
        expect(offset).toBe(end)
        if (length > 0) expect(cuts).toContain(offset)
        end += length
      }
      expect(end).toBe(4224)
      const largest = Math.max(...shards.map(({ length }) => length))
      expect(largest).toBe(smallestLargest(ends, replicas))
    }
    expect(shardsOf(128, 3, [])).toEqual([128, 0, 0].map((length, r) => ({ offset: r === 0 ? 0 : 128, length })))
  })

  it('gives every microbatch to one node, in runs of neighbours, in the order of the nodes', () => {
    for (const speeds of [[1], [1, 1, 1], [3, 1], [0.2, 5, 0.2], [1e-9, 1, 1e9], [7, 1, 2, 5, 3]])
      for (const count of [0, 1, 2, 3, 7, 20, 64]) {
        const owners = apportion(speeds, count)
        expect(owners).toHaveLength(count)
        expect(owners).toEqual([...owners].sort((a, b) => a - b))
        for (const owner of owners) expect(owner).toBeLessThan(speeds.length)
      }
  })

  it('parts microbatches in proportion to speed, never by one or more from what is due', () => {
    expect(apportion([1, 1], 4)).toEqual([0, 0, 1, 1])
    expect(apportion([3, 1], 8)).toEqual([0, 0, 0, 0, 0, 0, 1, 1])
    for (const speeds of [
      [1, 2, 3],
      [5, 1, 1, 1, 1],
      [0.3, 0.3, 0.4],
    ]) {
      const total = speeds.reduce((sum, speed) => sum + speed, 0)
      for (let count = 1; count <= 50; count++) {
        const owners = apportion(speeds, count)
        speeds.forEach((speed, i) => {
          const given = owners.filter((owner) => owner === i).length
          expect(Math.abs(given - (speed / total) * count)).toBeLessThanOrEqual(1)
        })
      }
    }
  })

  it('cuts a stage into as many shards as replicas, and no more than eight', () => {
    const count = (config: RunConfigInput) => shardCount(runConfigSchema.parse(config))
    expect([1, 2, 7, 8, 9, 64].map((replicas) => count({ replicas }))).toEqual([1, 2, 7, 8, 8, 8])
    // Where they merge while lanes go on, what is left after the last update is one of eight.
    const overlapping = { sync: 'local', local: { overlap: 5 } } as const
    expect([1, 2, 64].map((replicas) => count({ replicas, ...overlapping }))).toEqual([8, 8, 8])
    expect(count({ replicas: 2, ...overlapping, sync: 'exact' })).toBe(2)
  })

  it('cuts a stage further where the moments of a shard would not fit a frame', () => {
    // About Llama 2's 70 billion, whose layers have 856 million parameters each: one a stage.
    const model = { dModel: 8192, layers: 64, heads: 64, kvHeads: 8, ffn: 28_672, vocabSize: 32_000 }
    const config = runConfigSchema.parse({ model, stages: 64, replicas: 2 })
    expect(shardCount(config)).toBe(64)
    for (const layout of runLayouts(config))
      expect(8 * Math.max(...shardsOf(layout.length, 64).map(({ length }) => length))).toBeLessThan(
        MAX_FRAME_PAYLOAD_BYTES,
      )
  })
})
