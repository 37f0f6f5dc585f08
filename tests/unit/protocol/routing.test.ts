/** Proves that routing gives every microbatch one owner, every element one shard, and every tensor a link to travel on. */
import { describe, expect, it } from 'vitest'
import { microbatchesOf, ownerOf, partnersOf, SHARD_ALIGNMENT, shardsOf } from '../../../src/protocol/routing.ts'

/** By trying every way to cut. */
function smallestLargest(ends: readonly number[], replicas: number, from = 0): number {
  const total = ends.at(-1)! - from
  if (replicas === 1) return total
  const further = ends.filter((end) => end > from && end < ends.at(-1)!)
  return Math.min(total, ...further.map((end) => Math.max(end - from, smallestLargest(ends, replicas - 1, end))))
}

const membersOf = (counts: number[]) => counts.map((n, s) => Array.from({ length: n }, (_, r) => `s${s}r${r}`))
const SHAPES = [[1], [3], [1, 1], [2, 3], [4, 2], [3, 1, 2], [2, 2, 2], [6, 4, 9], [1, 5, 1], [8, 8]].map(membersOf)

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

  it('gives every microbatch of every stage to exactly one replica', () => {
    for (const members of SHAPES)
      members.forEach((ids, stage) => {
        const owned = ids.map((_, replica) => microbatchesOf(members, stage, replica, 3, 20))
        expect(owned.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i + 3))
        owned.forEach((list, replica) => list.forEach((m) => expect(ownerOf(members, m, stage)).toBe(ids[replica])))
      })
  })

  it('connects exactly those who exchange something, seen alike from both ends', () => {
    for (const members of SHAPES) {
      const expected = new Map(members.flat().map((id) => [id, new Set<string>()]))
      const connect = (a: string, b: string) => a !== b && (expected.get(a)!.add(b), expected.get(b)!.add(a))
      for (const ids of members) for (const a of ids) for (const b of ids) connect(a, b)
      for (let m = 0; m < 1000; m++)
        for (let s = 0; s + 1 < members.length; s++) connect(ownerOf(members, m, s), ownerOf(members, m, s + 1))
      members.forEach((ids, stage) =>
        ids.forEach((id, replica) =>
          expect(partnersOf(members, stage, replica)).toEqual([...expected.get(id)!].sort()),
        ),
      )
    }
  })

  it('has no owner for a stage that does not exist', () => {
    expect(() => ownerOf([['a']], 0, 1)).toThrow(RangeError)
  })
})
