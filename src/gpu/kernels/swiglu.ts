/** Owns the typed calls of the SwiGLU gate. */
import backwardSource from '../../../shaders/swiglu/backward.wgsl?raw'
import forwardSource from '../../../shaders/swiglu/forward.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, spread } from '../kernel.ts'
import type { Recorder } from '../kernel.ts'

export interface SwigluKernels {
  /** out = silu(gate) · up; all f32 of `length` elements. */
  forward(recorder: Recorder, tensors: { gate: BufferView; up: BufferView; out: BufferView }, length: number): void
  backward(
    recorder: Recorder,
    tensors: { gate: BufferView; up: BufferView; dy: BufferView; dGate: BufferView; dUp: BufferView },
    length: number,
  ): void
}

export async function swigluKernels(gpu: GpuContext): Promise<SwigluKernels> {
  const [forward, backward] = await Promise.all([
    createKernel(gpu, 'swiglu forward', forwardSource),
    createKernel(gpu, 'swiglu backward', backwardSource),
  ])
  return {
    forward(recorder, { gate, up, out }, length) {
      const vectors = Math.ceil(length / 4)
      recorder.dispatch(forward, [vectors], [gate, up, out], spread(Math.ceil(vectors / 64)))
    },
    backward(recorder, { gate, up, dy, dGate, dUp }, length) {
      const vectors = Math.ceil(length / 4)
      recorder.dispatch(backward, [vectors], [gate, up, dy, dGate, dUp], spread(Math.ceil(vectors / 64)))
    },
  }
}
