/** Owns the typed call of the element-wise sum, which is the residual connection. */
import source from '../../../shaders/add/add.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, spread } from '../kernel.ts'
import type { Recorder } from '../kernel.ts'

export interface AddKernels {
  /** out = a + b, f32. `out` is neither `a` nor `b`: a buffer is read or written in a dispatch, not both. */
  add(recorder: Recorder, tensors: { a: BufferView; b: BufferView; out: BufferView }, length: number): void
}

export async function addKernels(gpu: GpuContext): Promise<AddKernels> {
  const kernel = await createKernel(gpu, 'add', source)
  return {
    add(recorder, { a, b, out }, length) {
      const vectors = Math.ceil(length / 4)
      recorder.dispatch(kernel, [vectors], [a, b, out], spread(Math.ceil(vectors / 64)))
    },
  }
}
