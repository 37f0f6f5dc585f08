/** Owns what one machine gets from a step whose lanes take steps of their own: one lane after another, from the same weights. */
import { learningRate } from '../../src/model/learningRate.ts'
import { finalUpdates, innerSteps, laneCount, laneMicrobatches, updateMicrobatches } from '../../src/protocol/lanes.ts'
import { shardCount } from '../../src/protocol/routing.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import * as model from './integerModel.ts'

/** The rate of an inner step, counted over the whole run. */
export function innerRate(config: RunConfig, step: number, inner: number): number {
  const each = innerSteps(config)
  return learningRate(config.optimizer, (step - 1) * each + inner + 1, config.steps * each)
}

/** Changes `stageVectors` by one step. */
export function trainLanes(
  config: RunConfig,
  stageVectors: readonly model.StageVectors[],
  step: number,
): { loss: number; gradNorm: number } {
  const { seed, stages, local } = config
  const [lanes, inners, each] = [laneCount(config), innerSteps(config), updateMicrobatches(config)]
  const shards = shardCount(config)
  const zeros = () => stageVectors.map(({ parameters }) => new Array<number>(parameters.length).fill(0))
  const sums = zeros()
  let lossSum = 0
  for (let lane = 0; lane < lanes; lane++) {
    const own = stageVectors.map(({ parameters }, s) => ({ ...model.emptyVectors(s), parameters: parameters.slice() }))
    for (let inner = 0; inner < inners; inner++) {
      const gradients = zeros()
      for (let k = 0; k < each; k++) {
        const m = lane * laneMicrobatches(config) + inner * each + k
        const inputs = [model.inputOf(seed, 'train', step, m)]
        for (let s = 0; s < stages; s++) inputs.push(model.forward(own[s]!.parameters, inputs[s]!))
        const loss = model.lossOf(inputs[stages]!, seed, 'train', step, m)
        lossSum += loss.sum
        let gradient = loss.gradient
        for (let s = stages - 1; s >= 0; s--)
          gradient = model.backward(own[s]!.parameters, inputs[s]!, gradient, gradients[s]!)
      }
      const update = { lr: innerRate(config, step, inner), scale: 1, step: inner + 1 }
      own.forEach((of, s) => {
        const ranges = model.rangesOf(s, shards)
        ranges.forEach((range, shard) => {
          if (finalUpdates(config, { step, shard, shards }) > inner) model.update(of, gradients[s]!, range, update)
        })
      })
    }
    own.forEach(({ parameters }, s) =>
      model.addInto(sums[s]!, model.difference(stageVectors[s]!.parameters, parameters)),
    )
  }
  const squares = sums.reduce((total, g) => total + model.squaredNorm(g, { offset: 0, length: g.length }), 0)
  const scale = 1 / lanes
  stageVectors.forEach((of, s) =>
    model.update(of, sums[s]!, { offset: 0, length: of.parameters.length }, { lr: local.outer.lr, scale, step }),
  )
  return {
    loss: lossSum / (lanes * laneMicrobatches(config) * model.TRAIN_TOKENS),
    gradNorm: scale * Math.sqrt(squares),
  }
}
