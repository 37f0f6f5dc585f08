/**
 * Owns the questions that audits are calibrated with: what enters each stage of a small model at several points of a real
 * training run, with the weights of that point.
 */
import { encode, vocabularyOf } from '../../../src/formats/characterTokenizer.ts'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { trainWindowStart } from '../../../src/formats/windows.ts'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { createGpuStageModel, type GpuStageModel } from '../../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../../src/model/init.ts'
import { runLayouts, type StageLayout } from '../../../src/model/layout.ts'
import { learningRate } from '../../../src/model/learningRate.ts'
import { clipScale } from '../../../src/model/reference/adamw.ts'
import { runConfigSchema, type RunConfig, type RunConfigInput } from '../../../src/protocol/runConfig.ts'
import type { UpdateParameters } from '../../../src/stage/model.ts'
import { floatsOf } from '../../../src/stage/frames.ts'

export type Floats = Float32Array<ArrayBuffer>

/** One microbatch at one stage. All tensors are f32. */
export interface Question {
  readonly tokens: Uint32Array<ArrayBuffer>
  readonly targets: Uint32Array<ArrayBuffer>
  /** What enters; null at the first stage. */
  readonly input: Floats | null
  /** What comes back; null at the last stage. */
  readonly outputGradient: Floats | null
  /** What a replica gives to the merge for this microbatch, as the recording device computed it. */
  readonly gradient: Floats
}

/** One stage at one point of training. */
export interface RecordedStage {
  readonly layout: StageLayout
  /** The step whose microbatches these are. */
  readonly step: number
  readonly parameters: Floats
  /** Those of the step before. */
  readonly stale: Floats
  readonly moments: { readonly first: Floats; readonly second: Floats }
  /** The update that ends this step. */
  readonly update: UpdateParameters
  readonly questions: readonly Question[]
}

export interface Recording {
  /** With the codec f32, whatever codec is asked about later. */
  readonly config: RunConfig
  readonly stages: readonly RecordedStage[]
  /** Mean loss of each step of the run. */
  readonly losses: readonly number[]
}

export interface RecordingPlan {
  readonly config: RunConfigInput
  /** Steps to record at, ascending, from 2: the weights before it are recorded as well. */
  readonly points: readonly number[]
}

/** Three stages of two layers each: the embedding's, a middle one, the head's. */
export const PLAN: RecordingPlan = {
  config: {
    model: { dModel: 64, layers: 6, heads: 4, kvHeads: 2, ffn: 128, blockSize: 32 },
    optimizer: { lr: 3e-3, minLr: 3e-4, warmupSteps: 10 },
    ...{ stages: 3, replicas: 1, batch: 6, microbatch: 2, steps: 100 },
  },
  points: [2, 30, 100],
}

const CORPUS_BYTES = 200_000

/** Trains as a run does, with the adapter's own kernels, and keeps what entered and left each stage at each point. */
export async function recordQuestions(gpu: GpuContext, plan: RecordingPlan): Promise<Recording> {
  const text = generateCorpus(1, CORPUS_BYTES)
  const vocabulary = vocabularyOf(text)
  const config = runConfigSchema.parse({
    ...plan.config,
    model: { ...plan.config.model, vocabSize: vocabulary.length },
    codec: 'f32',
  })
  const tokens = Uint32Array.from(encode(text, vocabulary))
  const models: GpuStageModel[] = []
  const stages: RecordedStage[] = []
  const losses: number[] = []
  let before: Floats[] = []
  try {
    for (const layout of runLayouts(config)) {
      const model = await createGpuStageModel(gpu, { config, stage: layout.stage })
      model.write('parameters', 0, initialParameters(layout, config.seed))
      models.push(model)
    }
    for (let step = 1; step <= plan.points.at(-1)!; step++) {
      const recorded = plan.points.includes(step)
      const now = recorded || plan.points.includes(step + 1) ? await readAll(models, 'parameters') : []
      const [first, second] = recorded
        ? [await readAll(models, 'firstMoment'), await readAll(models, 'secondMoment')]
        : [[], []]
      const { asked, lossSum } = await computeStep(config, models, tokens, step, recorded)
      losses.push(lossSum / (config.batch * config.model.blockSize))
      const update = await applyUpdate(config, models, asked, step)
      if (recorded) {
        for (const [s, { layout }] of models.entries()) {
          const moments = { first: first[s]!, second: second[s]! }
          stages.push({ layout, step, parameters: now[s]!, stale: before[s]!, moments, update, questions: asked[s]! })
        }
      }
      before = now
    }
  } finally {
    for (const model of models) model.destroy()
  }
  return { config, stages, losses }
}

const wholeOf = ({ layout }: GpuStageModel) => ({ offset: 0, length: layout.length })

function readAll(models: readonly GpuStageModel[], kind: 'parameters' | 'firstMoment' | 'secondMoment') {
  return Promise.all(models.map((model) => model.read(kind, wholeOf(model))))
}

/** Every microbatch through all stages and back; with `apart` the gradient of each is read out alone. */
async function computeStep(
  config: RunConfig,
  models: readonly GpuStageModel[],
  text: Uint32Array<ArrayBuffer>,
  step: number,
  apart: boolean,
): Promise<{ asked: Question[][]; lossSum: number }> {
  const asked = models.map((): Question[] => [])
  const { blockSize } = config.model
  let lossSum = 0
  for (let microbatch = 0; microbatch < config.batch / config.microbatch; microbatch++) {
    const starts = Array.from({ length: config.microbatch }, (_, i) =>
      trainWindowStart(config.seed, step, microbatch * config.microbatch + i, text.length, blockSize),
    )
    const windows = (shift: number) =>
      Uint32Array.from(starts.flatMap((start) => [...text.subarray(start + shift, start + shift + blockSize)]))
    const [tokens, targets] = [windows(0), windows(1)]
    const inputs: (Floats | null)[] = [null]
    if (apart || microbatch === 0) for (const model of models) model.beginStep(step)
    for (const model of models.slice(0, -1)) {
      inputs.push(floats(await model.forward(microbatch, stageInput(inputs.at(-1)!, tokens))))
    }
    const result = await models.at(-1)!.forwardBackward(microbatch, stageInput(inputs.at(-1)!, tokens), targets)
    lossSum += result.lossSum
    let gradient: Uint8Array<ArrayBuffer> | null = null
    for (let s = models.length - 1; s >= 0; s--) {
      const model = models[s]!
      const outputGradient: Floats | null = gradient && floats(gradient)
      gradient = outputGradient ? await model.backward(microbatch, gradient!) : result.inputGradient
      if (!apart) continue
      const own = await model.readGradient(wholeOf(model))
      asked[s]!.push({ tokens, targets, input: inputs[s]!, outputGradient, gradient: own })
    }
  }
  return { asked, lossSum }
}

async function applyUpdate(
  config: RunConfig,
  models: readonly GpuStageModel[],
  asked: readonly (readonly Question[])[],
  step: number,
): Promise<UpdateParameters> {
  let squares = 0
  for (const [s, model] of models.entries()) {
    squares += await model.reduceGradient(
      wholeOf(model),
      asked[s]!.map(({ gradient }) => gradient),
    )
  }
  const scale = clipScale(Math.sqrt(squares), config.optimizer.gradClip)
  const update = { lr: learningRate(config.optimizer, step, config.steps), scale, step }
  for (const model of models) await model.update(wholeOf(model), update)
  return update
}

export const floats = (bytes: Uint8Array): Floats => Float32Array.from(floatsOf(bytes))
export const bytesOf = (values: Floats) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

export function stageInput(input: Floats | null, tokens: Uint32Array<ArrayBuffer>) {
  return input ? { boundary: bytesOf(input) } : { tokens }
}
