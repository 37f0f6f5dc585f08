/** Owns the typed calls of what a learned boundary does beside its products. */
import addColumnsSource from '../../../shaders/bottleneck/add_columns.wgsl?raw'
import injectSource from '../../../shaders/bottleneck/inject.wgsl?raw'
import rowsAddSource from '../../../shaders/reduce/rows_add.wgsl?raw'
import siluSource from '../../../shaders/bottleneck/silu.wgsl?raw'
import siluBackwardSource from '../../../shaders/bottleneck/silu_backward.wgsl?raw'
import tapsSource from '../../../shaders/bottleneck/taps.wgsl?raw'
import tapsPartialSource from '../../../shaders/bottleneck/taps_partial.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Recording } from '../kernel.ts'
import { CHUNK_ROWS } from '../rows.ts'
import type { RowShape } from './rmsNorm.ts'

/** A matrix f32 with rows of `stride` elements. */
export interface Strided {
  readonly view: BufferView
  readonly stride: number
}

/** Rows that are sequences, one after another. */
export interface SequenceShape extends RowShape {
  /** Rows of one sequence. */
  readonly sequence: number
  /** Rows before its own that a row takes in, each with a weight a column: `taps` f32 [taps, columns], the nearest first. */
  readonly taps: number
}

export interface BottleneckKernels {
  /** active = factor·silu(hidden); both f32 [rows, columns]. */
  silu(recorder: Recording, tensors: { hidden: BufferView; active: BufferView }, shape: RowShape, factor: number): void
  /** `gradient` of factor·silu(hidden) becomes that of `hidden`, in place. */
  siluBackward(
    recorder: Recording,
    tensors: { hidden: BufferView; gradient: BufferView },
    shape: RowShape,
    factor: number,
  ): void
  /** Adds factor times the first `columns` of every row of `source` to those of `target`. */
  addColumns(recorder: Recording, source: Strided, target: Strided, shape: RowShape, factor: number): void
  /** Adds factor times `tokenTableRow(seed, token)` to each row of `stream` f32 [rows, columns]; `tokens` u32 [rows]. */
  inject(
    recorder: Recording,
    tensors: { tokens: BufferView; stream: BufferView },
    shape: RowShape,
    seed: number,
    factor: number,
  ): void
  /** y[t, c] = x[t, c] + Σ_j taps[j − 1, c]·x[t − j, c] within a sequence; `x` and `y` f32 [rows, columns]. */
  mixTaps(recorder: Recording, tensors: { x: BufferView; taps: BufferView; y: BufferView }, shape: SequenceShape): void
  /** `dx` from the gradient `dy` of `mixTaps`' result. */
  mixTapsBackward(
    recorder: Recording,
    tensors: { taps: BufferView; dy: BufferView; dx: BufferView },
    shape: SequenceShape,
  ): void
  /** Adds the gradient of the taps to `dTaps` f32 [taps, columns], in an order that depends on nothing but the shape. */
  mixTapsBackwardWeight(
    recorder: Recording,
    tensors: { x: BufferView; dy: BufferView; dTaps: BufferView },
    shape: SequenceShape,
  ): void
}

export async function bottleneckKernels(gpu: GpuContext): Promise<BottleneckKernels> {
  const [silu, siluBackward, addColumns, inject, taps, tapsBack, tapsPartial, rowsAdd] = await Promise.all([
    createKernel(gpu, 'bottleneck silu', siluSource),
    createKernel(gpu, 'bottleneck silu backward', siluBackwardSource),
    createKernel(gpu, 'bottleneck add columns', addColumnsSource),
    createKernel(gpu, 'bottleneck inject', injectSource),
    createKernel(gpu, 'bottleneck taps', tapsSource, { DIRECTION: '1' }),
    createKernel(gpu, 'bottleneck taps backward', tapsSource, { DIRECTION: '-1' }),
    createKernel(gpu, 'bottleneck taps partial', tapsPartialSource),
    createKernel(gpu, 'reduce rows', rowsAddSource),
  ])
  const sequenceWords = ({ rows, columns, sequence, taps: count }: SequenceShape) => [rows, columns, sequence, count]
  const grid = ({ rows, columns }: RowShape) => spread(Math.ceil((rows * columns) / 64))
  return {
    silu(recorder, { hidden, active }, shape, factor) {
      recorder.dispatch(silu, [shape.rows * shape.columns, f32(factor)], [hidden, active], grid(shape))
    },
    siluBackward(recorder, { hidden, gradient }, shape, factor) {
      recorder.dispatch(siluBackward, [shape.rows * shape.columns, f32(factor)], [hidden, gradient], grid(shape))
    },
    addColumns(recorder, source, target, shape, factor) {
      const uniforms = [shape.rows, shape.columns, source.stride, target.stride, f32(factor)]
      recorder.dispatch(addColumns, uniforms, [source.view, target.view], grid(shape))
    },
    inject(recorder, { tokens, stream }, shape, seed, factor) {
      recorder.dispatch(inject, [shape.rows, shape.columns, seed, f32(factor)], [tokens, stream], grid(shape))
    },
    mixTaps(recorder, { x, taps: weights, y }, shape) {
      recorder.dispatch(taps, sequenceWords(shape), [weights, x, y], grid(shape))
    },
    mixTapsBackward(recorder, { taps: weights, dy, dx }, shape) {
      recorder.dispatch(tapsBack, sequenceWords(shape), [weights, dy, dx], grid(shape))
    },
    mixTapsBackwardWeight(recorder, { x, dy, dTaps }, shape) {
      const [chunks, width] = [Math.ceil(shape.rows / CHUNK_ROWS), shape.taps * shape.columns]
      const partials = recorder.scratch(chunks * width * 4, 'taps partials')
      const across = Math.ceil(width / 64)
      recorder.dispatch(tapsPartial, [...sequenceWords(shape), CHUNK_ROWS], [x, dy, partials], [across, chunks])
      recorder.dispatch(rowsAdd, [chunks, width], [partials, dTaps], [across])
      recorder.release(partials)
    },
  }
}
