/** Owns the training of one row: all replicas of a stage on one device in turn, with the bytes that they would exchange. */
import { encode, vocabularyOf } from '../../../src/formats/characterTokenizer.ts'
import { evalWindowStarts, trainWindowStart } from '../../../src/formats/windows.ts'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { createGpuStageModel } from '../../../src/model/gpuStageModel.ts'
import { initialParameters } from '../../../src/model/init.ts'
import { learningRate } from '../../../src/model/learningRate.ts'
import { LocalStage } from '../../../src/model/local/localStage.ts'
import { clipScale } from '../../../src/model/reference/adamw.ts'
import { innerSteps, laneCount, updateConfig, updateMicrobatches } from '../../../src/protocol/lanes.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import { frameShape } from '../../../src/stage/frames.ts'
import { LaneWork } from '../../../src/stage/laneWork.ts'
import type { StageModel } from '../../../src/stage/model.ts'
import { mergeTraffic } from './traffic.ts'

export interface Text {
  readonly tokens: Uint16Array
  readonly trainTokens: number
  readonly vocabSize: number
}

/** Characters; the last tenth is held out. */
export function textOf(text: string): Text {
  const vocabulary = vocabularyOf(text)
  const tokens = encode(text, vocabulary)
  return { tokens, trainTokens: Math.floor(0.9 * tokens.length), vocabSize: vocabulary.length }
}

export interface Trained {
  /** Nats a token over the held-out windows. */
  readonly valLoss: number
  /** Bytes that one replica sends in the mean, and receives, to merge one step. */
  readonly mergeBytes: number
}

/** After each merge: updates taken, mean training loss. */
export type OnStep = (updates: number, loss: number) => void

function windows({ tokens }: Text, starts: readonly number[], block: number, shift: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(starts.flatMap((start) => [...tokens.subarray(start + shift, start + shift + block)]))
}

/** One microbatch of the last and only stage; returns the sum of its losses. */
async function train(model: StageModel, config: RunConfig, text: Text, step: number, microbatch: number) {
  const { blockSize } = config.model
  const starts = Array.from({ length: config.microbatch }, (_, i) =>
    trainWindowStart(config.seed, step, microbatch * config.microbatch + i, text.trainTokens, blockSize),
  )
  const input = { tokens: windows(text, starts, blockSize, 0) }
  return (await model.forwardBackward(microbatch, input, windows(text, starts, blockSize, 1))).lossSum
}

async function score(model: StageModel, config: RunConfig, text: Text): Promise<number> {
  const { blockSize } = config.model
  const heldOut = { tokens: text.tokens.length, trainTokens: text.trainTokens }
  const starts = evalWindowStarts(heldOut, blockSize, config.evalTokens)
  let sum = 0
  for (let i = 0; i < starts.length; i += config.microbatch) {
    const part = starts.slice(i, i + config.microbatch)
    sum += await model.evaluate({ tokens: windows(text, part, blockSize, 0) }, windows(text, part, blockSize, 1))
  }
  return sum / (starts.length * blockSize)
}

/** Gradients are summed in every step, as one replica that computes them all has them. */
export async function trainExact(gpu: GpuContext, config: RunConfig, text: Text, onStep: OnStep): Promise<Trained> {
  const model = await createGpuStageModel(gpu, { config, stage: 0 })
  try {
    model.write('parameters', 0, initialParameters(model.layout, config.seed))
    const whole = { offset: 0, length: model.layout.length }
    for (let step = 1; step <= config.steps; step++) {
      model.beginStep(step)
      let loss = 0
      for (let m = 0; m < config.batch / config.microbatch; m++) loss += await train(model, config, text, step, m)
      const scale = clipScale(Math.sqrt(await model.reduceGradient(whole, [])), config.optimizer.gradClip)
      await model.update(whole, { lr: learningRate(config.optimizer, step, config.steps), scale, step })
      onStep(step, loss / (config.batch * config.model.blockSize))
    }
    const shards = frameShape(config, 0).shards.map(({ length }) => ({
      share: 4 * length,
      result: 4 * length,
      state: 8 * length,
    }))
    const mergeBytes = mergeTraffic(config.replicas, shards) / config.replicas
    return { valLoss: await score(model, config, text), mergeBytes }
  } finally {
    model.destroy()
  }
}

/** Each lane takes its inner steps, then what they changed is merged: the calls that an executor makes. */
export async function trainLocal(gpu: GpuContext, config: RunConfig, text: Text, onStep: OnStep): Promise<Trained> {
  const inner = await createGpuStageModel(gpu, { config: updateConfig(config), stage: 0 })
  const stage = new LocalStage(inner, config)
  try {
    const shape = frameShape(config, 0)
    const work = new LaneWork(stage, shape)
    stage.write('parameters', 0, initialParameters(stage.layout, config.seed))
    const [lanes, inners, each] = [laneCount(config), innerSteps(config), updateMicrobatches(config)]
    let tensors: { share: number; result: number; state: number }[] = []
    for (let step = 1; step <= config.steps; step++) {
      stage.beginStep(step)
      let [loss, microbatch] = [0, 0]
      for (let lane = 0; lane < lanes; lane++) {
        await work.enterLane(lane)
        for (let h = 0; h < inners; h++) {
          for (let k = 0; k < each; k++) loss += await train(stage, config, text, step, microbatch++)
          await work.innerUpdate(step, lane, h)
        }
      }
      tensors = []
      for (let shard = 0; shard < shape.shards.length; shard++) {
        const shares = await work.readGradient(shard)
        await work.reduce(shard, step, [shares])
        const mean = await work.update(shard, { step, scale: 1 / lanes })
        // Here one node has the lanes of all.
        tensors.push({ share: shares.byteLength / config.replicas, result: mean.byteLength, state: 0 })
      }
      onStep(step * inners, loss / (config.batch * inners * config.model.blockSize))
    }
    const mergeBytes = mergeTraffic(config.replicas, tensors) / config.replicas
    return { valLoss: await score(stage, config, text), mergeBytes }
  } finally {
    stage.destroy()
  }
}
