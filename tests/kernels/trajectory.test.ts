/** The trajectory gate: fifty steps with every kernel variant forced follow the f64 reference, so none may drift unseen. */
import { afterAll, describe, expect, it } from 'vitest'
import { ATTENTION_VARIANTS } from '../../src/gpu/kernels/attention.ts'
import { MATMUL_VARIANTS } from '../../src/gpu/kernels/matmul.ts'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../src/model/init.ts'
import { stageLayouts } from '../../src/model/layout.ts'
import { learningRate } from '../../src/model/learningRate.ts'
import { clipScale } from '../../src/model/reference/adamw.ts'
import { referenceModel, trainStep, zeroState } from '../../src/model/reference/model.ts'
import type { KernelChoice } from '../../src/model/stageKernels.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { noise, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const STEPS = 50
/** Largest relative difference of any step's loss. Differences in rounding grow with the steps. */
const TOLERANCE = 2e-4

const config = runConfigSchema.parse({
  model: { vocabSize: 32, dModel: 64, layers: 2, heads: 2, kvHeads: 1, ffn: 64, blockSize: 16 },
  optimizer: { lr: 5e-3, minLr: 5e-4, warmupSteps: 10 },
  ...{ stages: 1, batch: 4, microbatch: 4, steps: STEPS, codec: 'f32' },
})
const layout = stageLayouts(config.model, 1)[0]!
const start = initialParameters(layout, 3)

/** Text of a kind that can be learned: every token follows from the one before it, but for some noise. */
function batchOf(step: number) {
  const { blockSize, vocabSize } = config.model
  const rows = config.batch * blockSize
  const dice = noise(rows + 1, step)
  const text = new Uint32Array(rows + 1)
  text.forEach((_, i) => {
    text[i] = dice[i]! > 0.6 ? Math.floor(dice[i]! * vocabSize) : ((text[i - 1] ?? 0) * 5 + 3) % vocabSize
  })
  return { tokens: text.slice(0, rows), targets: text.slice(1), size: config.batch }
}

function referenceLosses(): number[] {
  const tensors = new Map(
    layout.tensors.map((t) => [t.name, Float64Array.from(start.subarray(t.offset, t.offset + t.length))]),
  )
  const reference = referenceModel(config.model, tensors)
  const state = zeroState(tensors)
  return Array.from({ length: STEPS }, (_, i) => {
    return trainStep(reference, state, config.optimizer, learningRate(config.optimizer, i + 1, STEPS), batchOf(i + 1))
      .loss
  })
}

async function losses(kernels: KernelChoice): Promise<number[]> {
  const model = await createGpuStageModel(gpu, { config, stage: 0 }, { kernels })
  model.write('parameters', 0, start)
  const whole = { offset: 0, length: layout.length }
  const found: number[] = []
  for (let step = 1; step <= STEPS; step++) {
    const { tokens, targets } = batchOf(step)
    model.beginStep(step)
    const { lossSum } = await model.forwardBackward(0, { tokens }, targets)
    const norm = Math.sqrt(await model.reduceGradient(whole, []))
    const scale = clipScale(norm, config.optimizer.gradClip)
    await model.update(whole, { lr: learningRate(config.optimizer, step, STEPS), scale, step })
    found.push(lossSum / tokens.length)
  }
  model.destroy()
  return found
}

const expected = referenceLosses()

function expectToFollow(actual: readonly number[]) {
  const worst = Math.max(...actual.map((loss, i) => Math.abs(loss / expected[i]! - 1)))
  expect(worst).toBeLessThan(TOLERANCE)
}

it('has something to follow', () => {
  expect(expected[0]).toBeGreaterThan(3.2)
  expect(expected.at(-1)).toBeLessThan(2.7)
})

describe('fifty steps follow the reference', () => {
  const suited = MATMUL_VARIANTS.filter((variant) => variant.suits(gpu))
  it.each(suited.map(({ name }) => name))('matmul %s', async (name) => {
    expectToFollow(await losses({ matmul: [name] }))
  })

  it.each(ATTENTION_VARIANTS)('attention %s', async (attention) => {
    expectToFollow(await losses({ attention }))
  })
})
