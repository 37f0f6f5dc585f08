/** Owns what one machine with the whole model gets, step by step: what every simulated fleet is held against. */
import { learningRate } from '../../src/model/learningRate.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import { trainLanes } from './localReference.ts'
import * as model from './integerModel.ts'

export interface Reference {
  /** Index 0 is unused: steps count from 1. */
  readonly losses: readonly number[]
  readonly gradNorms: readonly number[]
  /** `vectors[step][stage]`; step 0 is the beginning. */
  readonly vectors: readonly (readonly model.StageVectors[])[]
  readonly valLoss: number
}

/** `steps` of the run; its learning rate goes by `config.steps`. */
export function trainAlone(config: RunConfig, evalWindows: number, steps = config.steps): Reference {
  const { seed, stages, batch, microbatch, optimizer } = config
  const stageVectors = Array.from({ length: stages }, (_, stage) => model.initialVectors(seed, stage))
  const snapshot = () =>
    stageVectors.map(({ parameters, firstMoment, secondMoment }) => ({
      parameters: parameters.slice(),
      firstMoment: firstMoment.slice(),
      secondMoment: secondMoment.slice(),
    }))
  const losses = [NaN]
  const gradNorms = [NaN]
  const vectors = [snapshot()]
  const microbatches = batch / microbatch

  const forwardAll = (mode: model.Mode, step: number, m: number) => {
    const inputs = [model.inputOf(seed, mode, step, m)]
    for (let s = 0; s < stages; s++) inputs.push(model.forward(stageVectors[s]!.parameters, inputs[s]!))
    return { inputs, loss: model.lossOf(inputs[stages]!, seed, mode, step, m) }
  }
  for (let step = 1; step <= steps; step++) {
    if (config.sync === 'local') {
      const { loss, gradNorm } = trainLanes(config, stageVectors, step)
      losses.push(loss)
      gradNorms.push(gradNorm)
      vectors.push(snapshot())
      continue
    }
    const gradients = stageVectors.map(({ parameters }) => new Array<number>(parameters.length).fill(0))
    let sum = 0
    for (let m = 0; m < microbatches; m++) {
      const { inputs, loss } = forwardAll('train', step, m)
      sum += loss.sum
      let gradient = loss.gradient
      for (let s = stages - 1; s >= 0; s--)
        gradient = model.backward(stageVectors[s]!.parameters, inputs[s]!, gradient, gradients[s]!)
    }
    const squares = gradients.reduce((total, g) => total + model.squaredNorm(g, { offset: 0, length: g.length }), 0)
    const norm = Math.sqrt(squares)
    const scale = optimizer.gradClip > 0 ? Math.min(1, optimizer.gradClip / (norm + 1e-6)) : 1
    const lr = learningRate(optimizer, step, config.steps)
    stageVectors.forEach((of, s) =>
      model.update(of, gradients[s]!, { offset: 0, length: of.parameters.length }, { lr, scale, step }),
    )
    losses.push(sum / (microbatches * model.TRAIN_TOKENS))
    gradNorms.push(norm)
    vectors.push(snapshot())
  }
  const scored = Math.ceil(evalWindows / microbatch)
  let sum = 0
  for (let m = 0; m < scored; m++) sum += forwardAll('evaluate', 0, m).loss.sum
  return { losses, gradNorms, vectors, valLoss: sum / (scored * model.EVAL_TOKENS) }
}
