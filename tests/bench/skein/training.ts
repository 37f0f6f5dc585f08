/** Owns Skein's side of the training works: the calls that a stage's executor makes when it is alone. */
import type { GpuContext } from '../../../src/gpu/device.ts'
import { createGpuStageModel } from '../../../src/model/gpuStageModel.ts'
import { clipScale } from '../../../src/model/reference/adamw.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { Training } from '../contender.ts'

export async function skeinTraining(
  gpu: GpuContext,
  config: RunConfig,
  flat: Float32Array<ArrayBuffer>,
): Promise<Training> {
  const model = await createGpuStageModel(gpu, { config, stage: 0 })
  model.write('parameters', 0, flat)
  const whole = { offset: 0, length: model.layout.length }
  return {
    async step({ step, lr, tokens, targets }) {
      model.beginStep(step)
      const { lossSum } = await model.forwardBackward(0, { tokens }, targets)
      const squaredNorm = await model.reduceGradient(whole, [])
      const scale = clipScale(Math.sqrt(squaredNorm), config.optimizer.gradClip)
      await model.update(whole, { lr, scale, step })
      return lossSum / targets.length
    },
    release: () => model.destroy(),
  }
}
