/** Owns a stage's moments on the GPU, in f32 or in half the memory as bf16; outside they are f32 always. */
import type { BufferPool, PooledBuffer } from '../gpu/buffers.ts'
import type { Recorder, Recording } from '../gpu/kernel.ts'
import type { MomentStorage } from '../gpu/kernels/adamw.ts'
import type { Shard } from '../protocol/routing.ts'
import { FlatVector, segmentsOf } from './flatVector.ts'
import type { Piece } from './flatVector.ts'
import type { StageLayout } from './layout.ts'

/** A flat vector whose pieces hold values as they are stored; `read` and `write` speak f32. */
export interface MomentVector {
  pieces(range: Shard): Piece[]
  clear(recorder: Recording): void
  write(offset: number, values: Float32Array): void
  read(recorder: Recorder, range: Shard): Promise<Float32Array<ArrayBuffer>>
  release(): void
}

/** Contents are undefined until cleared or written. */
export function momentVector(
  storage: MomentStorage,
  ...lent: [pool: BufferPool, layout: StageLayout, mostBytes: number, label: string]
): MomentVector {
  return storage === 'f32' ? new FlatVector(...lent) : new Bf16Vector(...lent)
}

/**
 * Pairs of bf16 in 32-bit words, the first of a pair in the low half. Ranges start and end at even elements; a piece's view
 * may start where no binding may.
 */
class Bf16Vector implements MomentVector {
  readonly #pool: BufferPool
  readonly #segments: readonly (Shard & { readonly buffer: PooledBuffer })[]

  constructor(pool: BufferPool, layout: StageLayout, mostBytes: number, label: string) {
    this.#pool = pool
    // Cut as the f32 vectors are, so that the pieces of a range match.
    this.#segments = segmentsOf(layout, mostBytes).map((shard) => ({
      ...shard,
      buffer: pool.allocate(shard.length * 2, label),
    }))
  }

  pieces({ offset, length }: Shard): Piece[] {
    const pieces: Piece[] = []
    for (const segment of this.#segments) {
      const start = Math.max(offset, segment.offset)
      const end = Math.min(offset + length, segment.offset + segment.length)
      if (start >= end) continue
      const view = { buffer: segment.buffer.buffer, offset: (start - segment.offset) * 2, size: (end - start) * 2 }
      pieces.push({ view, start, length: end - start })
    }
    return pieces
  }

  clear(recorder: Recording): void {
    for (const { buffer } of this.#segments) recorder.clear(buffer)
  }

  write(offset: number, values: Float32Array): void {
    const encoded = bf16Encode(values)
    for (const { view, start, length } of this.pieces({ offset, length: values.length })) {
      this.#pool.write(view, new Uint8Array(encoded.buffer, (start - offset) * 2, length * 2))
    }
  }

  async read(recorder: Recorder, range: Shard): Promise<Float32Array<ArrayBuffer>> {
    const pieces = this.pieces(range)
    const parts = await Promise.all(pieces.map(({ view }) => recorder.read(view)))
    const values = new Float32Array(range.length)
    parts.forEach((part, i) => values.set(bf16Decode(new Uint16Array(part)), pieces[i]!.start - range.offset))
    return values
  }

  release(): void {
    for (const { buffer } of this.#segments) this.#pool.release(buffer)
  }
}

/** The upper halves of f32 values, rounded to nearest, ties to even. Infinities stay; there is no NaN among moments. */
export function bf16Encode(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
}

export function bf16Decode(halves: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer)
}
