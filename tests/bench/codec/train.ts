/** Owns the training of one row: all stages on one device in turn, with the bytes that a boundary would carry between them. */
import type { Tokenizer } from '../../../src/formats/tokenizer.ts'
import { evalWindowStarts, trainWindowStart } from '../../../src/formats/windows.ts'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { createGpuStageModel, type GpuStageModel } from '../../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../../src/model/init.ts'
import { learningRate } from '../../../src/model/learningRate.ts'
import { clipScale } from '../../../src/model/reference/adamw.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { StageInput } from '../../../src/stage/model.ts'

export interface Text {
  readonly tokenizer: Tokenizer
  readonly tokens: Uint16Array
  /** Those before the held-out tail. */
  readonly trainTokens: number
}

/** The last tenth is held out. */
export function textOf(text: string, tokenizer: Tokenizer): Text {
  const tokens = tokenizer.encode(text)
  return { tokenizer, tokens, trainTokens: Math.floor(0.9 * tokens.length) }
}

const whole = ({ layout }: GpuStageModel) => ({ offset: 0, length: layout.length })

/** Trains from the first weights of the config's seed; returns the mean loss of the held-out windows, in nats a token. */
export async function trainAndScore(
  gpu: GpuContext,
  config: RunConfig,
  text: Text,
  onStep: (step: number, loss: number) => void,
): Promise<number> {
  const stages: GpuStageModel[] = []
  try {
    for (let stage = 0; stage < config.stages; stage++) {
      const model = await createGpuStageModel(gpu, { config, stage })
      model.write('parameters', 0, initialParameters(model.layout, config.seed))
      stages.push(model)
    }
    for (let step = 1; step <= config.steps; step++) onStep(step, await trainStep(config, stages, text, step))
    return await score(config, stages, text)
  } finally {
    for (const stage of stages) stage.destroy()
  }
}

function windows({ tokens }: Text, starts: readonly number[], length: number, shift: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(starts.flatMap((start) => [...tokens.subarray(start + shift, start + shift + length)]))
}

async function trainStep(config: RunConfig, stages: readonly GpuStageModel[], text: Text, step: number) {
  const { blockSize } = config.model
  const starts = Array.from({ length: config.batch }, (_, i) =>
    trainWindowStart(config.seed, step, i, text.trainTokens, blockSize),
  )
  const [tokenIds, targets] = [windows(text, starts, blockSize, 0), windows(text, starts, blockSize, 1)]
  for (const stage of stages) stage.beginStep(step)
  let input: StageInput = { tokens: tokenIds }
  for (const stage of stages.slice(0, -1)) input = { boundary: await stage.forward(0, input), tokenIds }
  const { lossSum, inputGradient } = await stages.at(-1)!.forwardBackward(0, input, targets)
  let gradient = inputGradient
  for (const stage of stages.slice(0, -1).toReversed()) gradient = await stage.backward(0, gradient!)
  let squares = 0
  for (const stage of stages) squares += await stage.reduceGradient(whole(stage), [])
  const scale = clipScale(Math.sqrt(squares), config.optimizer.gradClip)
  const lr = learningRate(config.optimizer, step, config.steps)
  for (const stage of stages) await stage.update(whole(stage), { lr, scale, step })
  return lossSum / targets.length
}

async function score(config: RunConfig, stages: readonly GpuStageModel[], text: Text): Promise<number> {
  const { blockSize } = config.model
  const dataset = { tokens: text.tokens.length, trainTokens: text.trainTokens }
  const starts = evalWindowStarts(dataset, blockSize, config.evalTokens)
  let sum = 0
  for (let first = 0; first < starts.length; first += config.microbatch) {
    const some = starts.slice(first, first + config.microbatch)
    const [tokenIds, targets] = [windows(text, some, blockSize, 0), windows(text, some, blockSize, 1)]
    let input: StageInput = { tokens: tokenIds }
    for (const stage of stages.slice(0, -1)) input = { boundary: await stage.forwardOnly(input), tokenIds }
    sum += await stages.at(-1)!.evaluate(input, targets)
  }
  return sum / (starts.length * blockSize)
}
