/** Owns a stage's moments on the GPU, in f32 or in half the memory as bf16; outside they are f32 always. */
import type { BufferPool, PooledBuffer } from '../gpu/buffers.ts'
import type { Recording } from '../gpu/kernel.ts'
import type { Recorder } from '../gpu/recorder.ts'
import { MOMENT_BYTES } from '../gpu/kernels/adamw.ts'
import type { MomentStorage } from '../gpu/kernels/adamw.ts'
import type { Shard } from '../protocol/routing.ts'
import { segmentsOf } from './flatVector.ts'
import type { Piece } from './flatVector.ts'
import type { StageLayout } from './layout.ts'

export interface MomentSpec {
  readonly storage: MomentStorage
  /** Ranges that take memory, rising; everywhere else the moment is zero for ever. Each is cut as the parameters are. */
  readonly held: readonly Shard[]
}

/**
 * One moment of every parameter. bf16 lies in pairs in 32-bit words, the first of a pair in the low half, so ranges start and
 * end at even elements; a piece's view may start where no binding may.
 */
export class MomentVector {
  readonly #pool: BufferPool
  readonly #storage: MomentStorage
  readonly #parts: readonly (Shard & { readonly buffer: PooledBuffer })[]

  /** Contents are undefined until cleared or written. */
  constructor(pool: BufferPool, layout: StageLayout, { storage, held }: MomentSpec, mostBytes: number, label: string) {
    this.#pool = pool
    this.#storage = storage
    this.#parts = segmentsOf(layout, mostBytes)
      .flatMap((segment) => held.map((range) => intersection(segment, range)))
      .filter(({ length }) => length > 0)
      .map((part) => ({ ...part, buffer: pool.allocate(part.length * MOMENT_BYTES[storage], label) }))
  }

  /** The parts of `range` that are held, as they are stored. */
  pieces(range: Shard): Piece[] {
    const bytes = MOMENT_BYTES[this.#storage]
    return this.#parts.flatMap((part) => {
      const { offset: start, length } = intersection(part, range)
      if (length <= 0) return []
      const view = { buffer: part.buffer.buffer, offset: (start - part.offset) * bytes, size: length * bytes }
      return [{ view, start, length }]
    })
  }

  clear(recorder: Recording): void {
    for (const { buffer } of this.#parts) recorder.clear(buffer)
  }

  write(offset: number, values: Float32Array): void {
    for (const { view, start, length } of this.pieces({ offset, length: values.length })) {
      const part = values.subarray(start - offset, start - offset + length)
      this.#pool.write(view, this.#storage === 'f32' ? part : new Uint8Array(bf16Encode(part).buffer))
    }
  }

  /** Resolves some time after the recorder was submitted. */
  async read(recorder: Recorder, range: Shard): Promise<Float32Array<ArrayBuffer>> {
    const pieces = this.pieces(range)
    const parts = await Promise.all(pieces.map(({ view }) => recorder.read(view)))
    const values = new Float32Array(range.length)
    parts.forEach((part, i) => {
      const decoded = this.#storage === 'f32' ? new Float32Array(part) : bf16Decode(new Uint16Array(part))
      values.set(decoded, pieces[i]!.start - range.offset)
    })
    return values
  }

  release(): void {
    for (const { buffer } of this.#parts) this.#pool.release(buffer)
  }
}

function intersection(a: Shard, b: Shard): Shard {
  const offset = Math.max(a.offset, b.offset)
  return { offset, length: Math.min(a.offset + a.length, b.offset + b.length) - offset }
}

/** The upper halves of f32 values, rounded to nearest, ties to even. Infinities stay; there is no NaN among moments. */
export function bf16Encode(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
}

export function bf16Decode(halves: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer)
}
