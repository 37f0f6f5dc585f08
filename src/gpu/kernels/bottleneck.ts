/** Owns the typed calls of what a learned boundary does beside its products. */
import addColumnsSource from '../../../shaders/bottleneck/add_columns.wgsl?raw'
import injectSource from '../../../shaders/bottleneck/inject.wgsl?raw'
import siluSource from '../../../shaders/bottleneck/silu.wgsl?raw'
import siluBackwardSource from '../../../shaders/bottleneck/silu_backward.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Recording } from '../kernel.ts'
import type { RowShape } from './rmsNorm.ts'

/** A matrix f32 with rows of `stride` elements. */
export interface Strided {
  readonly view: BufferView
  readonly stride: number
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
}

export async function bottleneckKernels(gpu: GpuContext): Promise<BottleneckKernels> {
  const [silu, siluBackward, addColumns, inject] = await Promise.all([
    createKernel(gpu, 'bottleneck silu', siluSource),
    createKernel(gpu, 'bottleneck silu backward', siluBackwardSource),
    createKernel(gpu, 'bottleneck add columns', addColumnsSource),
    createKernel(gpu, 'bottleneck inject', injectSource),
  ])
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
  }
}
