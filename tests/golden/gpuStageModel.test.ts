/** Judges the whole GPU model by PyTorch's values: logits, every gradient, ten AdamW steps, on one stage and on two. */
import { afterAll, describe, expect, it } from 'vitest'
import { FlatVector } from '../../src/model/flatVector.ts'
import { forwardLayers, keptInScratch } from '../../src/model/forward.ts'
import { createGpuStageModel } from '../../src/model/gpuStageModel.ts'
import { paddedVocabulary, stageLayouts, tensorNamed } from '../../src/model/layout.ts'
import type { StageLayout } from '../../src/model/layout.ts'
import { clipScale } from '../../src/model/reference/adamw.ts'
import { HEAD_NORM, headMatrix, multiply, parameter } from '../../src/model/stageContext.ts'
import type { StageContext } from '../../src/model/stageContext.ts'
import { recordInput } from '../../src/model/stageInput.ts'
import { stageKernels } from '../../src/model/stageKernels.ts'
import { StagePlans } from '../../src/model/stagePlans.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { StageInput, StageModel } from '../../src/stage/model.ts'
import { testGpu } from '../kernels/gpu.ts'
import { GOLDEN_NAMES, readGolden, relativeError } from './golden.ts'
import type { Golden } from './golden.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const MICROBATCH = 2

function configOf({ config, optimizer, batch }: Golden, stages: number) {
  return runConfigSchema.parse({ model: config, optimizer, batch, microbatch: MICROBATCH, stages, codec: 'f32' })
}

function flatOf(layout: StageLayout, golden: Golden): Float32Array<ArrayBuffer> {
  const flat = new Float32Array(layout.length)
  for (const tensor of layout.tensors) flat.set(golden.parameters.get(tensor.name)!, tensor.offset)
  return flat
}

async function stagesOf(golden: Golden, count: number): Promise<StageModel[]> {
  const config = configOf(golden, count)
  const models: StageModel[] = []
  for (let stage = 0; stage < count; stage++) {
    const model = await createGpuStageModel(gpu, { config, stage })
    model.write('parameters', 0, flatOf(model.layout, golden))
    models.push(model)
  }
  return models
}

/** Forward and backward of every microbatch through the chain of stages; returns the mean loss. */
async function accumulate(stages: StageModel[], golden: Golden, { tokens, targets }: Golden['steps'][number]) {
  const length = MICROBATCH * golden.config.blockSize
  for (const stage of stages) stage.beginStep(1)
  let lossSum = 0
  for (let microbatch = 0; microbatch * length < tokens.length; microbatch++) {
    const cut = (of: Uint32Array) => of.slice(microbatch * length, (microbatch + 1) * length)
    let input: StageInput = { tokens: cut(tokens) }
    for (const stage of stages.slice(0, -1)) input = { boundary: await stage.forward(microbatch, input) }
    const result = await stages.at(-1)!.forwardBackward(microbatch, input, cut(targets))
    lossSum += result.lossSum
    let gradient = result.inputGradient
    for (const stage of stages.slice(0, -1).toReversed()) gradient = await stage.backward(microbatch, gradient!)
    expect(gradient).toBeNull()
  }
  return lossSum / tokens.length
}

const whole = ({ layout }: StageModel) => ({ offset: 0, length: layout.length })

describe.each(GOLDEN_NAMES)('the GPU model, %s', (name) => {
  const golden = readGolden(name)
  const first = golden.steps[0]!

  it("gives PyTorch's logits", async () => {
    const config = configOf(golden, 1)
    const layout = stageLayouts(config.model, 1)[0]!
    const kernels = await stageKernels(gpu, config, layout)
    const parameters = new FlatVector(gpu.pool, layout, gpu.limits.maxStorageBufferBindingSize, 'parameters')
    parameters.write(0, flatOf(layout, golden))
    const [rows, { dModel: d, vocabSize, normEps }] = [first.tokens.length, golden.config]
    const width = paddedVocabulary(config.model)
    const plans = new StagePlans(gpu, Infinity)
    const scoring = plans.get('logits', (recorder) => {
      const stage: StageContext = { gpu, config, layout, kernels, recorder, parameters, gradients: parameters }
      const { stream, inputs } = recordInput(stage, rows, keptInScratch(stage))
      const { output } = forwardLayers(stage, stream, rows, null)
      const [normed, inverse] = [recorder.scratch(rows * d * 4), recorder.scratch(rows * 4)]
      const weight = parameter(stage, HEAD_NORM)
      kernels.rmsNorm.forward(recorder, { x: output, weight, y: normed, inverse }, { rows, columns: d }, normEps)
      const c = recorder.scratch(rows * width * 4)
      multiply(stage, { form: 'nt', a: normed, b: headMatrix(stage, 'parameters'), c, m: rows, n: width, k: d })
      return { inputs: inputs.raw, reads: [{ ...c, size: rows * width * 4 }] }
    })
    gpu.pool.write(scoring.inputs, first.tokens)
    const padded = new Float32Array((await plans.run(scoring))[0]!)
    const logits = padded.filter((_, i) => i % width < vocabSize)
    expect(relativeError(logits, golden.logits)).toBeLessThan(1e-4)
    plans.destroy()
  })

  describe.each(golden.config.tieEmbeddings ? [1] : [1, 2])('on %i stages', (count) => {
    it("gives PyTorch's loss and every gradient", async () => {
      const stages = await stagesOf(golden, count)
      const loss = await accumulate(stages, golden, first)
      expect(Math.abs(loss / first.loss - 1)).toBeLessThan(1e-4)
      const seen: string[] = []
      for (const stage of stages) {
        const gradient = await stage.readGradient(whole(stage))
        for (const { name: tensor, offset, length } of stage.layout.tensors) {
          const error = relativeError(gradient.subarray(offset, offset + length), golden.gradients.get(tensor)!)
          expect(error, tensor).toBeLessThan(1e-3)
          seen.push(tensor)
        }
        stage.destroy()
      }
      expect(seen.sort()).toEqual([...golden.gradients.keys()].sort())
    })

    it('follows PyTorch through ten clipped AdamW steps', async () => {
      const stages = await stagesOf(golden, count)
      for (const [index, batch] of golden.steps.entries()) {
        const loss = await accumulate(stages, golden, batch)
        expect(Math.abs(loss / batch.loss - 1), `step ${index + 1}`).toBeLessThan(1e-4)
        let squares = 0
        for (const stage of stages) {
          squares += await stage.reduceGradient(whole(stage), [await stage.readGradient(whole(stage))])
        }
        expect(Math.abs(Math.sqrt(squares) / batch.gradNorm - 1)).toBeLessThan(1e-3)
        const scale = clipScale(Math.sqrt(squares), golden.optimizer.gradClip)
        for (const stage of stages) await stage.update(whole(stage), { lr: batch.rate, scale, step: index + 1 })
      }
      for (const stage of stages) stage.destroy()
    })
  })

  it('scores without training what it trains on', async () => {
    const [stage] = await stagesOf(golden, 1)
    const half = MICROBATCH * golden.config.blockSize
    let sum = 0
    for (const start of [0, half]) {
      const [tokens, targets] = [first.tokens.slice(start, start + half), first.targets.slice(start, start + half)]
      sum += await stage!.evaluate({ tokens }, targets)
    }
    expect(Math.abs(sum / first.targets.length / first.loss - 1)).toBeLessThan(1e-4)
    const embedding = tensorNamed(stage!.layout, 'model.embed_tokens.weight')
    const gradient = await stage!.readGradient(embedding)
    expect(gradient.every((g) => g === 0)).toBe(true)
    stage!.destroy()
  })
})
