/** Owns the typed calls of the embedding: rows gathered by token id, and gradients summed back without atomics. */
import backwardSource from '../../../shaders/embedding/backward.wgsl?raw'
import forwardSource from '../../../shaders/embedding/forward.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel, spread, variable } from '../kernel.ts'
import type { Recording } from '../kernel.ts'

export interface EmbeddingKernels {
  /** out[i] = table[tokens[i]]. `tokens` u32 [rows], `table` f32 [vocab, d], `out` f32 [rows, d]. */
  forward(
    recorder: Recording,
    tensors: { tokens: BufferView; table: BufferView; out: BufferView },
    shape: { rows: number },
  ): void
  /**
   * Adds to `tableGradient` f32 [vocab, d] the rows of `dOut` f32 [rows, d] that each token stands at, in the order of
   * their positions, so that the sum is the same on every run. `segments` holds `tokenSegments(tokens).words`; how many
   * distinct tokens that are is the u32 variable `distinct`, at most `rows`.
   */
  backward(
    recorder: Recording,
    tensors: { segments: BufferView; dOut: BufferView; tableGradient: BufferView },
    shape: { rows: number },
  ): void
}

/** Where each token stands: made on the CPU, which knows the tokens, and uploaded beside them. */
export interface TokenSegments {
  /**
   * Three words for each distinct token (its id, the first and the end of its places), then all positions ordered by
   * token and, within a token, ascending. The places index this array itself.
   */
  readonly words: Uint32Array<ArrayBuffer>
  readonly distinct: number
}

/** Words that `tokenSegments` takes at most for `rows` tokens. */
export const segmentWords = (rows: number): number => 4 * rows

/** Groups positions by token with a stable sort. */
export function tokenSegments(tokens: Uint32Array): TokenSegments {
  const places = new Map<number, number[]>()
  tokens.forEach((token, position) => {
    const known = places.get(token)
    if (known) known.push(position)
    else places.set(token, [position])
  })
  const distinct = places.size
  const words = new Uint32Array(3 * distinct + tokens.length)
  let segment = 0
  let place = 3 * distinct
  for (const [token, positions] of places) {
    words.set([token, place, place + positions.length], segment)
    words.set(positions, place)
    segment += 3
    place += positions.length
  }
  return { words, distinct }
}

/** Compiles for rows of `d` elements, any d. */
export async function embeddingKernels(gpu: GpuContext, { d }: { d: number }): Promise<EmbeddingKernels> {
  const width = d % 4 === 0 ? 4 : 1
  const constants = { VECTOR: width === 4 ? 'vec4<f32>' : 'f32', VECTORS: d / width }
  const [forward, backward] = await Promise.all([
    createKernel(gpu, 'embedding.forward', forwardSource, constants),
    createKernel(gpu, 'embedding.backward', backwardSource, constants),
  ])
  const grid = (rows: number) => spread(Math.ceil((rows * constants.VECTORS) / 64))
  return {
    forward(recorder, { tokens, table, out }, { rows }) {
      recorder.dispatch(forward, [rows], [tokens, table, out], grid(rows))
    },
    backward(recorder, { segments, dOut, tableGradient }, { rows }) {
      const words = [variable('distinct', 'u32')]
      recorder.dispatch(backward, words, [segments, dOut, tableGradient], grid(rows))
    },
  }
}
