/**
 * Owns the typed calls of causal attention with grouped key and value heads, after FlashAttention-2 (Dao 2023): an online
 * softmax forward that keeps one log-sum-exp a row, and a backward that makes the scores again, so that no [T, T] matrix
 * ever lies in memory.
 */
import rowsBackwardKey from '../../../shaders/attention/rows_backward_key.wgsl?raw'
import rowsBackwardQuery from '../../../shaders/attention/rows_backward_query.wgsl?raw'
import rowsForward from '../../../shaders/attention/rows_forward.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Recorder } from '../kernel.ts'

export interface AttentionDims {
  readonly heads: number
  /** Divides `heads`; query head h reads key and value head floor(h·kvHeads/heads). */
  readonly kvHeads: number
  /** Even, at most 128. */
  readonly headDim: number
}

export interface AttentionShape {
  /** Sequences; rows of every tensor are batch·sequence. */
  readonly batch: number
  readonly sequence: number
}

export interface AttentionKernels {
  /**
   * out = softmax(q·kᵀ/√headDim, causal)·v. `qkv` f32 [rows, (heads + 2·kvHeads)·headDim]: a row holds its query heads,
   * then its key heads, both already turned, then its value heads. `out` f32 [rows, heads·headDim]; `logSumExp` f32
   * [rows, heads] is kept for backward.
   */
  forward(
    recorder: Recorder,
    tensors: { qkv: BufferView; out: BufferView; logSumExp: BufferView },
    shape: AttentionShape,
  ): void
  /**
   * Overwrites `dqkv` (shape of qkv) with the gradients, given `dOut` (shape of out). `rowDots` f32 [rows, heads] is
   * scratch: Σ dOut·out of every row.
   */
  backward(
    recorder: Recorder,
    tensors: {
      qkv: BufferView
      out: BufferView
      logSumExp: BufferView
      dOut: BufferView
      rowDots: BufferView
      dqkv: BufferView
    },
    shape: AttentionShape,
  ): void
}

/** `flash` tiles through workgroup memory, for GPUs; `rows` has no barriers, for software adapters and odd head dims. */
export const ATTENTION_VARIANTS = ['flash', 'rows'] as const
export type AttentionVariant = (typeof ATTENTION_VARIANTS)[number]

export interface AttentionOptions {
  /** By adapter and head dim if not given. */
  readonly variant?: AttentionVariant
}

/** Invocations of a workgroup; few, so that a short sequence still fills the device. */
const GROUP = 32

/** Compiles for one shape of heads, with the variant that suits the adapter unless one is given. Throws `gpu.shader`. */
export async function attentionKernels(
  gpu: GpuContext,
  dims: AttentionDims,
  _options: AttentionOptions = {},
): Promise<AttentionKernels> {
  const { heads, kvHeads, headDim } = dims
  const width = headDim % 4 === 0 ? 4 : 2
  const rows = gpu.adapter.software ? 4 : 1
  const constants = {
    VECTOR: `vec${width}<f32>`,
    VECTORS: headDim / width,
    HEADS: heads,
    KV_HEADS: kvHeads,
    ROWS: rows,
    COLUMNS: 4,
    GROUP,
  }
  const [forward, backwardQuery, backwardKey] = await Promise.all([
    createKernel(gpu, 'attention.forward', rowsForward, constants),
    createKernel(gpu, 'attention.backwardQuery', rowsBackwardQuery, constants),
    createKernel(gpu, 'attention.backwardKey', rowsBackwardKey, constants),
  ])
  const uniforms = ({ batch, sequence }: AttentionShape) => [
    batch,
    sequence,
    Math.ceil(sequence / rows),
    f32(1 / Math.sqrt(headDim)),
  ]
  const grid = ({ batch, sequence }: AttentionShape, count: number) =>
    spread(Math.ceil((batch * count * Math.ceil(sequence / rows)) / GROUP))
  return {
    forward(recorder, { qkv, out, logSumExp }, shape) {
      recorder.dispatch(forward, uniforms(shape), [qkv, out, logSumExp], grid(shape, heads))
    },
    backward(recorder, { qkv, out, logSumExp, dOut, rowDots, dqkv }, shape) {
      // The query pass leaves the row dots that the key pass reads.
      const query = [qkv, out, logSumExp, dOut, rowDots, dqkv]
      recorder.dispatch(backwardQuery, uniforms(shape), query, grid(shape, heads))
      recorder.dispatch(backwardKey, uniforms(shape), [qkv, logSumExp, dOut, rowDots, dqkv], grid(shape, kvHeads))
    },
  }
}
