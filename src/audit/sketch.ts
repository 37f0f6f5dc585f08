/**
 * Owns the sketches that tensors are compared by: short random projections (count sketch, Charikar et al. 2002) that keep
 * norms and differences of norms, so that an auditor answers without having seen the claim, and gradients of a whole stage
 * need not travel again.
 *
 * The seed is drawn after the tensors were committed to. Whoever knew it before could hide in the sketch's null space.
 */

/** Two words of randomness, 32 bits each. */
export type SketchSeed = readonly [number, number]

/** Floats that stand for one row of a boundary tensor. */
export const ROW_WIDTH = 16
/** Floats that stand for one tensor of a stage's gradient. */
export const GRADIENT_WIDTH = 64

/** The finaliser of MurmurHash3 (Appleby), over both words of the seed. */
function hash(index: number, [low, high]: SketchSeed): number {
  let h = (Math.imul(index, 0x9e3779b1) ^ low) | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) ^ high
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** By place: bucket·2 + (1 where the sign is negative). `width` is a power of two, at most 2^16. */
function places(length: number, seed: SketchSeed, width: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length }, (_, i) => {
    const h = hash(i, seed)
    return ((h & (width - 1)) << 1) | (h >>> 31)
  })
}

/** Each row of `values` [rows, columns] as {@link ROW_WIDTH} floats; all rows are projected alike. */
export function sketchRows(values: Float32Array, columns: number, seed: SketchSeed): Float32Array<ArrayBuffer> {
  if (values.length % columns !== 0) throw new RangeError(`${values.length} values are no rows of ${columns}.`)
  const where = places(columns, seed, ROW_WIDTH)
  const out = new Float64Array((values.length / columns) * ROW_WIDTH)
  for (let at = 0, row = 0; at < values.length; row += ROW_WIDTH) {
    for (let c = 0; c < columns; c++, at++) {
      const place = where[c]!
      out[row + (place >>> 1)]! += place & 1 ? -values[at]! : values[at]!
    }
  }
  return Float32Array.from(out)
}

/** Each range of `values` as {@link GRADIENT_WIDTH} floats: a stage's gradient, tensor by tensor. */
export function sketchGradient(
  values: Float32Array,
  ranges: readonly { readonly offset: number; readonly length: number }[],
  seed: SketchSeed,
): Float32Array<ArrayBuffer> {
  const out = new Float64Array(ranges.length * GRADIENT_WIDTH)
  for (const [row, { offset, length }] of ranges.entries()) {
    if (offset < 0 || offset + length > values.length) throw new RangeError(`No ${length} values from ${offset} on.`)
    for (let i = offset; i < offset + length; i++) {
      const h = hash(i, seed)
      out[row * GRADIENT_WIDTH + (h & (GRADIENT_WIDTH - 1))]! += h >>> 31 ? -values[i]! : values[i]!
    }
  }
  return Float32Array.from(out)
}
