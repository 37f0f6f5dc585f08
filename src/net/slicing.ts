/**
 * Owns the cut of one frame into messages that a data channel takes, and its reassembly at the other end.
 *
 * A slice is a 16-byte little-endian header — message id, index, count, total bytes, each u32 — and its part of the frame.
 * Every part but the last is `ceil(total / count)` bytes long, so the header alone says where a slice belongs: slices may
 * come in any order, twice, and over several channels.
 */
import { fail } from '../protocol/errors.ts'
import {
  MAX_FRAME_BYTES,
  MAX_PARTIAL_BYTES,
  MAX_PARTIAL_FRAMES,
  MAX_SLICE_BYTES,
  SLICE_BYTES,
  STALE_PARTIAL_MS,
} from './limits.ts'

export const SLICE_HEADER_BYTES = 16

/** One slice of a frame: made when it is sent, and again if its connection breaks before it has come. */
export interface Parcel {
  /** On the wire, the header included. */
  readonly bytes: number
  /** A fresh buffer, which may be transferred. */
  encode(): Uint8Array<ArrayBuffer>
}

/**
 * The slices of one frame in order; nothing is copied before they are encoded.
 * @param messageId u32; unique among the frames in flight on a link.
 * @throws SkeinError `net.frame_size` when the frame is empty or over {@link MAX_FRAME_BYTES}.
 */
export function cutFrame(
  messageId: number,
  frame: Uint8Array,
  count = Math.ceil(frame.byteLength / (SLICE_BYTES - SLICE_HEADER_BYTES)),
): Parcel[] {
  const total = frame.byteLength
  if (total === 0 || total > MAX_FRAME_BYTES) {
    fail('net.frame_size', `A frame of ${total} bytes cannot be sent.`, 'Use a smaller microbatch or more stages.')
  }
  const length = Math.ceil(total / count)
  // Fewer than asked for where rounding up has left nothing for the last ones.
  const slices = Math.ceil(total / length)
  return Array.from({ length: slices }, (_, index) => {
    const part = frame.subarray(index * length, Math.min(total, (index + 1) * length))
    const bytes = SLICE_HEADER_BYTES + part.byteLength
    const encode = () => {
      const slice = new Uint8Array(bytes)
      const header = new DataView(slice.buffer)
      ;[messageId, index, slices, total].forEach((value, i) => header.setUint32(4 * i, value, true))
      slice.set(part, SLICE_HEADER_BYTES)
      return slice
    }
    return { bytes, encode }
  })
}

interface PartialFrame {
  readonly total: number
  readonly count: number
  /** Parts by their index. Held as they came: what a partner claims costs nothing before it is sent. */
  readonly parts: Map<number, Uint8Array<ArrayBuffer>>
  heldBytes: number
  touchedAt: number
}

export interface ReassemblerLimits {
  frameBytes: number
  partialFrames: number
  partialBytes: number
  /** Of a slice that is one of several, but for the last. */
  leastSliceBytes: number
  staleMs: number
}

/** What a part costs beside its bytes. */
const PART_BYTES = 200

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
      leastSliceBytes: (SLICE_BYTES - SLICE_HEADER_BYTES) / 2,
      staleMs: STALE_PARTIAL_MS,
      ...limits,
    }
  }

  /**
   * Takes one slice; returns the frame when this slice completed it, else null. `now` is in milliseconds of any clock.
   * @throws SkeinError `net.slice` when the slice contradicts itself or its frame, `net.partials` when too much is
   * half received. The link should be closed then.
   */
  accept(slice: Uint8Array<ArrayBuffer>, now: number): Uint8Array<ArrayBuffer> | null {
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

    if (count > 1 && length < this.#limits.leastSliceBytes) refuse('slice', `Slices of ${length} bytes are too small.`)

    if (this.#finished.has(id)) return null
    const part = slice.subarray(SLICE_HEADER_BYTES)
    if (count === 1 && !this.#partials.has(id)) {
      this.#remember(id)
      return part
    }
    const partial = this.#partials.get(id) ?? this.#begin(id, total, count, now)
    if (partial.total !== total || partial.count !== count) refuse('slice', 'A slice contradicts its frame.')
    partial.touchedAt = now
    if (partial.parts.has(index)) return null
    this.#hold(partial, index, part)
    if (partial.parts.size < count) return null
    const frame = new Uint8Array(total)
    for (const [place, bytes] of partial.parts) frame.set(bytes, place * length)
    this.#drop(id, partial)
    this.#remember(id)
    return frame
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
    if (this.#partials.size >= this.#limits.partialFrames) this.#tooMuch()
    const partial: PartialFrame = { total, count, parts: new Map(), heldBytes: 0, touchedAt: now }
    this.#partials.set(id, partial)
    return partial
  }

  #hold(partial: PartialFrame, index: number, part: Uint8Array<ArrayBuffer>): void {
    const bytes = part.byteLength + PART_BYTES
    if (this.#bytes + bytes > this.#limits.partialBytes) this.#tooMuch()
    partial.parts.set(index, part)
    partial.heldBytes += bytes
    this.#bytes += bytes
  }

  #tooMuch(): never {
    return refuse('partials', 'The partner began more frames than it finished.')
  }

  #drop(id: number, partial: PartialFrame): void {
    this.#partials.delete(id)
    this.#bytes -= partial.heldBytes
  }

  #remember(id: number): void {
    this.#finished.add(id)
    if (this.#finished.size > REMEMBERED_IDS) this.#finished.delete(this.#finished.values().next().value!)
  }
}
