/**
 * Owns what of a claim is looked at, and how it is told: sketches of drawn rows and tensors, the same for whoever shows the
 * bytes and for whoever computes them again.
 */
import { carrierOf } from '../codec/boundary.ts'
import { MAX_EVIDENCE_ROWS, MAX_EVIDENCE_TENSORS } from '../protocol/audit.ts'
import type { CodecName } from '../protocol/runConfig.ts'
import { decodeBoundary } from './decode.ts'
import { sketchGradient, sketchRows, type SketchSeed } from './sketch.ts'

interface Range {
  readonly offset: number
  readonly length: number
}

/** Ascending places, `most` of `count` at the most: one of each stretch of the same length, drawn by the seed. */
export function drawnPlaces(count: number, most: number, [low, high]: SketchSeed): number[] {
  if (count <= most) return Array.from({ length: count }, (_, i) => i)
  return Array.from({ length: most }, (_, i) => {
    // SplitMix32's finaliser over a Weyl sequence.
    let h = (low + Math.imul(i + 1, 0x9e3779b9)) ^ high
    h = Math.imul(h ^ (h >>> 16), 0x21f0aaad)
    h = Math.imul(h ^ (h >>> 15), 0x735a2d97)
    const share = ((h ^ (h >>> 15)) >>> 0) / 2 ** 32
    const from = Math.floor((i * count) / most)
    return from + Math.floor(share * (Math.floor(((i + 1) * count) / most) - from))
  })
}

/**
 * Sketch [rows, 16] of an encoded boundary tensor of [rows, columns]; of drawn rows where they are many.
 * @param scale see `decodeBoundary`
 * @throws RangeError where the bytes are not of that shape
 */
export function sketchBoundary(
  codec: CodecName,
  bytes: Uint8Array,
  shape: { readonly rows: number; readonly columns: number },
  scale: number,
  seed: SketchSeed,
): Float32Array<ArrayBuffer> {
  const values = decodeBoundary(carrierOf(codec), bytes, shape, scale)
  const { rows, columns } = shape
  const drawn = drawnPlaces(rows, MAX_EVIDENCE_ROWS, seed)
  if (drawn.length === rows) return sketchRows(values, columns, seed)
  const some = new Float32Array(drawn.length * columns)
  drawn.forEach((row, i) => some.set(values.subarray(row * columns, (row + 1) * columns), i * columns))
  return sketchRows(some, columns, seed)
}

/**
 * Sketch [tensors, 64] of one shard's gradient: of the part of each of the stage's tensors that lies in the shard; of drawn
 * ones where they are many.
 * @param tensors ranges of the stage's flat vector
 */
export function sketchShard(
  values: Float32Array,
  shard: Range,
  tensors: readonly Range[],
  seed: SketchSeed,
): Float32Array<ArrayBuffer> {
  const ranges = tensors.flatMap(({ offset, length }) => {
    const from = Math.max(offset, shard.offset)
    const to = Math.min(offset + length, shard.offset + shard.length)
    return from < to ? [{ offset: from - shard.offset, length: to - from }] : []
  })
  const drawn = drawnPlaces(ranges.length, MAX_EVIDENCE_TENSORS, seed)
  return sketchGradient(values, drawn.map((place) => ranges[place]!), seed) // prettier-ignore
}

/** Little-endian f32 in base64, as evidence travels. */
export function evidenceText(values: Float32Array): string {
  const bytes = new Uint8Array(4 * values.length)
  const view = new DataView(bytes.buffer)
  values.forEach((value, i) => view.setFloat32(4 * i, value, true))
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  return btoa(text)
}

/** @throws RangeError where the text is no whole number of f32 */
export function evidenceFloats(text: string): Float32Array<ArrayBuffer> {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
  if (bytes.length % 4 !== 0) throw new RangeError(`${bytes.length} bytes are no whole number of f32.`)
  const view = new DataView(bytes.buffer)
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true))
}
