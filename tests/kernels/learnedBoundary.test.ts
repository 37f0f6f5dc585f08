/** Proves stages with learned boundaries: loss, gradients and updates against the reference, recomputation, and what they refuse. */
import { afterAll, describe, expect, it } from 'vitest'
import { boundaryBytes } from '../../src/codec/boundary.ts'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import type { GpuStageModel } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { runLayouts } from '../../src/model/layout.ts'
import { clipScale } from '../../src/model/reference/adamw.ts'
import { referenceModel, trainStep, zeroState } from '../../src/model/reference/model.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { RunConfig, RunConfigInput } from '../../src/protocol/runConfig.ts'
import type { StageInput } from '../../src/stage/model.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

function configOf(input: RunConfigInput, model: RunConfigInput['model'] = {}): RunConfig {
  const small = { vocabSize: 61, dModel: 32, layers: 4, heads: 4, kvHeads: 2, ffn: 44, blockSize: 12, ...model }
  const base = { stages: 2, batch: 6, microbatch: 2, codec: 'bottleneck-f32', codecWidth: 3, seed: 5 } as const
  return runConfigSchema.parse({ ...base, ...input, model: small })
}

/** Larger than the real first weights, second matrices not zero, so that every part of the boundary matters. */
function weightsOf(config: RunConfig): Float32Array<ArrayBuffer>[] {
  return runLayouts(config).map((layout) => {
    const flat = initialParameters(layout, config.seed).map((x, i) => (i < layout.decayLength ? 6 * x : x))
    for (const { name, init, offset, length } of layout.tensors) {
      if (init === 0) flat.set(noise(length, name.length + layout.stage, 0.4), offset)
    }
    return flat
  })
}

function batchOf({ model, batch }: RunConfig, seed: number) {
  const ids = (offset: number) =>
    Uint32Array.from(noise(batch * model.blockSize, seed + offset), (x) => Math.floor(((x + 1) / 2) * model.vocabSize))
  return { tokens: ids(0), targets: ids(1), size: batch }
}

async function stagesOf(config: RunConfig, activationBudget?: number): Promise<GpuStageModel[]> {
  const weights = weightsOf(config)
  const models: GpuStageModel[] = []
  for (let stage = 0; stage < config.stages; stage++) {
    const options = activationBudget === undefined ? {} : { activationBudget }
    const model = await createGpuStageModel(gpu, { config, stage }, options)
    model.write('parameters', 0, weights[stage]!)
    models.push(model)
  }
  return models
}

/** All forwards before the first backward. Returns the mean loss. */
async function computeStep(config: RunConfig, models: readonly GpuStageModel[], batch: ReturnType<typeof batchOf>) {
  const length = config.microbatch * config.model.blockSize
  const parts = Array.from({ length: config.batch / config.microbatch }, (_, m) => {
    const cut = (ids: Uint32Array) => ids.slice(m * length, (m + 1) * length)
    return { tokenIds: cut(batch.tokens), targets: cut(batch.targets) }
  })
  for (const model of models) model.beginStep(1)
  const inputs: StageInput[] = []
  for (const [m, { tokenIds }] of parts.entries()) {
    let input: StageInput = { tokens: tokenIds }
    for (const model of models.slice(0, -1)) {
      const boundary = await model.forward(m, input)
      expect(boundary.length).toBe(boundaryBytes(config, length))
      input = { boundary, tokenIds }
    }
    inputs.push(input)
  }
  let loss = 0
  for (const [m, { targets }] of parts.entries()) {
    const { lossSum, inputGradient } = await models.at(-1)!.forwardBackward(m, inputs[m]!, targets)
    loss += lossSum
    let gradient = inputGradient
    for (const model of models.slice(0, -1).toReversed()) gradient = await model.backward(m, gradient!)
    expect(gradient).toBeNull()
  }
  return loss / batch.tokens.length
}

const whole = ({ layout }: GpuStageModel) => ({ offset: 0, length: layout.length })

/** Every tensor of all stages, from their vectors. */
async function tensorsOf(models: readonly GpuStageModel[], read: (model: GpuStageModel) => Promise<Float32Array>) {
  const found = new Map<string, Float32Array>()
  for (const model of models) {
    const flat = await read(model)
    for (const { name, offset, length } of model.layout.tensors) found.set(name, flat.subarray(offset, offset + length))
  }
  return found
}

const gradientsOf = (models: readonly GpuStageModel[]) => tensorsOf(models, (model) => model.readGradient(whole(model)))

function referenceOf(config: RunConfig) {
  const weights = weightsOf(config)
  const layouts = runLayouts(config)
  const tensors = layouts.flatMap((layout, s) =>
    layout.tensors.map(({ name, offset, length }) => {
      return [name, Float64Array.from(weights[s]!.subarray(offset, offset + length))] as const
    }),
  )
  const { codecWidth: codeWidth, seed } = config
  const partition = layouts.map(({ layerCount }) => layerCount)
  return referenceModel(config.model, new Map(tensors), { partition, codeWidth, seed })
}

function expectClose(
  actual: ReadonlyMap<string, Float32Array>,
  expected: ReadonlyMap<string, Float64Array>,
  most: number,
) {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort())
  for (const [name, values] of expected) expect(relativeError(actual.get(name)!, values), name).toBeLessThan(most)
}

describe.each([
  ['two stages, AdamW', configOf({})],
  ['four stages, Muon', configOf({ stages: 4, optimizer: { kind: 'muon' } })],
  [
    'uneven stages, sides that are no multiple of 4',
    configOf(
      { partition: [1, 3], codecWidth: 1 },
      { dModel: 30, heads: 3, kvHeads: 3, ffn: 41, vocabSize: 53, blockSize: 8 },
    ),
  ],
  ['a code as wide as the stream', configOf({ codecWidth: 32 })],
])('%s', (_, config) => {
  it('computes loss, gradients and three updates as the reference does', async () => {
    const reference = referenceOf(config)
    const state = zeroState(reference.parameters)
    const models = await stagesOf(config)
    for (let step = 1; step <= 3; step++) {
      const batch = batchOf(config, 10 * step)
      const { gradients } = reference.lossAndGradients(batch.tokens, batch.targets, batch.size)
      const loss = await computeStep(config, models, batch)
      expectClose(await gradientsOf(models), gradients, step === 1 ? 3e-5 : 2e-3)
      const expected = trainStep(reference, state, config.optimizer, 1e-2, batch)
      expect(Math.abs(loss / expected.loss - 1)).toBeLessThan(2e-5)
      const scale = clipScale(expected.gradNorm, config.optimizer.gradClip)
      for (const model of models) {
        await model.reduceGradient(whole(model), [])
        await model.update(whole(model), { lr: 1e-2, scale, step })
      }
    }
    const trained = await tensorsOf(models, (model) => model.read('parameters', whole(model)))
    expectClose(trained, reference.parameters, 2e-3)
    for (const model of models) model.destroy()
  })
})

describe('a learned boundary', () => {
  it('in halves stays near the exact one', async () => {
    const exact = await stagesOf(configOf({}))
    const config = configOf({ codec: 'bottleneck-f16' })
    const rounded = await stagesOf(config)
    const batch = batchOf(config, 2)
    const loss = await computeStep(configOf({}), exact, batch)
    expect(Math.abs((await computeStep(config, rounded, batch)) / loss - 1)).toBeLessThan(3e-3)
    const expected = new Map([...(await gradientsOf(exact))].map(([name, g]) => [name, Float64Array.from(g)]))
    expectClose(await gradientsOf(rounded), expected, 6e-3)
    for (const model of [...exact, ...rounded]) model.destroy()
  })

  it('is recomputed bit for bit, and gives every byte back', async () => {
    const config = configOf({ stages: 4, codec: 'bottleneck-f16' })
    const batch = batchOf(config, 3)
    const before = gpu.pool.bytesInUse
    const kept = await stagesOf(config)
    const loss = await computeStep(config, kept, batch)
    const lent = gpu.pool.bytesInUse
    expect(await computeStep(config, kept, batch)).toBe(loss)
    expect(gpu.pool.bytesInUse).toBe(lent)
    const expected = await gradientsOf(kept)
    const again = await stagesOf(config, 0)
    expect(await computeStep(config, again, batch)).toBe(loss)
    expect(again[1]!.work.recomputed).toBe(3)
    for (const [name, values] of await gradientsOf(again)) expect(values, name).toEqual(expected.get(name))
    for (const model of [...kept, ...again]) model.destroy()
    expect(gpu.pool.bytesInUse).toBe(before)
  })

  it('scores what it trains on alike', async () => {
    const config = configOf({ codec: 'bottleneck-f16' })
    const models = await stagesOf(config)
    const batch = batchOf(config, 4)
    const loss = await computeStep(config, models, batch)
    const { tokens, targets } = batch
    const boundary = await models[0]!.forwardOnly({ tokens })
    const sum = await models[1]!.evaluate({ boundary, tokenIds: tokens }, targets)
    expect(Math.abs(sum / tokens.length / loss - 1)).toBeLessThan(1e-5)
    for (const model of models) model.destroy()
  })

  it('refuses an input without the ids of its tokens, or with ids that are none', async () => {
    const config = configOf({})
    const [, last] = await stagesOf(config)
    const rows = config.microbatch * config.model.blockSize
    const boundary = new Uint8Array(boundaryBytes(config, rows))
    const targets = new Uint32Array(rows)
    const refused = { code: 'stage.input' }
    await expect(last!.evaluate({ boundary }, targets)).rejects.toMatchObject(refused)
    await expect(last!.evaluate({ boundary, tokenIds: targets.subarray(1) }, targets)).rejects.toMatchObject(refused)
    const beyond = targets.with(3, config.model.vocabSize)
    await expect(last!.evaluate({ boundary, tokenIds: beyond }, targets)).rejects.toMatchObject(refused)
    last!.destroy()
  })
})
