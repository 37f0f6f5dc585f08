/** Owns the typed call of the rotary position embedding (Su et al. 2021), rotate-half as in Hugging Face Llama. */
import pairsSource from '../../../shaders/rope/rope.wgsl?raw'
import vectorsSource from '../../../shaders/rope/vectors.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Recording } from '../kernel.ts'

export interface RopeShape {
  /** Rows of `x`; row r stands at position `r % sequence`. */
  readonly rows: number
  /** Heads to turn, the first of a row: of fused q, k and v the query's and the key's. */
  readonly heads: number
  readonly sequence: number
  /** Elements from row to row, of whole heads; heads·headDim if not given. */
  readonly stride?: number
}

export interface RopeKernels {
  /**
   * Turns the first heads·headDim elements of every row of `x` f32 [rows, stride] in place; `table` holds `ropeTable`
   * for at least `sequence` positions.
   */
  forward(recorder: Recording, tensors: { x: BufferView; table: BufferView }, shape: RopeShape): void
  /** Turns the gradient back, in place: a rotation's transpose is its inverse. */
  backward(recorder: Recording, tensors: { x: BufferView; table: BufferView }, shape: RopeShape): void
}

/**
 * cos and sin of p·theta^(−2i/headDim), f32 [sequence, headDim/2, 2]. Made on the CPU in f64: WGSL's own cos is only
 * required to be exact within ±π, and positions go to 8192 radians.
 */
export function ropeTable(sequence: number, headDim: number, theta: number): Float32Array<ArrayBuffer> {
  const half = headDim / 2
  const table = new Float32Array(sequence * headDim)
  for (let i = 0; i < half; i++) {
    const frequency = theta ** ((-2 * i) / headDim)
    for (let position = 0; position < sequence; position++) {
      const at = 2 * (position * half + i)
      table[at] = Math.cos(position * frequency)
      table[at + 1] = Math.sin(position * frequency)
    }
  }
  return table
}

/** Compiles for heads of `headDim` elements, which must be even. Throws `gpu.shader`. */
export async function ropeKernels(gpu: GpuContext, { headDim }: { headDim: number }): Promise<RopeKernels> {
  const half = headDim / 2
  const vectors = half % 4 === 0 ? half / 4 : undefined
  const kernel = await (vectors
    ? createKernel(gpu, 'rope', vectorsSource, { VECTORS: vectors })
    : createKernel(gpu, 'rope', pairsSource, { HALF: half }))
  const turn =
    (direction: 1 | -1): RopeKernels['forward'] =>
    (recorder, { x, table }, { rows, heads, sequence, stride = heads * headDim }) => {
      if (vectors) {
        const uniforms = [rows, heads, sequence, stride / 4, f32(direction)]
        recorder.dispatch(kernel, uniforms, [table, x], spread(Math.ceil((rows * vectors) / 64)))
      } else {
        const pairs = rows * heads * half
        const uniforms = [pairs, heads, sequence, stride, f32(direction)]
        recorder.dispatch(kernel, uniforms, [table, x], spread(Math.ceil(pairs / 64)))
      }
    }
  return { forward: turn(1), backward: turn(-1) }
}
