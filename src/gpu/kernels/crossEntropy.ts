/**
 * Owns the typed calls of softmax cross-entropy over logits that come chunk by chunk, so that the whole [tokens, vocab]
 * never has to exist. For every block of rows: `stats` over each chunk of the vocabulary in ascending order, `finish`,
 * then `gradient` over each chunk (made again if there were several).
 */
import finishSource from '../../../shaders/cross_entropy/finish.wgsl?raw'
import gradientSource from '../../../shaders/cross_entropy/gradient.wgsl?raw'
import statsSource from '../../../shaders/cross_entropy/stats.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Recording } from '../kernel.ts'

/** A block of logits: `rows` rows from `firstRow` of the microbatch, `columns` of the vocabulary from `firstColumn`. */
export interface LogitsChunk {
  readonly firstRow: number
  readonly rows: number
  readonly firstColumn: number
  readonly columns: number
  /** Elements from one row of `logits` to the next; those past `columns` are padding. */
  readonly stride: number
}

export interface CrossEntropyKernels {
  /**
   * Folds `logits` f32 [rows, stride] into the running maxima, sums and target logits of `partials`. The chunk with
   * firstColumn 0 starts afresh. `targets` u32 covers the whole microbatch.
   */
  stats(
    recorder: Recording,
    tensors: { logits: BufferView; targets: BufferView; partials: BufferView },
    chunk: LogitsChunk,
  ): void
  /**
   * Writes log Σ exp(logits) and the loss in nats of rows `firstRow` to `firstRow + rows`, both f32 for the whole
   * microbatch. Rows that finish does not name keep their values.
   */
  finish(
    recorder: Recording,
    tensors: { partials: BufferView; logSumExp: BufferView; losses: BufferView },
    chunk: Pick<LogitsChunk, 'firstRow' | 'rows'>,
  ): void
  /**
   * Turns `logits` in place into their gradient, (softmax − onehot) · scale. Scale 1 / (tokens in the whole batch) makes
   * it the gradient of the batch's mean loss. Padding becomes zero.
   */
  gradient(
    recorder: Recording,
    tensors: { logits: BufferView; targets: BufferView; logSumExp: BufferView },
    chunk: LogitsChunk & { readonly scale: number },
  ): void
}

/** Invocations that share a row. Lane l sees columns l, l + LANES, …: neighbours read neighbours, none waits for another. */
const LANES = 32

/** Bytes of the `partials` buffer for the largest block of rows. */
export const partialsBytes = (rows: number): number => rows * (LANES + 1) * 8

export async function crossEntropyKernels(gpu: GpuContext): Promise<CrossEntropyKernels> {
  const [stats, finish, gradient] = await Promise.all([
    createKernel(gpu, 'crossEntropy.stats', statsSource, { LANES }),
    createKernel(gpu, 'crossEntropy.finish', finishSource, { LANES }),
    createKernel(gpu, 'crossEntropy.gradient', gradientSource, { LANES }),
  ])
  const grid = (rows: number) => spread(Math.ceil((rows * LANES) / 64))
  return {
    stats(recorder, { logits, targets, partials }, { firstRow, rows, firstColumn, columns, stride }) {
      const uniforms = [firstRow, rows, firstColumn, columns, stride]
      recorder.dispatch(stats, uniforms, [logits, targets, partials], grid(rows))
    },
    finish(recorder, { partials, logSumExp, losses }, { firstRow, rows }) {
      recorder.dispatch(finish, [firstRow, rows], [partials, logSumExp, losses], spread(Math.ceil(rows / 64)))
    },
    gradient(recorder, { logits, targets, logSumExp }, { firstRow, rows, firstColumn, columns, stride, scale }) {
      const uniforms = [firstRow, rows, firstColumn, columns, stride, f32(scale)]
      recorder.dispatch(gradient, uniforms, [targets, logSumExp, logits], grid(rows))
    },
  }
}
