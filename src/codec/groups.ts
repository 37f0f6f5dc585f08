/** Owns the low-bit groups in which a merge travels: what lanes change the weights by, and what the owners change them by. */
import type { MergeCodec } from '../protocol/runConfig.ts'

/** Neighbours that share a scale, and the largest whole number that one becomes. */
const GROUPS = { int8: { size: 64, most: 127, bits: 8 }, int4: { size: 32, most: 7, bits: 4 } } as const

/**
 * Bytes of `length` encoded values, always a multiple of 4. `f32`: the values, little-endian. `int8`, `int4`: one bf16 scale
 * a group of 64 or 32, absmax / 127 or / 7 rounded up, then signed bytes, or nibbles of which the low one comes first; both
 * parts are padded to whole words.
 */
export function groupedBytes(codec: MergeCodec, length: number): number {
  if (codec === 'f32') return 4 * length
  return scaleBytes(codec, length) + words((length * GROUPS[codec].bits) / 8)
}

const words = (bytes: number) => 4 * Math.ceil(bytes / 4)
const scaleBytes = (codec: 'int8' | 'int4', length: number) => words(2 * Math.ceil(length / GROUPS[codec].size))

/** For the element at this place a number in [0, 1), always the same. */
export type Dither = (place: number) => number

/** Whether the element at this place must not become zero beside others of its group that do not. */
export type Kept = (place: number) => boolean

/**
 * Each value is rounded down after the `dither` was added to it, which {@link decodeGroups} takes off again (subtractive dither,
 * Roberts 1962): with a uniform one the error is uniform over one level whatever the value, so its mean is zero and its square half of
 * what it is in the mean where a reader does not know the dither. A group that holds no finite number becomes NaN. Exact IEEE
 * arithmetic: every device gets the same bytes.
 *
 * @param kept of these, which must be at least zero, none becomes less than half a level
 */
export function encodeGroups(
  codec: MergeCodec,
  values: Float32Array,
  dither: Dither,
  kept: Kept | null = null,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(groupedBytes(codec, values.length))
  if (codec === 'f32') {
    new Float32Array(bytes.buffer).set(values)
    return bytes
  }
  const { size, most } = GROUPS[codec]
  const from = scaleBytes(codec, values.length)
  const scales = new Uint16Array(bytes.buffer, 0, from / 2)
  for (let start = 0, group = 0; start < values.length; start += size, group++) {
    const end = Math.min(start + size, values.length)
    scales[group] = scaleOf(values, start, end, most)
    const scale = bf16(scales[group]!)
    for (let i = start; i < end; i++) {
      const level = scale > 0 ? values[i]! / scale : 0
      const whole = Math.min(most, Math.max(kept?.(i) ? 1 : -most, Math.floor(level + dither(i))))
      if (codec === 'int8') bytes[from + i] = whole
      else bytes[from + (i >> 1)]! |= (whole & 15) << (4 * (i & 1))
    }
  }
  return bytes
}

/**
 * @param bytes as many as {@link groupedBytes} says; any bits are some values
 * @param dither what they were encoded with
 */
export function decodeGroups(
  codec: MergeCodec,
  bytes: Uint8Array,
  length: number,
  dither: Dither,
): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (codec === 'f32') {
    for (let i = 0; i < length; i++) values[i] = view.getFloat32(4 * i, true)
    return values
  }
  const { size } = GROUPS[codec]
  const from = scaleBytes(codec, length)
  for (let start = 0, group = 0; start < length; start += size, group++) {
    const scale = bf16(view.getUint16(2 * group, true))
    const end = Math.min(start + size, length)
    for (let i = start; i < end; i++) {
      // The shift to the top and back spreads the sign.
      const level = codec === 'int8' ? view.getInt8(from + i) : (bytes[from + (i >> 1)]! << (28 - 4 * (i & 1))) >> 28
      values[i] = (level + 0.5 - dither(i)) * scale
    }
  }
  return values
}

/** The bf16 next above the group's absmax / `most`, so that no value is clipped; NaN where the group is not finite. */
function scaleOf(values: Float32Array, start: number, end: number, most: number): number {
  let largest = 0
  for (let i = start; i < end; i++) {
    if (!Number.isFinite(values[i])) return 0x7fc0
    largest = Math.max(largest, Math.abs(values[i]!))
  }
  scratch.f32[0] = largest / most
  // The division may have rounded down by half a unit of f32.
  const above = scratch.f32[0] * most < largest ? 1 : 0
  return (scratch.u32[0]! + above + 0xffff) >>> 16
}

const buffer = new ArrayBuffer(4)
const scratch = { f32: new Float32Array(buffer), u32: new Uint32Array(buffer) }

function bf16(half: number): number {
  scratch.u32[0] = half << 16
  return scratch.f32[0]!
}

/** Uniform in [0, 1), from a counter: two rounds of MurmurHash3's finaliser (Appleby) over what it is for and the place. */
export function counterDither(...about: readonly number[]): Dither {
  const key = about.reduce((hash, word) => mix(hash ^ word) + 0x9e3779b9, 0x5bd1e995)
  return (place) => mix(mix(place + 0x6a09e667) ^ key) / 2 ** 32
}

function mix(word: number): number {
  let h = word | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
