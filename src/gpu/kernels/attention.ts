/**
 * Owns the typed calls of causal attention with grouped key and value heads, after FlashAttention-2 (Dao 2023): an online
 * softmax forward that keeps one log-sum-exp a row, and a backward that makes the scores again, so that no [T, T] matrix
 * ever lies in memory.
 */
import backwardKeySource from '../../../shaders/attention/backward_key.wgsl?raw'
import backwardQuerySource from '../../../shaders/attention/backward_query.wgsl?raw'
import forwardSource from '../../../shaders/attention/forward.wgsl?raw'
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
   * out = softmax(q·kᵀ/√headDim, causal)·v. `q`, `out` f32 [rows, heads·headDim]; `k`, `v` f32 [rows, kvHeads·headDim],
   * q and k already turned; `logSumExp` f32 [rows, heads] is kept for backward.
   */
  forward(
    recorder: Recorder,
    tensors: { q: BufferView; k: BufferView; v: BufferView; out: BufferView; logSumExp: BufferView },
    shape: AttentionShape,
  ): void
  /**
   * Overwrites `dq`, `dk`, `dv` (shapes of q, k, v) with the gradients, given `dOut` (shape of out). `rowDots` f32
   * [rows, heads] is scratch: Σ dOut·out of every row.
   */
  backward(
    recorder: Recorder,
    tensors: {
      q: BufferView
      k: BufferView
      v: BufferView
      out: BufferView
      logSumExp: BufferView
      dOut: BufferView
      rowDots: BufferView
      dq: BufferView
      dk: BufferView
      dv: BufferView
    },
    shape: AttentionShape,
  ): void
}

/** Invocations of a workgroup; few, so that a short sequence still fills the device. */
const GROUP = 32

/** The block of scores that an invocation makes at a time: rows are its own, columns those it walks. */
export interface ScoreBlock {
  readonly rows: number
  readonly columns: number
}

/**
 * A software adapter pays most for loads, which larger blocks share; a GPU wants many invocations with few registers
 * each.
 */
export const SCORE_BLOCKS = { software: { rows: 4, columns: 4 }, hardware: { rows: 1, columns: 4 } } as const

/** Compiles for one shape of heads, with the score block that suits the adapter unless one is given. */
export async function attentionKernels(
  gpu: GpuContext,
  dims: AttentionDims,
  block: ScoreBlock = gpu.adapter.software ? SCORE_BLOCKS.software : SCORE_BLOCKS.hardware,
): Promise<AttentionKernels> {
  const { heads, kvHeads, headDim } = dims
  const width = headDim % 4 === 0 ? 4 : 2
  const { rows, columns } = block
  const constants = {
    VECTOR: `vec${width}<f32>`,
    VECTORS: headDim / width,
    HEADS: heads,
    KV_HEADS: kvHeads,
    ROWS: rows,
    COLUMNS: columns,
    GROUP,
  }
  const [forward, backwardQuery, backwardKey] = await Promise.all([
    createKernel(gpu, 'attention.forward', forwardSource, constants),
    createKernel(gpu, 'attention.backwardQuery', backwardQuerySource, constants),
    createKernel(gpu, 'attention.backwardKey', backwardKeySource, constants),
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
    forward(recorder, { q, k, v, out, logSumExp }, shape) {
      recorder.dispatch(forward, uniforms(shape), [q, k, v, out, logSumExp], grid(shape, heads))
    },
    backward(recorder, { q, k, v, out, logSumExp, dOut, rowDots, dq, dk, dv }, shape) {
      // The query pass leaves the row dots that the key pass reads.
      const query = [q, k, v, out, logSumExp, dOut, rowDots, dq]
      recorder.dispatch(backwardQuery, uniforms(shape), query, grid(shape, heads))
      const key = [q, k, v, logSumExp, dOut, rowDots, dk, dv]
      recorder.dispatch(backwardKey, uniforms(shape), key, grid(shape, kvHeads))
    },
  }
}
