/**
 * Owns the cut of one frame into messages that a data channel takes, and its reassembly at the other end.
 *
 * A slice is a 16-byte little-endian header — message id, index, count, total bytes, each u32 — and its part of the frame.
 * Every part but the last is `ceil(total / count)` bytes long, so the header alone says where a slice belongs: slices may
 * come in any order, twice, and over several channels.
 */
import { fail } from '../protocol/errors.ts'
import {
  LARGE_SLICE_BYTES,
  MAX_FRAME_BYTES,
  MAX_PARTIAL_BYTES,
  MAX_PARTIAL_FRAMES,
  MAX_SLICE_BYTES,
  SMALL_FRAME_BYTES,
  SMALL_SLICE_BYTES,
  STALE_PARTIAL_MS,
} from './limits.ts'

export const SLICE_HEADER_BYTES = 16

/** Payload bytes of a slice for a frame of this size. */
export function sliceBytesFor(frameBytes: number): number {
  return (frameBytes <= SMALL_FRAME_BYTES ? SMALL_SLICE_BYTES : LARGE_SLICE_BYTES) - SLICE_HEADER_BYTES
}

/**
 * Yields the slices of one frame in order, each a fresh buffer that may be transferred.
 * @param messageId u32; unique among the frames in flight on a link.
 * @throws SkeinError `net.frame_size` when the frame is empty or over {@link MAX_FRAME_BYTES}.
 */
export function* sliceFrame(
  messageId: number,
  frame: Uint8Array,
  sliceBytes = sliceBytesFor(frame.byteLength),
): Generator<Uint8Array<ArrayBuffer>> {
  const total = frame.byteLength
  if (total === 0 || total > MAX_FRAME_BYTES) {
    fail('net.frame_size', `A frame of ${total} bytes cannot be sent.`, 'Use a smaller microbatch or more stages.')
  }
  const count = Math.ceil(total / sliceBytes)
  const length = Math.ceil(total / count)
  for (let index = 0; index < count; index++) {
    const part = frame.subarray(index * length, Math.min(total, (index + 1) * length))
    const slice = new Uint8Array(SLICE_HEADER_BYTES + part.byteLength)
    const header = new DataView(slice.buffer)
    header.setUint32(0, messageId, true)
    header.setUint32(4, index, true)
    header.setUint32(8, count, true)
    header.setUint32(12, total, true)
    slice.set(part, SLICE_HEADER_BYTES)
    yield slice
  }
}

interface PartialFrame {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly count: number
  /** One byte a slice: 1 once it is here. */
  readonly received: Uint8Array
  missing: number
  touchedAt: number
}

export interface ReassemblerLimits {
  frameBytes: number
  partialFrames: number
  partialBytes: number
  staleMs: number
}

/** Finished message ids remembered, so that a late duplicate does not begin its frame anew. */
const REMEMBERED_IDS = 1024

const refuse = (code: string, message: string) =>
  fail(`net.${code}`, message, 'The partner is broken or hostile; its link is closed and dialled again.')

/** Puts the slices of one link together; believes no number that it has not checked. */
export class Reassembler {
  readonly #limits: ReassemblerLimits
  readonly #partials = new Map<number, PartialFrame>()
  readonly #finished = new Set<number>()
  #bytes = 0

  constructor(limits: Partial<ReassemblerLimits> = {}) {
    this.#limits = {
      frameBytes: MAX_FRAME_BYTES,
      partialFrames: MAX_PARTIAL_FRAMES,
      partialBytes: MAX_PARTIAL_BYTES,
      staleMs: STALE_PARTIAL_MS,
      ...limits,
    }
  }

  /**
   * Takes one slice; returns the frame when this slice completed it, else null. `now` is in milliseconds of any clock.
   * @throws SkeinError `net.slice` when the slice contradicts itself or its frame, `net.partials` when too much is
   * half received. The link should be closed then.
   */
  accept(slice: Uint8Array, now: number): Uint8Array<ArrayBuffer> | null {
    if (slice.byteLength <= SLICE_HEADER_BYTES || slice.byteLength > MAX_SLICE_BYTES) {
      refuse('slice', `A slice of ${slice.byteLength} bytes cannot be.`)
    }
    const header = new DataView(slice.buffer, slice.byteOffset, SLICE_HEADER_BYTES)
    const id = header.getUint32(0, true)
    const index = header.getUint32(4, true)
    const count = header.getUint32(8, true)
    const total = header.getUint32(12, true)
    if (total === 0 || total > this.#limits.frameBytes) refuse('slice', `A slice claims a frame of ${total} bytes.`)
    if (count === 0 || count > total || index >= count) refuse('slice', `Slice ${index} of ${count} cannot be.`)
    const length = Math.ceil(total / count)
    // Also says that no slice is empty: then every offset below lies inside the frame.
    if (Math.ceil(total / length) !== count) refuse('slice', `${total} bytes do not make ${count} slices.`)
    const offset = index * length
    const expected = Math.min(length, total - offset)
    if (slice.byteLength - SLICE_HEADER_BYTES !== expected)
      refuse('slice', `Slice ${index} is not ${expected} bytes long.`)

    if (this.#finished.has(id)) return null
    const partial = this.#partials.get(id) ?? this.#begin(id, total, count, now)
    if (partial.bytes.byteLength !== total || partial.count !== count) refuse('slice', 'A slice contradicts its frame.')
    partial.touchedAt = now
    if (partial.received[index] === 1) return null
    partial.received[index] = 1
    partial.bytes.set(slice.subarray(SLICE_HEADER_BYTES), offset)
    partial.missing -= 1
    if (partial.missing > 0) return null
    this.#drop(id, partial)
    this.#remember(id)
    return partial.bytes
  }

  /** Gives up what got nothing for too long; returns how many frames that were. */
  evict(now: number): number {
    let evicted = 0
    for (const [id, partial] of this.#partials) {
      if (now - partial.touchedAt < this.#limits.staleMs) continue
      this.#drop(id, partial)
      this.#remember(id)
      evicted += 1
    }
    return evicted
  }

  /** Bytes held for frames that are not whole yet, their bookkeeping included. */
  get heldBytes(): number {
    return this.#bytes
  }

  #begin(id: number, total: number, count: number, now: number): PartialFrame {
    this.evict(now)
    if (this.#partials.size >= this.#limits.partialFrames || this.#bytes + total + count > this.#limits.partialBytes) {
      refuse('partials', 'The partner began more frames than it finished.')
    }
    const partial: PartialFrame = {
      bytes: new Uint8Array(total),
      count,
      received: new Uint8Array(count),
      missing: count,
      touchedAt: now,
    }
    this.#partials.set(id, partial)
    this.#bytes += total + count
    return partial
  }

  #drop(id: number, partial: PartialFrame): void {
    this.#partials.delete(id)
    this.#bytes -= partial.bytes.byteLength + partial.count
  }

  #remember(id: number): void {
    this.#finished.add(id)
    if (this.#finished.size > REMEMBERED_IDS) this.#finished.delete(this.#finished.values().next().value!)
  }
}
