/** Owns the typed call of the AdamW update. */
import source from '../../../shaders/adamw/adamw.wgsl?raw'
import type { OptimizerConfig } from '../../protocol/runConfig.ts'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Recorder } from '../kernel.ts'

export interface AdamwStep {
  readonly lr: number
  /** Multiplies the gradient. */
  readonly scale: number
  /** From 1. */
  readonly step: number
}

export interface AdamwKernels {
  /**
   * Updates `length` elements of `parameter` and of its moments; those below `decayLength` take weight decay.
   * All f32. The arithmetic is PyTorch's: decay first, epsilon outside the square root.
   */
  update(
    recorder: Recorder,
    tensors: { parameter: BufferView; gradient: BufferView; first: BufferView; second: BufferView },
    range: { length: number; decayLength: number },
    optimizer: OptimizerConfig,
    step: AdamwStep,
  ): void
}

export async function adamwKernels(gpu: GpuContext): Promise<AdamwKernels> {
  const kernel = await createKernel(gpu, 'adamw', source)
  return {
    update(recorder, tensors, { length, decayLength }, { beta1, beta2, eps, weightDecay }, { lr, scale, step }) {
      const words = [
        length,
        Math.max(0, Math.min(decayLength, length)),
        f32(1 - lr * weightDecay),
        f32(lr / (1 - beta1 ** step)),
        f32(Math.sqrt(1 - beta2 ** step)),
        f32(eps),
        f32(beta1),
        f32(beta2),
        f32(1 - beta1),
        f32(1 - beta2),
        f32(scale),
      ]
      const { parameter, gradient, first, second } = tensors
      recorder.dispatch(kernel, words, [gradient, parameter, first, second], spread(Math.ceil(length / 64)))
    },
  }
}
