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

/** Query or key rows of a workgroup; small, so that a short sequence still fills the device. */
const GROUP = 32

/** Compiles for one shape of heads. */
export async function attentionKernels(gpu: GpuContext, dims: AttentionDims): Promise<AttentionKernels> {
  const { heads, kvHeads, headDim } = dims
  const width = headDim % 4 === 0 ? 4 : 2
  const constants = {
    VECTOR: `vec${width}<f32>`,
    VECTORS: headDim / width,
    HEADS: heads,
    KV_HEADS: kvHeads,
    GROUP,
  }
  const [forward, backwardQuery, backwardKey] = await Promise.all([
    createKernel(gpu, 'attention.forward', forwardSource, constants),
    createKernel(gpu, 'attention.backwardQuery', backwardQuerySource, constants),
    createKernel(gpu, 'attention.backwardKey', backwardKeySource, constants),
  ])
  const scale = f32(1 / Math.sqrt(headDim))
  return {
    forward(recorder, { q, k, v, out, logSumExp }, { batch, sequence }) {
      const rows = batch * heads * sequence
      recorder.dispatch(forward, [batch, sequence, scale], [q, k, v, out, logSumExp], spread(Math.ceil(rows / GROUP)))
    },
    backward(recorder, { q, k, v, out, logSumExp, dOut, rowDots, dq, dk, dv }, { batch, sequence }) {
      const uniforms = [batch, sequence, scale]
      const queryGrid = spread(Math.ceil((batch * heads * sequence) / GROUP))
      const keyGrid = spread(Math.ceil((batch * kvHeads * sequence) / GROUP))
      // The query pass leaves the row dots that the key pass reads.
      recorder.dispatch(backwardQuery, uniforms, [q, k, v, out, logSumExp, dOut, rowDots, dq], queryGrid)
      recorder.dispatch(backwardKey, uniforms, [q, k, v, logSumExp, dOut, rowDots, dk, dv], keyGrid)
    },
  }
}
