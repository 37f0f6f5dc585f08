/** Proves that the cut is the best there is, that memory binds it, and that the same numbers always give the same cut. */
import { describe, expect, it } from 'vitest'
import { MAX_STAGE_BYTES } from '../../../src/model/config.ts'
import { estimateStageMemory } from '../../../src/model/memory.ts'
import { layersPerStage } from '../../../src/model/layout.ts'
import { choosePartition, layerCosts, stageBytes, stageCost } from '../../../src/model/partition.ts'
import type { PartitionProblem } from '../../../src/model/partition.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'

const plain = (layers: number, capacity: number[], change: Partial<PartitionProblem> = {}): PartitionProblem => ({
  layers,
  stages: capacity.length,
  layerCost: 1,
  embeddingCost: 0,
  headCost: 0,
  capacity,
  memory: capacity.map(() => 1000),
  bytes: (_stage, count) => count,
  ...change,
})

/** Every cut of `layers` into `stages`, none empty. */
function allCuts(layers: number, stages: number): number[][] {
  if (stages === 1) return layers > 0 ? [[layers]] : []
  const first = Array.from({ length: layers - stages + 1 }, (_, i) => i + 1)
  return first.flatMap((count) => allCuts(layers - count, stages - 1).map((rest) => [count, ...rest]))
}

describe('choosePartition', () => {
  it('is even for even stages', () => {
    expect(choosePartition(plain(8, [1, 1, 1, 1]))).toEqual([2, 2, 2, 2])
    expect(choosePartition(plain(5, [1, 1, 1]))).toEqual(layersPerStage(5, 3))
    for (const cut of [choosePartition(plain(14, [3, 3, 3, 3]))!, choosePartition(plain(9, [1, 1, 1, 1]))!]) {
      expect(Math.max(...cut) - Math.min(...cut)).toBe(1)
      expect(cut).toEqual([...cut].sort((a, b) => a - b))
    }
  })

  it('gives layers by speed', () => {
    expect(choosePartition(plain(12, [3, 1, 2]))).toEqual([6, 2, 4])
    expect(choosePartition(plain(4, [1, 100]))).toEqual([1, 3])
  })

  it('counts the embedding to the first stage and the head to the last', () => {
    expect(choosePartition(plain(6, [1, 1], { headCost: 2 }))).toEqual([4, 2])
    expect(choosePartition(plain(6, [1, 1], { embeddingCost: 2 }))).toEqual([2, 4])
    expect(choosePartition(plain(3, [1], { embeddingCost: 2, headCost: 9 }))).toEqual([3])
  })

  it('gives a stage no more than its smallest device holds', () => {
    expect(choosePartition(plain(12, [3, 1, 2], { memory: [5, 100, 100] }))).toEqual([5, 2, 5])
    expect(choosePartition(plain(12, [3, 1, 2], { memory: [5, 3, 4] }))).toEqual([5, 3, 4])
    expect(choosePartition(plain(12, [3, 1, 2], { memory: [5, 3, 3] }))).toBeNull()
  })

  it('evens out the stages that are not the slowest', () => {
    // The last stage is at 10 whatever the others do.
    expect(choosePartition(plain(7, [1, 1, 0.1]))).toEqual([3, 3, 1])
  })

  it('finds none for fewer layers than stages, or a stage without a device', () => {
    expect(choosePartition(plain(2, [1, 1, 1]))).toBeNull()
    expect(choosePartition(plain(4, [1, 0]))).toBeNull()
    expect(() => choosePartition(plain(4, [1, 1], { stages: 3 }))).toThrow(RangeError)
  })

  it('is the best of all cuts', () => {
    // Numbers without a pattern, from a multiplicative generator (Park & Miller 1988).
    let seed = 7
    const next = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
    for (let round = 0; round < 200; round++) {
      const stages = 1 + Math.floor(4 * next())
      const layers = stages + Math.floor(8 * next())
      const capacity = Array.from({ length: stages }, () => 1 + Math.floor(4 * next()))
      const memory = Array.from({ length: stages }, () => 2 + Math.floor(8 * next()))
      const problem = plain(layers, capacity, { memory, embeddingCost: next(), headCost: 3 * next() })
      const times = (cut: number[]) => cut.map((count, s) => stageCost(problem, s, stages, count) / capacity[s]!)
      const slowest = (cut: number[]) => Math.max(...times(cut))
      const squares = (cut: number[]) => times(cut).reduce((sum, time) => sum + time * time, 0)
      const fitting = allCuts(layers, stages).filter((cut) => cut.every((count, s) => count <= memory[s]!))
      const found = choosePartition(problem)
      if (!found) {
        expect(fitting).toEqual([])
        continue
      }
      const least = Math.min(...fitting.map(slowest))
      const best = fitting.filter((cut) => slowest(cut) === least)
      expect(fitting).toContainEqual(found)
      expect(slowest(found)).toBe(least)
      expect(squares(found)).toBeCloseTo(Math.min(...best.map(squares)), 9)
    }
  })

  it('cuts the largest run at once', () => {
    const cut = choosePartition(plain(256, new Array<number>(64).fill(1), { headCost: 3 }))!
    expect(cut).toHaveLength(64)
    expect(cut.reduce((a, b) => a + b, 0)).toBe(256)
    expect(cut.slice(0, -1).every((count) => count === 4 || count === 5)).toBe(true)
  })
})

describe('what a run puts in', () => {
  const config = (input: RunConfigInput = {}) => runConfigSchema.parse(input)

  it('costs of layers and head stand in the ratio of their weights and scores', () => {
    const { model } = config({ model: { dModel: 64, heads: 4, kvHeads: 2, ffn: 128, vocabSize: 250, blockSize: 32 } })
    const weights = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64
    const { layerCost, embeddingCost, headCost } = layerCosts(model)
    expect(layerCost).toBe(6 * weights + 7 * 64 * 32)
    expect(embeddingCost).toBe(0)
    expect(headCost).toBe(6 * 256 * 64)
  })

  it('bytes are those of the formula at any cut', () => {
    for (const partition of [
      [2, 2, 2],
      [1, 4, 1],
      [3, 1, 2],
    ]) {
      const run = config({ stages: 3, partition, model: { layers: 6 }, optimizer: { kind: 'muon' } })
      const bytes = stageBytes(run)
      for (const [stage, layers] of partition.entries())
        expect(bytes(stage, layers)).toBe(estimateStageMemory(run, stage).total)
    }
  })

  it('more than a stage may take fits nowhere, and shards are cut small enough for their frames', () => {
    const wide = { dModel: 1024, heads: 8, kvHeads: 8, ffn: 4096, layers: 64 }
    const bytes = stageBytes(config({ stages: 2, replicas: 1, model: wide }))
    const most = Array.from({ length: 64 }, (_, i) => i + 1).filter((layers) => bytes(0, layers) < Infinity)
    expect(most).toEqual(Array.from({ length: most.length }, (_, i) => i + 1))
    expect(most.length).toBeLessThan(63)
    expect(bytes(0, most.length)).toBeLessThanOrEqual(MAX_STAGE_BYTES)
    // Ten such layers are 640 MiB of weights: moments of half of that would be more than a frame carries.
    const shared = (replicas: number) => {
      const run = config({ stages: 2, replicas, model: { ...wide, vocabSize: 256 }, optimizer: { moments: 'bf16' } })
      return stageBytes(run)(0, 10)
    }
    expect([1, 2, 8].map((replicas) => shared(replicas) < Infinity)).toEqual([true, true, true])
  })
})
