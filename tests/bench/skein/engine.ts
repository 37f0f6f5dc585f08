/** Owns Skein as a contender of the bench. */
import { acquireGpu } from '../../../src/gpu/device.ts'
import type { Engine } from '../contender.ts'
import { skeinKernel } from './kernels.ts'
import { skeinTraining } from './training.ts'

export async function load(): Promise<Engine> {
  const gpu = await acquireGpu()
  return {
    kernel: (kernel, operands) => skeinKernel(gpu, kernel, operands),
    training: (config, flat) => skeinTraining(gpu, config, flat),
  }
}
