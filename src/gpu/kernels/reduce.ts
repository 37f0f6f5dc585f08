/** Owns the typed calls of the ordered reductions over flat vectors: squared norm and sum of contributions. */
import accumulateSource from '../../../shaders/reduce/accumulate.wgsl?raw'
import squaresSource from '../../../shaders/reduce/squares.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, spread } from '../kernel.ts'
import type { Recorder } from '../kernel.ts'

export interface ReduceKernels {
  /**
   * Σ values², `length` f32 elements. Partial sums on the GPU, the sum of those in f64 here, both in a fixed order: equal
   * values give equal bits on one adapter. Resolves after the recorder was submitted.
   */
  squaredNorm(recorder: Recorder, values: BufferView, length: number): Promise<number>
  /** total += addend over `length` f32 elements; several calls add in the order of the calls. */
  accumulate(recorder: Recorder, addend: BufferView, total: BufferView, length: number): void
}

const MOST_PARTIALS = 16_384
const LEAST_EACH = 64

export async function reduceKernels(gpu: GpuContext): Promise<ReduceKernels> {
  const [squares, accumulate] = await Promise.all([
    createKernel(gpu, 'reduce squares', squaresSource),
    createKernel(gpu, 'reduce accumulate', accumulateSource),
  ])
  return {
    async squaredNorm(recorder, values, length) {
      const partials = Math.min(MOST_PARTIALS, Math.ceil(length / LEAST_EACH))
      const partial = gpu.pool.allocate(partials * 4, 'squares')
      recorder.dispatch(squares, [length, partials], [values, partial], [Math.ceil(partials / 64)])
      const sums = recorder.readF32({ ...partial, size: partials * 4 })
      gpu.pool.release(partial)
      return (await sums).reduce((total, sum) => total + sum, 0)
    },
    accumulate(recorder, addend, total, length) {
      recorder.dispatch(accumulate, [length], [addend, total], spread(Math.ceil(length / 64)))
    },
  }
}
