/** Proves that what updates a stage is the same on one replica and on two, and that bf16 moments survive a checkpoint. */
import { afterAll, describe, expect, it } from 'vitest'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import type { GpuStageModel } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { momentBytes, stageShards } from '../../src/model/optimizerShards.ts'
import { clipScale } from '../../src/model/reference/adamw.ts'
import type { Shard } from '../../src/protocol/routing.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { RunConfig, RunConfigInput } from '../../src/protocol/runConfig.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const even = { vocabSize: 67, dModel: 24, layers: 2, heads: 4, kvHeads: 2, ffn: 44, blockSize: 12 }
const odd = { vocabSize: 53, dModel: 30, layers: 2, heads: 3, kvHeads: 3, ffn: 41, blockSize: 7 }

function configOf(optimizer: RunConfigInput['optimizer'], model: RunConfigInput['model'] = even): RunConfig {
  return runConfigSchema.parse({ model, optimizer, stages: 1, batch: 4, microbatch: 1, codec: 'f32', seed: 5 })
}

async function replicasOf(config: RunConfig, count: number): Promise<GpuStageModel[]> {
  const models: GpuStageModel[] = []
  for (let replica = 0; replica < count; replica++) {
    const model = await createGpuStageModel(gpu, { config, stage: 0 })
    model.write('parameters', 0, initialParameters(model.layout, config.seed))
    models.push(model)
  }
  return models
}

const ids = (config: RunConfig, seed: number) =>
  Uint32Array.from(noise(config.model.blockSize, seed), (x) => Math.floor(((x + 1) / 2) * config.model.vocabSize))

/** One step as the replicas of a stage do it: microbatches in turn, shards reduced and updated by one, then exchanged. */
async function trainStep(config: RunConfig, models: readonly GpuStageModel[], step: number): Promise<void> {
  for (const model of models) model.beginStep(1)
  for (let m = 0; m < config.batch; m++) {
    const tokens = ids(config, 100 * step + m)
    await models[m % models.length]!.forwardBackward(m, { tokens }, ids(config, 100 * step + m + 50))
  }
  const shards = stageShards(models[0]!.layout, models.length, config.optimizer)
  let squares = 0
  for (const [owner, shard] of shards.entries()) {
    const contributions = await Promise.all(models.map((model) => model.readGradient(shard)))
    squares += await models[owner]!.reduceGradient(shard, models.length > 1 ? contributions : [])
  }
  const scale = clipScale(Math.sqrt(squares), config.optimizer.gradClip)
  for (const [owner, shard] of shards.entries()) {
    await models[owner]!.update(shard, { lr: 0.01, scale, step })
    const values = await models[owner]!.read('parameters', shard)
    for (const other of models) if (other !== models[owner]) other.write('parameters', shard.offset, values)
  }
}

const whole = ({ layout }: GpuStageModel): Shard => ({ offset: 0, length: layout.length })

describe.each([
  ['even sides', even],
  ['odd sides', odd],
])('%s', (_, shape) => {
  it.each([{ kind: 'adamw' }, { kind: 'muon' }] as const)(
    'train alike on one replica and on two: $kind',
    async (given) => {
      // An epsilon above the gradients' rounding: AdamW makes a whole step of what nearly cancelled, and the two orders of
      // its sum differ there by nothing else.
      const config = configOf({ ...given, eps: 1e-5 }, shape)
      const [one] = await replicasOf(config, 1)
      const two = await replicasOf(config, 2)
      const start = await one!.read('parameters', whole(one!))
      for (let step = 1; step <= 3; step++) {
        await trainStep(config, [one!], step)
        await trainStep(config, two, step)
      }
      const alone = await one!.read('parameters', whole(one!))
      const [first, second] = await Promise.all(two.map((model) => model.read('parameters', whole(model))))
      expect(first).toEqual(second)
      expect(relativeError(first!, alone)).toBeLessThan(1e-5)
      expect(relativeError(alone, start)).toBeGreaterThan(1e-2)
      // The padding between tensors stays zero.
      const inside = new Set(
        one!.layout.tensors.flatMap((t) => Array.from({ length: t.length }, (_, i) => t.offset + i)),
      )
      expect(alone.every((x, i) => inside.has(i) || x === 0)).toBe(true)
      for (const model of [one!, ...two]) model.destroy()
    },
  )

  it('goes on from a checkpoint of bf16 moments as if nothing had been', async () => {
    for (const kind of ['adamw', 'muon'] as const) {
      const config = configOf({ kind, moments: 'bf16' }, shape)
      const [model, resumed] = await replicasOf(config, 2)
      for (let step = 1; step <= 2; step++) await trainStep(config, [model!], step)
      for (const vector of ['parameters', 'firstMoment', 'secondMoment'] as const) {
        const values = await model!.read(vector, whole(model!))
        expect(values.some((x) => x !== 0)).toBe(true)
        // In two parts, as chunks come.
        const cut = 640
        resumed!.write(vector, 0, values.subarray(0, cut))
        resumed!.write(vector, cut, values.subarray(cut))
        expect(await resumed!.read(vector, whole(model!))).toEqual(values)
      }
      for (const each of [model!, resumed!]) await trainStep(config, [each], 3)
      expect(await resumed!.read('parameters', whole(model!))).toEqual(await model!.read('parameters', whole(model!)))
      for (const each of [model!, resumed!]) each.destroy()
    }
  })
})

it('refuses to update half a matrix', async () => {
  const [model] = await replicasOf(configOf({ kind: 'muon' }), 1)
  const matrix = model!.layout.tensors.find(({ name }) => name.includes('o_proj'))!
  const range = { offset: 0, length: matrix.offset + 64 }
  await expect(model!.update(range, { lr: 0.01, scale: 1, step: 1 })).rejects.toThrow(RangeError)
  model!.destroy()
})

it('takes the memory that the formula says: bf16 half, Muon no second moment of its matrices', async () => {
  const bytes = async (optimizer: RunConfigInput['optimizer']) => {
    const config = configOf(optimizer, { ...even, dModel: 128, ffn: 384 })
    const before = gpu.pool.bytesInUse
    const [model] = await replicasOf(config, 1)
    const taken = gpu.pool.bytesInUse - before
    const formula = momentBytes(model!.layout, config.optimizer)
    model!.destroy()
    return { taken, formula }
  }
  const full = await bytes({})
  for (const optimizer of [{ moments: 'bf16' }, { kind: 'muon' }, { kind: 'muon', moments: 'bf16' }] as const) {
    const less = await bytes(optimizer)
    expect(less.formula).toBeLessThan(0.6 * full.formula)
    // The pool rounds up.
    expect(Math.abs((full.taken - less.taken) / (full.formula - less.formula) - 1)).toBeLessThan(0.25)
  }
})
