/** Owns the typed calls of the SwiGLU gate. */
import backwardSource from '../../../shaders/swiglu/backward.wgsl?raw'
import forwardSource from '../../../shaders/swiglu/forward.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, spread } from '../kernel.ts'
import type { Recording } from '../kernel.ts'

export interface SwigluKernels {
  /** out [rows, ffn] = silu(gate) · up, the halves of `gateUp` [rows, 2·ffn]; all f32. */
  forward(recorder: Recording, tensors: { gateUp: BufferView; out: BufferView }, shape: SwigluShape): void
  /** `dGateUp` [rows, 2·ffn] from `dy`, the gradient of out. */
  backward(
    recorder: Recording,
    tensors: { gateUp: BufferView; dy: BufferView; dGateUp: BufferView },
    shape: SwigluShape,
  ): void
}

export interface SwigluShape {
  readonly rows: number
}

/** Compiles for rows of `ffn` elements. */
export async function swigluKernels(gpu: GpuContext, { ffn }: { ffn: number }): Promise<SwigluKernels> {
  const width = ffn % 4 === 0 ? 4 : 1
  const constants = { VECTOR: width === 4 ? 'vec4<f32>' : 'f32', WIDTH: ffn / width }
  const [forward, backward] = await Promise.all([
    createKernel(gpu, 'swiglu forward', forwardSource, constants),
    createKernel(gpu, 'swiglu backward', backwardSource, constants),
  ])
  const grid = (rows: number) => spread(Math.ceil((rows * constants.WIDTH) / 64))
  return {
    forward(recorder, { gateUp, out }, { rows }) {
      recorder.dispatch(forward, [rows], [gateUp, out], grid(rows))
    },
    backward(recorder, { gateUp, dy, dGateUp }, { rows }) {
      recorder.dispatch(backward, [rows], [gateUp, dy, dGateUp], grid(rows))
    },
  }
}
