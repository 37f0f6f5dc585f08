/** Proves the whole GPU model against the f64 reference, and its partitions and ways of keeping activations against each other. */
import { afterAll, describe, expect, it } from 'vitest'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import type { GpuStageModel, GpuStageOptions } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { stageLayouts } from '../../src/model/layout.ts'
import { activationBytes, logitRows } from '../../src/model/memory.ts'
import { referenceModel, trainStep, zeroState } from '../../src/model/reference/model.ts'
import type { Tensors } from '../../src/model/reference/model.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { RunConfig, RunConfigInput } from '../../src/protocol/runConfig.ts'
import { freshGpu, noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const small: RunConfigInput['model'] = {
  vocabSize: 67,
  dModel: 24,
  layers: 4,
  heads: 4,
  kvHeads: 2,
  ffn: 44,
  blockSize: 12,
}

function configOf(input: RunConfigInput, model: RunConfigInput['model'] = {}): RunConfig {
  const base = { stages: 1, batch: 6, microbatch: 2, codec: 'f32' as const, seed: 5 }
  return runConfigSchema.parse({ ...base, ...input, model: { ...small, ...model } })
}

/** Larger than the real first weights, so that every part of the model matters to the loss. */
function weightsOf(config: RunConfig, stages: number): Float32Array<ArrayBuffer>[] {
  return stageLayouts(config.model, stages).map((layout) => {
    return initialParameters(layout, config.seed).map((x, i) => (i < layout.decayLength ? 6 * x : x))
  })
}

function tensorsOf(config: RunConfig): Tensors {
  const layout = stageLayouts(config.model, 1)[0]!
  const flat = weightsOf(config, 1)[0]!
  return new Map(layout.tensors.map((t) => [t.name, Float64Array.from(flat.subarray(t.offset, t.offset + t.length))]))
}

function batchOf({ model, batch }: RunConfig, seed: number) {
  const ids = (offset: number) => {
    return Uint32Array.from(noise(batch * model.blockSize, seed + offset), (x) =>
      Math.floor(((x + 1) / 2) * model.vocabSize),
    )
  }
  return { tokens: ids(0), targets: ids(1), size: batch }
}

async function stagesOf(config: RunConfig, options?: GpuStageOptions): Promise<GpuStageModel[]> {
  const weights = weightsOf(config, config.stages)
  const models: GpuStageModel[] = []
  for (let stage = 0; stage < config.stages; stage++) {
    const model = await createGpuStageModel(gpu, { config, stage }, options)
    model.write('parameters', 0, weights[stage]!)
    models.push(model)
  }
  return models
}

/** All forwards before the first backward, as deep as a pipeline ever gets. Returns the mean loss of the batch. */
async function computeStep(config: RunConfig, models: readonly GpuStageModel[], batch: ReturnType<typeof batchOf>) {
  const last = models.at(-1)!
  const length = config.microbatch * config.model.blockSize
  const count = config.batch / config.microbatch
  const inputs: Uint8Array<ArrayBuffer>[] = []
  let loss = 0
  for (const model of models) model.beginStep(1)
  for (let m = 0; m < count; m++) {
    const tokens = batch.tokens.slice(m * length, (m + 1) * length)
    let boundary: Uint8Array<ArrayBuffer> | undefined
    for (const model of models.slice(0, -1)) boundary = await model.forward(m, boundary ? { boundary } : { tokens })
    if (boundary) inputs.push(boundary)
  }
  for (let m = 0; m < count; m++) {
    const part = (ids: Uint32Array) => ids.slice(m * length, (m + 1) * length)
    const boundary = inputs[m]
    const result = await last.forwardBackward(
      m,
      boundary ? { boundary } : { tokens: part(batch.tokens) },
      part(batch.targets),
    )
    loss += result.lossSum
    let gradient = result.inputGradient
    for (const model of models.slice(0, -1).toReversed()) gradient = await model.backward(m, gradient!)
    expect(gradient).toBeNull()
  }
  return loss / batch.tokens.length
}

/** The gradient of every tensor, whatever stage holds it. */
async function gradientsOf(models: readonly GpuStageModel[]): Promise<Map<string, Float32Array>> {
  const gradients = new Map<string, Float32Array>()
  for (const model of models) {
    const flat = await model.readGradient({ offset: 0, length: model.layout.length })
    for (const t of model.layout.tensors) gradients.set(t.name, flat.subarray(t.offset, t.offset + t.length))
  }
  return gradients
}

function expectClose(
  actual: ReadonlyMap<string, ArrayLike<number>>,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  tolerance: number,
) {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort())
  for (const [name, values] of expected) expect(relativeError(actual.get(name)!, values), name).toBeLessThan(tolerance)
}

const shapes: [string, RunConfigInput['model']][] = [
  ['grouped heads', {}],
  ['tied embeddings, one head for keys', { tieEmbeddings: true, kvHeads: 1 }],
  ['sides that are no multiple of 4', { dModel: 30, heads: 3, kvHeads: 3, ffn: 41, vocabSize: 53, blockSize: 7 }],
]

describe('one stage against the reference', () => {
  it.each(shapes)('%s: loss, gradients and three updates', async (_, shape) => {
    const config = configOf({}, shape)
    const tensors = tensorsOf(config)
    const reference = referenceModel(config.model, tensors)
    const state = zeroState(tensors)
    const [model] = await stagesOf(config)
    const whole = { offset: 0, length: model!.layout.length }
    for (let step = 1; step <= 3; step++) {
      const batch = batchOf(config, 10 * step)
      const { gradients } = reference.lossAndGradients(batch.tokens, batch.targets, batch.size)
      const loss = await computeStep(config, [model!], batch)
      expectClose(await gradientsOf([model!]), gradients, step === 1 ? 2e-5 : 1e-3)

      const expected = trainStep(reference, state, config.optimizer, 1e-2, batch)
      expect(Math.abs(loss / expected.loss - 1)).toBeLessThan(1e-5)
      const sum = await model!.readGradient(whole)
      // A replica that is alone contributes what is there already.
      const squaredNorm = await model!.reduceGradient(whole, step === 1 ? [sum] : [])
      expect(Math.abs(Math.sqrt(squaredNorm) / expected.gradNorm - 1)).toBeLessThan(1e-4)
      const scale = Math.min(1, config.optimizer.gradClip / (expected.gradNorm + 1e-6))
      await model!.update(whole, { lr: 1e-2, scale, step })
    }
    const flat = await model!.read('parameters', whole)
    const trained = new Map(model!.layout.tensors.map((t) => [t.name, flat.subarray(t.offset, t.offset + t.length)]))
    expectClose(trained, tensors, 1e-3)

    const held = batchOf(config, 99)
    const { loss } = reference.lossAndGradients(held.tokens, held.targets, held.size)
    const sum = await model!.evaluate({ tokens: held.tokens }, held.targets)
    expect(Math.abs(sum / held.tokens.length / loss - 1)).toBeLessThan(1e-4)
    model!.destroy()
  })
})

describe('a large vocabulary', () => {
  it('is scored in blocks of rows whose logits fit, with the same gradients', async () => {
    const model = { vocabSize: 65_536, dModel: 4, heads: 1, kvHeads: 1, layers: 1, ffn: 4, blockSize: 130 }
    const config = configOf({ batch: 1, microbatch: 1 }, model)
    expect(logitRows(config, 130)).toBeLessThan(130)
    const tensors = tensorsOf(config)
    const batch = batchOf(config, 8)
    const expected = referenceModel(config.model, tensors).lossAndGradients(batch.tokens, batch.targets, 1)
    const [stage] = await stagesOf(config)
    expect(Math.abs((await computeStep(config, [stage!], batch)) / expected.loss - 1)).toBeLessThan(1e-5)
    expectClose(await gradientsOf([stage!]), expected.gradients, 1e-4)
    stage!.destroy()
  })
})

describe('partitions', () => {
  it.each([2, 4])('%i stages compute what one computes', async (stages) => {
    const one = await stagesOf(configOf({}))
    const batch = batchOf(configOf({}), 1)
    const loss = await computeStep(configOf({}), one, batch)
    const config = configOf({ stages })
    const several = await stagesOf(config)
    expect(Math.abs((await computeStep(config, several, batch)) / loss - 1)).toBeLessThan(1e-6)
    expectClose(await gradientsOf(several), await gradientsOf(one), 1e-5)

    let boundary = await several[0]!.forwardOnly({ tokens: batch.tokens })
    for (const model of several.slice(1, -1)) boundary = await model.forwardOnly({ boundary })
    const sum = await several.at(-1)!.evaluate({ boundary }, batch.targets)
    expect(Math.abs(sum / batch.tokens.length / loss - 1)).toBeLessThan(1e-6)
    for (const model of [...one, ...several]) model.destroy()
  })

  it.each([
    ['f16', 3e-3],
    ['int8', 6e-2],
  ] as const)('%s boundaries stay near the exact gradient', async (codec, tolerance) => {
    const exact = await stagesOf(configOf({ stages: 2 }))
    const rounded = await stagesOf(configOf({ stages: 2, codec }))
    const batch = batchOf(configOf({}), 2)
    const loss = await computeStep(configOf({ stages: 2 }), exact, batch)
    expect(Math.abs((await computeStep(configOf({ stages: 2, codec }), rounded, batch)) / loss - 1)).toBeLessThan(
      tolerance,
    )
    expectClose(await gradientsOf(rounded), await gradientsOf(exact), tolerance)
    for (const model of [...exact, ...rounded]) model.destroy()
  })
})

describe('activations', () => {
  it('recomputes bit for bit what it did not keep, and gives every byte back', async () => {
    const config = configOf({ stages: 2 })
    const batch = batchOf(config, 3)
    const before = gpu.pool.bytesInUse
    const kept = await stagesOf(config)
    await computeStep(config, kept, batch)
    const lent = gpu.pool.bytesInUse
    await computeStep(config, kept, batch)
    expect(gpu.pool.bytesInUse).toBe(lent)
    const expected = await gradientsOf(kept)
    expect(kept[0]!.work.recomputed).toBe(0)
    const one = activationBytes(config, kept[0]!.layout)
    // None, and one of three microbatches.
    for (const [activationBudget, recomputed] of [
      [0, 3],
      [one, 2],
    ] as const) {
      const models = await stagesOf(config, { activationBudget })
      await computeStep(config, models, batch)
      expect(models[0]!.work.recomputed).toBe(recomputed)
      for (const [name, values] of await gradientsOf(models)) expect(values, name).toEqual(expected.get(name))
      for (const model of models) model.destroy()
    }
    for (const model of kept) model.destroy()
    expect(gpu.pool.bytesInUse).toBe(before)
  })

  it('starts a step afresh, whatever the last one left', async () => {
    const config = configOf({ stages: 2 })
    const [first] = await stagesOf(config)
    const { tokens } = batchOf(config, 4)
    const length = config.microbatch * config.model.blockSize
    const lent = gpu.pool.bytesInUse
    const boundary = await first!.forward(0, { tokens: tokens.slice(0, length) })
    await first!.forward(0, { tokens: tokens.slice(0, length) })
    await first!.forward(1, { tokens: tokens.slice(length, 2 * length) })
    await first!.backward(1, boundary)
    first!.beginStep(1)
    expect(gpu.pool.bytesInUse).toBe(lent)
    const gradient = await first!.readGradient({ offset: 0, length: first!.layout.length })
    expect(gradient.every((x) => x === 0)).toBe(true)
    await expect(first!.backward(0, boundary)).rejects.toMatchObject({ code: 'stage.unknown_microbatch' })
    first!.destroy()
  })
})

describe('products in f16', () => {
  it.skipIf(gpu.features.has('shader-f16'))('are products in f32 where the device has no halves', async () => {
    const batch = batchOf(configOf({}), 6)
    const [exact] = await stagesOf(configOf({}))
    const [asked] = await stagesOf(configOf({ products: 'f16' }))
    expect(await computeStep(configOf({}), [asked!], batch)).toBe(await computeStep(configOf({}), [exact!], batch))
    for (const model of [exact!, asked!]) model.destroy()
  })

  it.runIf(gpu.features.has('shader-f16'))('stay near those in f32', async () => {
    const batch = batchOf(configOf({}), 6)
    const [exact] = await stagesOf(configOf({}))
    const [asked] = await stagesOf(configOf({ products: 'f16' }))
    const loss = await computeStep(configOf({}), [exact!], batch)
    expect(Math.abs((await computeStep(configOf({}), [asked!], batch)) / loss - 1)).toBeLessThan(1e-2)
    expectClose(await gradientsOf([asked!]), await gradientsOf([exact!]), 3e-2)
    for (const model of [exact!, asked!]) model.destroy()
  })
})

describe('borders', () => {
  it('sums contributions in their order and updates one shard only', async () => {
    const config = configOf({})
    const [model] = await stagesOf(config)
    const range = { offset: 64, length: 640 }
    const parts = [noise(640, 1, 1e4), noise(640, 2, 1e-4), noise(640, 3)]
    const squaredNorm = await model!.reduceGradient(range, parts)
    const expected = Float32Array.from({ length: 640 }, (_, i) => {
      return Math.fround(Math.fround(parts[0]![i]! + parts[1]![i]!) + parts[2]![i]!)
    })
    expect(await model!.readGradient(range)).toEqual(expected)
    const norm = expected.reduce((sum, x) => sum + x * x, 0)
    expect(Math.abs(squaredNorm / norm - 1)).toBeLessThan(1e-5)
    await expect(model!.reduceGradient(range, [parts[0]!.subarray(1)])).rejects.toThrow(RangeError)

    const whole = { offset: 0, length: model!.layout.length }
    const before = await model!.read('parameters', whole)
    await model!.update(range, { lr: 0.01, scale: 1, step: 1 })
    const after = await model!.read('parameters', whole)
    const changed = [...after.keys()].filter((i) => after[i] !== before[i])
    expect(changed[0]).toBeGreaterThanOrEqual(64)
    expect(changed.at(-1)).toBeLessThan(704)
    expect(changed.length).toBeGreaterThan(600)
    model!.destroy()
  })

  it('takes a sum back over one shard: this replica’s own gradient again, or none', async () => {
    const config = configOf({})
    const [model] = await stagesOf(config)
    const whole = { offset: 0, length: model!.layout.length }
    const [before, shard, behind] = [
      { offset: 0, length: 64 },
      { offset: 64, length: 640 },
      { offset: 704, length: model!.layout.length - 704 },
    ]
    const batch = batchOf(config, 11)
    model!.beginStep(1)
    await model!.forwardBackward(0, { tokens: batch.tokens.slice(0, 24) }, batch.targets.slice(0, 24))
    const own = await model!.readGradient(whole)
    const ofShard = own.slice(64, 704)
    await model!.reduceGradient(shard, [ofShard, noise(640, 4)])
    expect(await model!.readGradient(shard)).not.toEqual(ofShard)

    model!.restoreGradient(shard, ofShard)
    expect(await model!.readGradient(whole)).toEqual(own)
    // What is computed next adds to it, as if nothing had been summed.
    await model!.forwardBackward(1, { tokens: batch.tokens.slice(24, 48) }, batch.targets.slice(24, 48))
    const after = await model!.readGradient(whole)
    model!.beginStep(1)
    await model!.forwardBackward(0, { tokens: batch.tokens.slice(0, 24) }, batch.targets.slice(0, 24))
    await model!.forwardBackward(1, { tokens: batch.tokens.slice(24, 48) }, batch.targets.slice(24, 48))
    expect(await model!.readGradient(whole)).toEqual(after)

    model!.restoreGradient(shard, null)
    expect((await model!.readGradient(shard)).every((x) => x === 0)).toBe(true)
    for (const range of [before, behind]) {
      const { offset, length } = range
      expect(await model!.readGradient(range)).toEqual(after.slice(offset, offset + length))
    }
    expect(() => model!.restoreGradient(shard, ofShard.subarray(1))).toThrow(RangeError)
    model!.destroy()
  })

  it('writes and reads back any range', async () => {
    const [model] = await stagesOf(configOf({}))
    const values = noise(1000, 7)
    model!.write('secondMoment', 128, values)
    const read = await model!.read('secondMoment', { offset: 127, length: 1002 })
    expect(read).toEqual(Float32Array.from([0, ...values, 0]))
    model!.destroy()
  })

  it('refuses input that cannot be of this run', async () => {
    const [first, second] = await stagesOf(configOf({ stages: 2 }))
    const wrong = { code: 'stage.input' }
    await expect(first!.forward(0, { boundary: new Uint8Array(4) })).rejects.toMatchObject(wrong)
    await expect(first!.forward(0, { tokens: new Uint32Array(13) })).rejects.toMatchObject(wrong)
    await expect(first!.forward(0, { tokens: new Uint32Array(12).fill(67) })).rejects.toMatchObject(wrong)
    await expect(
      second!.evaluate({ boundary: new Uint8Array(12 * 24 * 4 - 1) }, new Uint32Array(12)),
    ).rejects.toMatchObject(wrong)
    await expect(
      second!.evaluate({ boundary: new Uint8Array(12 * 24 * 4) }, new Uint32Array(11)),
    ).rejects.toMatchObject(wrong)
    await first!.forward(0, { tokens: new Uint32Array(12) })
    await expect(first!.backward(0, new Uint8Array(8))).rejects.toMatchObject(wrong)
    for (const model of [first!, second!]) model.destroy()
  })

  it('says gpu.lost from any call once the device is gone', async () => {
    const doomed = await freshGpu()
    const config = configOf({})
    const model = await createGpuStageModel(doomed, { config, stage: 0 })
    const tokens = new Uint32Array(12)
    const running = model.evaluate({ tokens }, tokens)
    doomed.device.destroy()
    await expect(running).rejects.toMatchObject({ code: 'gpu.lost' })
    await expect(model.evaluate({ tokens }, tokens)).rejects.toMatchObject({ code: 'gpu.lost' })
    await expect(model.read('parameters', { offset: 0, length: 4 })).rejects.toMatchObject({ code: 'gpu.lost' })
  })
})
