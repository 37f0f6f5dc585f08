/**
 * Owns the typed calls of causal attention with grouped key and value heads, after FlashAttention-2 (Dao 2023): an online
 * softmax forward that keeps one log-sum-exp a row, and a backward that makes the scores again, so that no [T, T] matrix
 * ever lies in memory.
 */
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import type { Recording } from '../kernel.ts'
import { flashAttention, flashTakes } from './attentionFlash.ts'
import { rowsAttention } from './attentionRows.ts'

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
    recorder: Recording,
    tensors: { qkv: BufferView; out: BufferView; logSumExp: BufferView },
    shape: AttentionShape,
  ): void
  /**
   * Overwrites `dqkv` (shape of qkv) with the gradients, given `dOut` (shape of out). `rowDots` f32 [rows, heads] is
   * scratch: Σ dOut·out of every row.
   */
  backward(
    recorder: Recording,
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
  /** By adapter if not given. */
  readonly variant?: AttentionVariant
}

/**
 * Compiles for one shape of heads. Whatever is asked for, head dims that are no multiple of 4 take `rows`. Throws
 * `gpu.shader`.
 */
export function attentionKernels(
  gpu: GpuContext,
  dims: AttentionDims,
  { variant = gpu.adapter.software ? 'rows' : 'flash' }: AttentionOptions = {},
): Promise<AttentionKernels> {
  return variant === 'flash' && flashTakes(dims) ? flashAttention(gpu, dims) : rowsAttention(gpu, dims)
}
