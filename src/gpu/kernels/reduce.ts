/** Owns the typed calls of the ordered reductions over flat vectors: squared norm and sum of contributions. */
import accumulateSource from '../../../shaders/reduce/accumulate.wgsl?raw'
import squaresSource from '../../../shaders/reduce/squares.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, spread } from '../kernel.ts'
import type { Recording } from '../kernel.ts'

export interface ReduceKernels {
  /**
   * Partial sums of values², `length` f32 elements, into `partial` f32 [squarePartials(length)], in a fixed order: equal
   * values give equal bits on one adapter. Their sum is the squared norm.
   */
  squares(recorder: Recording, tensors: { values: BufferView; partial: BufferView }, length: number): void
  /** total += addend over `length` f32 elements; several calls add in the order of the calls. */
  accumulate(recorder: Recording, addend: BufferView, total: BufferView, length: number): void
}

const MOST_PARTIALS = 16_384
const LEAST_EACH = 64

/** How many partial sums `squares` makes of so many values. */
export function squarePartials(length: number): number {
  return Math.min(MOST_PARTIALS, Math.ceil(length / LEAST_EACH))
}

export async function reduceKernels(gpu: GpuContext): Promise<ReduceKernels> {
  const [squares, accumulate] = await Promise.all([
    createKernel(gpu, 'reduce squares', squaresSource),
    createKernel(gpu, 'reduce accumulate', accumulateSource),
  ])
  return {
    squares(recorder, { values, partial }, length) {
      const partials = squarePartials(length)
      recorder.dispatch(squares, [length, partials], [values, partial], [Math.ceil(partials / 64)])
    },
    accumulate(recorder, addend, total, length) {
      recorder.dispatch(accumulate, [length], [addend, total], spread(Math.ceil(length / 64)))
    },
  }
}
