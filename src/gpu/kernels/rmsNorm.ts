/** Owns the typed calls of RMSNorm: forward, backward to the input, backward to the weight. */
import backwardSource from '../../../shaders/rmsnorm/backward.wgsl?raw'
import forwardSource from '../../../shaders/rmsnorm/forward.wgsl?raw'
import partialSource from '../../../shaders/rmsnorm/weight_partial.wgsl?raw'
import rowsAddSource from '../../../shaders/reduce/rows_add.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32 } from '../kernel.ts'
import type { Recording } from '../kernel.ts'
import { CHUNK_ROWS, rowConstants, rowGrid } from '../rows.ts'

export interface RowShape {
  readonly rows: number
  readonly columns: number
}

export interface RmsNormKernels {
  /** `x`, `y` f32 [rows, columns], `weight` [columns]; `inverse` [rows] receives 1/sqrt(mean(x²)+eps), for backward. */
  forward(
    recorder: Recording,
    tensors: { x: BufferView; weight: BufferView; y: BufferView; inverse: BufferView },
    shape: RowShape,
    eps: number,
  ): void
  /** `dx` = the gradient of `x`, plus `residual` (the gradient that went round the norm) where one is given. */
  backward(
    recorder: Recording,
    tensors: {
      x: BufferView
      weight: BufferView
      inverse: BufferView
      dy: BufferView
      residual?: BufferView | undefined
      dx: BufferView
    },
    shape: RowShape,
  ): void
  /** Adds the gradient of the weight to `dWeight` [columns], in an order that depends on nothing but the shape. */
  backwardWeight(
    recorder: Recording,
    tensors: { x: BufferView; inverse: BufferView; dy: BufferView; dWeight: BufferView },
    shape: RowShape,
  ): void
}

/** Compiles for rows of `columns` elements. */
export async function rmsNormKernels(gpu: GpuContext, { columns }: { columns: number }): Promise<RmsNormKernels> {
  const lanes = rowConstants(gpu)
  const width = columns % 4 === 0 ? 4 : 1
  const vectors = width === 4 ? { VECTOR: 'vec4<f32>', PRODUCT: 'dot(a, b)' } : { VECTOR: 'f32', PRODUCT: 'a * b' }
  const constants = { ...lanes, ...vectors, WIDTH: columns / width }
  const [forward, backward, partial, rowsAdd] = await Promise.all([
    createKernel(gpu, 'rmsnorm forward', forwardSource, constants),
    createKernel(gpu, 'rmsnorm backward', backwardSource, constants),
    createKernel(gpu, 'rmsnorm weight partial', partialSource, constants),
    createKernel(gpu, 'reduce rows', rowsAddSource),
  ])
  return {
    forward(recorder, { x, weight, y, inverse }, { rows }, eps) {
      recorder.dispatch(forward, [rows, columns, f32(eps)], [x, weight, y, inverse], rowGrid(lanes, rows))
    },
    backward(recorder, { x, weight, inverse, dy, residual, dx }, { rows }) {
      const buffers = [x, weight, inverse, dy, residual ?? dy, dx]
      recorder.dispatch(backward, [rows, columns, residual ? 1 : 0], buffers, rowGrid(lanes, rows))
    },
    backwardWeight(recorder, { x, inverse, dy, dWeight }, { rows }) {
      const chunks = Math.ceil(rows / CHUNK_ROWS)
      const partials = recorder.scratch(chunks * columns * 4, 'rmsnorm partials')
      const buffers = [x, inverse, dy, partials]
      recorder.dispatch(partial, [rows, CHUNK_ROWS], buffers, [Math.ceil(columns / width / 64), chunks])
      recorder.dispatch(rowsAdd, [chunks, columns], [partials, dWeight], [Math.ceil(columns / 64)])
      recorder.release(partials)
    },
  }
}
