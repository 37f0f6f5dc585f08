/** Owns the making of a stage on a device that may have less memory than it offered: ever less is kept, until it fits. */
import type { GpuContext } from '../gpu/device.ts'
import { SkeinError } from '../protocol/errors.ts'
import { createGpuStageModel } from './gpuStageModel.ts'
import type { GpuStageModel, GpuStageOptions, GpuStageSpec } from './gpuStageModel.ts'
import { runLayouts } from './layout.ts'
import { activationBytes, activationSlots, estimateStageMemory, microbatchesInFlight } from './memory.ts'
import type { Tuning } from './stageKernels.ts'

/**
 * Makes the stage within `memoryBytes`, as the formula reckons. Where the device gives less than that, only half as many
 * microbatches keep their activations, and so on down to none, whose forward is then computed a second time.
 *
 * Errors of earlier work on the device are forgiven: whoever did it has to have freed what it held.
 * @throws SkeinError `gpu.out_of_memory` when the device cannot hold even the least; whatever `createGpuStageModel` throws
 */
export async function createStage(
  gpu: GpuContext,
  spec: GpuStageSpec,
  memoryBytes: number,
  tuning: Tuning = {},
): Promise<GpuStageModel> {
  const { config, stage } = spec
  const layout = runLayouts(config)[stage]
  if (!layout) throw new RangeError(`No stage ${stage} among ${config.stages}.`)
  const each = activationBytes(config, layout)
  let slots = activationSlots(config, stage, memoryBytes, gpu.adapter.software)
  // The last stage goes back through a microbatch at once: it has none between forward and backward.
  if (layout.hasHead) slots = 0
  for (;;) {
    gpu.recover()
    const model = await attempt(gpu, spec, { activationBudget: slots * each, tuning })
    if (model) return model
    if (slots === 0) throw outOfMemory(estimateStageMemory(config, stage).total)
    // Slots beyond these are lent only when links are so slow that more microbatches are let in.
    slots = Math.floor(Math.min(slots, microbatchesInFlight(config, layout)) / 2)
  }
}

/** Null where memory ran out; then nothing is held any more, and nothing remembered. */
async function attempt(gpu: GpuContext, spec: GpuStageSpec, options: GpuStageOptions): Promise<GpuStageModel | null> {
  const { device } = gpu
  // Whatever is done with a buffer that came out invalid is an error as well, and no news.
  device.pushErrorScope('out-of-memory')
  device.pushErrorScope('validation')
  const made = await createGpuStageModel(gpu, spec, options).then(
    (model) => ({ model }),
    (caught: unknown) => ({ caught }),
  )
  const scopes = [device.popErrorScope(), device.popErrorScope()]
  // A lost device rejects them; its own promise says so.
  const [invalid, shortage] = await Promise.all(scopes.map((scope) => scope.catch(() => null)))
  if ('caught' in made) {
    if (!shortage && !isOutOfMemory(made.caught)) throw made.caught
    gpu.recover()
    return null
  }
  if (!shortage && !invalid) return made.model
  made.model.destroy()
  gpu.pool.trim()
  if (shortage) return null
  throw new SkeinError({
    code: 'gpu.internal',
    message: `The graphics device reported an error: ${invalid!.message}`.slice(0, 2000),
    remedy: 'This is a fault in Skein or in the driver; report it with this text.',
  })
}

const isOutOfMemory = (caught: unknown) => caught instanceof SkeinError && caught.code === 'gpu.out_of_memory'

function outOfMemory(bytes: number): SkeinError {
  const mebibytes = Math.ceil(bytes / 2 ** 20).toLocaleString('en')
  return new SkeinError({
    code: 'gpu.out_of_memory',
    message: `The graphics device has no room for this stage, which takes about ${mebibytes} MiB at the least.`,
    remedy:
      'It is offered smaller stages from now on, or none; close other pages that use the GPU, then load this one anew.',
  })
}
