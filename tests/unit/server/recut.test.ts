/** Owns the proof that a checkpoint that is cut anew holds the same tensors, and is itself again when it is cut back. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { writeInitialCheckpoint } from '../../../server/checkpoints/initial.ts'
import { readBack } from '../../../server/checkpoints/readBack.ts'
import { checkpointPartition, recutCheckpoint } from '../../../server/checkpoints/recut.ts'
import type { BlobStore } from '../../../server/db/store.ts'
import { floatBytes, floatsOf, readSafetensors } from '../../../src/formats/safetensors.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { CHUNK_ELEMENTS } from '../../../src/protocol/control.ts'
import type { Chunk, StageCheckpoint } from '../../../src/protocol/control.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import { openFixture } from './appFixture.ts'
import type { Fixture } from './appFixture.ts'
import { dataset, run } from './store.compliance.ts'

// No side of any tensor is a multiple of where the next may start, and the vocabulary is none of its padding.
const config = runConfigSchema.parse({
  model: { dModel: 24, layers: 5, heads: 4, kvHeads: 2, ffn: 40, vocabSize: 300, blockSize: 16 },
  stages: 3,
  seed: 11,
})
const cut = (partition: number[]): RunConfig => ({ ...config, stages: partition.length, partition })
const kinds = ['parameters', 'firstMoment', 'secondMoment'] as const
type Kind = Chunk['kind']

let fixture: Fixture
let blobs: BlobStore
beforeEach(async () => {
  fixture = await openFixture()
  blobs = fixture.blobs
})
afterEach(() => fixture.close())

/** Every element of every vector is another number, padding included, and lies in chunks of `size` from shards of `shard`. */
async function trained(
  own: RunConfig,
  { size = CHUNK_ELEMENTS, shard = Infinity, of = kinds as readonly Kind[] } = {},
) {
  const stages: StageCheckpoint[] = []
  let next = 1
  for (const layout of runLayouts(own)) {
    const chunks: Chunk[] = []
    for (const kind of of) {
      const flat = Float32Array.from({ length: layout.length }, () => next++)
      for (let from = 0; from < flat.length; from += Math.min(shard, flat.length)) {
        const until = Math.min(flat.length, from + shard)
        for (let offset = from; offset < until; offset += size) {
          const slice = flat.subarray(offset, Math.min(until, offset + size))
          chunks.unshift({ kind, offset, length: slice.length, hash: await blobs.put(floatBytes(slice)) })
        }
      }
    }
    stages.unshift({ stage: layout.stage, chunks })
  }
  return stages
}

/** All of one kind by tensor; null for a stage without it. */
async function tensorsOf(own: RunConfig, stages: readonly StageCheckpoint[], kind: Kind) {
  const tensors = new Map<string, Float32Array | null>()
  for (const layout of runLayouts(own)) {
    const chunks = stages.find(({ stage }) => stage === layout.stage)!.chunks.filter((chunk) => chunk.kind === kind)
    const flat = new Float32Array(layout.length)
    for (const { offset, hash } of chunks) flat.set(floatsOf(await blobs.get(hash)), offset)
    for (const { name, offset, length } of layout.tensors)
      tensors.set(name, chunks.length > 0 ? flat.slice(offset, offset + length) : null)
  }
  return tensors
}

const byStage = (stages: readonly StageCheckpoint[]) => [...stages].sort((a, b) => a.stage - b.stage)

describe('cutting a checkpoint anew', () => {
  it.each([
    [
      [1, 2, 2],
      [3, 1, 1],
    ],
    [
      [1, 2, 2],
      [1, 1, 3],
    ],
    [
      [2, 1, 2],
      [1, 3, 1],
    ],
    [
      [2, 3],
      [1, 1, 1, 2],
    ],
    [[5], [1, 4]],
  ])('from %j to %j keeps every tensor, and back again every chunk', async (from, to) => {
    const before = await trained(cut(from))
    const after = await recutCheckpoint(blobs, before, config, to)
    expect(after.map(({ stage }) => stage)).toEqual(to.map((_, stage) => stage))
    for (const kind of kinds) {
      const tensors = await tensorsOf(cut(to), after, kind)
      expect(tensors.size).toBe(5 * 9 + 3)
      expect(tensors).toEqual(await tensorsOf(cut(from), before, kind))
    }
    const elements = runLayouts(cut(to)).reduce((sum, { length }) => sum + length, 0)
    expect(await readBack(blobs, after, runLayouts(cut(to)))).toBe(3 * 4 * elements)
    const sorted = ({ stage, chunks }: StageCheckpoint) => ({
      stage,
      chunks: kinds.flatMap((kind) => chunks.filter((chunk) => chunk.kind === kind)),
    })
    const back = await recutCheckpoint(blobs, after, config, from)
    expect(back.map(sorted)).toEqual(byStage(before).map(sorted))
  })

  it('reads chunks of any size, of shards that end anywhere', async () => {
    const before = await trained(cut([1, 2, 2]), { size: 1000, shard: 4160 })
    const after = await recutCheckpoint(blobs, before, config, [2, 2, 1])
    for (const kind of kinds)
      expect(await tensorsOf(cut([2, 2, 1]), after, kind)).toEqual(await tensorsOf(cut([1, 2, 2]), before, kind))
  })

  it('leaves moments out that are zeros, and writes zeros where others come along', async () => {
    const [own, next] = [cut([2, 1, 2]), cut([1, 3, 1])]
    const fresh = await trained(own, { of: ['parameters'] })
    const still = await recutCheckpoint(blobs, fresh, config, [1, 3, 1])
    expect(new Set(still.flatMap(({ chunks }) => chunks.map(({ kind }) => kind)))).toEqual(new Set(['parameters']))

    const whole = await trained(own)
    const part = whole.map((entry) => ({
      ...entry,
      chunks: entry.chunks.filter(({ kind }) => kind !== 'firstMoment' || entry.stage === 2),
    }))
    const tensors = await tensorsOf(next, await recutCheckpoint(blobs, part, config, [1, 3, 1]), 'firstMoment')
    const expected = await tensorsOf(own, whole, 'firstMoment')
    expect(tensors.get('model.embed_tokens.weight')).toBeNull()
    const at = (layer: number) => `model.layers.${layer}.mlp.up_proj.weight`
    expect(tensors.get(at(2))!.every((value) => value === 0)).toBe(true)
    expect(tensors.get(at(3))).toEqual(expected.get(at(3)))
  })

  it('leaves stages alone that hold what they held', async () => {
    const before = await trained(cut([1, 2, 1, 1]), { size: 777 })
    const after = await recutCheckpoint(blobs, before, config, [1, 1, 2, 1])
    const [first, second, third, last] = byStage(before)
    expect(after[0]).toEqual(first)
    expect(after[3]).toEqual(last)
    expect(after[1]).not.toEqual(second)
    expect(after[2]).not.toEqual(third)
  })

  it('holds few chunks at a time: it reads each about once, and writes none above 4 MiB', async () => {
    const large: RunConfig = { ...cut([1, 4]), model: { ...config.model, vocabSize: 65_536 } }
    const before = await writeInitialCheckpoint(blobs, large)
    const chunks = before.flatMap((entry) => entry.chunks)
    expect(chunks.length).toBeGreaterThan(3)
    let reads = 0
    const sizes: number[] = []
    const counted: BlobStore = {
      put: (bytes) => {
        sizes.push(bytes.byteLength)
        return blobs.put(bytes)
      },
      get: (hash) => {
        reads++
        return blobs.get(hash)
      },
      has: (hash) => blobs.has(hash),
      getRange: (...range) => blobs.getRange(...range),
    }
    const after = await recutCheckpoint(counted, before, large, [4, 1])
    expect(await tensorsOf({ ...large, partition: [4, 1] }, after, 'parameters')).toEqual(
      await tensorsOf(large, before, 'parameters'),
    )
    expect(Math.max(...sizes)).toBe(4 * CHUNK_ELEMENTS)
    // Matrices and norms of a stage lie apart, so that a chunk may be read for either.
    expect(reads).toBeLessThanOrEqual(2 * chunks.length)
  })

  it('refuses what is no cut of the model, and a checkpoint that is not whole', async () => {
    const before = await trained(cut([1, 2, 2]))
    await expect(recutCheckpoint(blobs, before, config, [1, 2, 3])).rejects.toThrow(RangeError)
    const code = 'checkpoint.incomplete'
    const without = (lost: (chunk: Chunk, stage: number) => boolean) =>
      before.map(({ stage, chunks }) => ({ stage, chunks: chunks.filter((chunk) => !lost(chunk, stage)) }))
    const noWeights = without(({ kind }, stage) => kind === 'parameters' && stage === 1)
    await expect(recutCheckpoint(blobs, noWeights, config, [2, 1, 2])).rejects.toMatchObject({ code })
    await expect(recutCheckpoint(blobs, before.slice(1), config, [3, 2])).rejects.toMatchObject({ code })
    const gap = before.map(({ stage, chunks }) => ({
      stage,
      chunks: chunks.map((chunk) => (chunk.kind === 'firstMoment' ? { ...chunk, offset: 64 } : chunk)),
    }))
    await expect(recutCheckpoint(blobs, gap, config, [2, 1, 2])).rejects.toMatchObject({ code })
  })
})

describe('the cut of a checkpoint', () => {
  it.each([[[5]], [[1, 4]], [[4, 1]], [[2, 1, 2]], [[1, 1, 1, 1, 1]]])('%j shows in its chunks', async (partition) => {
    expect(checkpointPartition(config, await trained(cut(partition)))).toEqual(partition)
  })

  it('is its own: a run that was cut anew still exports what it kept before', async () => {
    await fixture.store.insertDataset(dataset())
    const before = await writeInitialCheckpoint(blobs, cut([1, 2, 2]))
    const first = { runId: 'r1', step: 0, stages: before, bytes: 1, createdAt: 1 }
    await fixture.store.insertRun(run('r1', { config: cut([3, 1, 1]) }), first)
    const stages = await recutCheckpoint(blobs, before, config, [3, 1, 1])
    await fixture.store.insertCheckpoint({ ...first, step: 5, stages })
    const exported = async (step: number) => {
      const response = await fixture.app.inject(`/api/v1/runs/r1/export/model.safetensors?step=${step}`)
      return readSafetensors(response.rawPayload).tensors
    }
    const expected = await tensorsOf(cut([1, 2, 2]), before, 'parameters')
    for (const step of [0, 5]) {
      const tensors = await exported(step)
      expect(tensors.size).toBe(expected.size)
      for (const [name, values] of expected) expect(tensors.get(name)!.data).toEqual(values)
    }
  })
})
