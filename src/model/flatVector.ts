/** Owns a stage's flat f32 vector on the GPU: cut into buffers that can each be bound, addressed as if it were one. */
import type { BufferPool, BufferView, PooledBuffer } from '../gpu/buffers.ts'
import type { Recording } from '../gpu/kernel.ts'
import type { Recorder } from '../gpu/recorder.ts'
import { fail } from '../protocol/errors.ts'
import type { Shard } from '../protocol/routing.ts'
import type { StageLayout } from './layout.ts'

interface Segment extends Shard {
  readonly buffer: PooledBuffer
}

/** A part of a range that lies in one buffer. `start` counts elements of the flat vector. */
export interface Piece {
  readonly view: BufferView
  readonly start: number
  readonly length: number
}

/** Cuts `layout` between tensors into as few segments of at most `mostBytes` as can be. Throws `gpu.limits`. */
export function segmentsOf(layout: StageLayout, mostBytes: number): Shard[] {
  const segments: Shard[] = []
  let offset = 0
  // Joined tensors are bound as one.
  const starts = layout.tensors.filter(({ joined }) => !joined)
  starts.forEach((tensor, i) => {
    const end = starts[i + 1]?.offset ?? layout.length
    if ((end - tensor.offset) * 4 > mostBytes) {
      fail(
        'gpu.limits',
        `${tensor.name} takes ${(end - tensor.offset) * 4} bytes; this device binds at most ${mostBytes}.`,
        'Use a device with larger limits, or a smaller vocabulary or width.',
      )
    }
    if ((end - offset) * 4 > mostBytes && tensor.offset > offset) {
      segments.push({ offset, length: tensor.offset - offset })
      offset = tensor.offset
    }
  })
  segments.push({ offset, length: layout.length - offset })
  return segments
}

export class FlatVector {
  readonly #pool: BufferPool
  readonly #segments: readonly Segment[]

  /** Contents are undefined until cleared or written. */
  constructor(pool: BufferPool, layout: StageLayout, mostBytes: number, label: string) {
    this.#pool = pool
    this.#segments = segmentsOf(layout, mostBytes).map((shard) => ({
      ...shard,
      buffer: pool.allocate(shard.length * 4, label),
    }))
  }

  /** A range that lies in one buffer: a tensor with what is joined to it, or with its padding. */
  view(range: Shard): BufferView {
    return this.pieces(range)[0]!.view
  }

  pieces({ offset, length }: Shard): Piece[] {
    const pieces: Piece[] = []
    for (const segment of this.#segments) {
      const start = Math.max(offset, segment.offset)
      const end = Math.min(offset + length, segment.offset + segment.length)
      if (start >= end) continue
      const view = { buffer: segment.buffer.buffer, offset: (start - segment.offset) * 4, size: (end - start) * 4 }
      pieces.push({ view, start, length: end - start })
    }
    return pieces
  }

  clear(recorder: Recording): void {
    for (const { buffer } of this.#segments) recorder.clear(buffer)
  }

  write(offset: number, values: Float32Array): void {
    for (const { view, start, length } of this.pieces({ offset, length: values.length })) {
      this.#pool.write(view, values.subarray(start - offset, start - offset + length))
    }
  }

  /** Resolves some time after the recorder was submitted. */
  async read(recorder: Recorder, range: Shard): Promise<Float32Array<ArrayBuffer>> {
    const pieces = this.pieces(range)
    const parts = await Promise.all(pieces.map(({ view }) => recorder.readF32(view)))
    if (parts.length === 1) return parts[0]!
    const joined = new Float32Array(range.length)
    parts.forEach((values, i) => joined.set(values, pieces[i]!.start - range.offset))
    return joined
  }

  release(): void {
    for (const { buffer } of this.#segments) this.#pool.release(buffer)
  }
}
