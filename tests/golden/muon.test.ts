/** Judges Muon by PyTorch: ten clipped steps of the reference and of the GPU model, on one stage and on two. */
import { afterAll, describe, expect, it } from 'vitest'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import { clipScale } from '../../src/model/reference/adamw.ts'
import { referenceModel, trainStep, zeroState } from '../../src/model/reference/model.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { StageInput, StageModel } from '../../src/stage/model.ts'
import { testGpu } from '../kernels/gpu.ts'
import { GOLDEN_NAMES, readGolden, readMuonGolden } from './golden.ts'
import type { Golden } from './golden.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

async function stagesOf({ config: model, optimizer, batch, parameters }: Golden, stages: number) {
  const config = runConfigSchema.parse({ model, optimizer, batch, microbatch: batch, stages, codec: 'f32' })
  const models: StageModel[] = []
  for (let stage = 0; stage < stages; stage++) {
    const made = await createGpuStageModel(gpu, { config, stage })
    for (const { name, offset } of made.layout.tensors) {
      made.write('parameters', offset, Float32Array.from(parameters.get(name)!))
    }
    models.push(made)
  }
  return models
}

describe.each(GOLDEN_NAMES)('Muon on the %s model', (name) => {
  const golden = readMuonGolden(name)

  it('trains otherwise than AdamW', () => {
    expect(golden.steps.at(-1)!.loss).not.toBeCloseTo(readGolden(name).steps.at(-1)!.loss, 2)
  })

  it('takes the reference where it takes PyTorch', () => {
    const model = referenceModel(golden.config, new Map([...golden.parameters].map(([k, v]) => [k, v.slice()])))
    const state = zeroState(model.parameters)
    for (const { rate, tokens, targets, loss, gradNorm } of golden.steps) {
      const result = trainStep(model, state, golden.optimizer, rate, { tokens, targets, size: golden.batch })
      expect(Math.abs(result.loss / loss - 1)).toBeLessThan(1e-9)
      expect(Math.abs(result.gradNorm / gradNorm - 1)).toBeLessThan(1e-8)
    }
  })

  it.each(golden.config.tieEmbeddings ? [1] : [1, 2])('takes %i stages on the GPU there too', async (count) => {
    const stages = await stagesOf(golden, count)
    for (const [index, { tokens, targets, rate, loss }] of golden.steps.entries()) {
      for (const stage of stages) stage.beginStep(1)
      let input: StageInput = { tokens }
      for (const stage of stages.slice(0, -1)) input = { boundary: await stage.forward(0, input) }
      const { lossSum, inputGradient } = await stages.at(-1)!.forwardBackward(0, input, targets)
      if (count === 2) await stages[0]!.backward(0, inputGradient!)
      expect(Math.abs(lossSum / tokens.length / loss - 1), `step ${index + 1}`).toBeLessThan(1e-4)
      let squares = 0
      for (const stage of stages) squares += await stage.reduceGradient({ offset: 0, length: stage.layout.length }, [])
      const scale = clipScale(Math.sqrt(squares), golden.optimizer.gradClip)
      for (const stage of stages) {
        await stage.update({ offset: 0, length: stage.layout.length }, { lr: rate, scale, step: index + 1 })
      }
    }
    for (const stage of stages) stage.destroy()
  })
})
