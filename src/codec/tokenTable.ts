/**
 * Owns the table E that learned boundaries add to the stream again: a standard normal for each token and column, frozen, the
 * same at every boundary. A pure function of the run's seed in integers, so that no device and no language rounds it otherwise.
 */

/** The fourth word of the key; the others are token, column and seed. */
const TABLE_KEY = 0x45

/** pcg4d (Jarzynski & Olano 2020, "Hash functions for GPU rendering"), the first three of its four words. */
function pcg4d(...key: [number, number, number, number]): [number, number, number] {
  let [x, y, z, w] = key.map((word) => (Math.imul(word, 1664525) + 1013904223) | 0) as typeof key
  const mix = () => {
    x = (x + Math.imul(y, w)) | 0
    y = (y + Math.imul(z, x)) | 0
    z = (z + Math.imul(x, y)) | 0
    w = (w + Math.imul(y, z)) | 0
  }
  mix()
  x ^= x >>> 16
  y ^= y >>> 16
  z ^= z >>> 16
  w ^= w >>> 16
  mix()
  return [x, y, z]
}

/** Row `token` of E, f32 [columns]: (sum of twelve uniform bytes − 1530) / 256, of mean 0 and variance 1 (Irwin 1927, Hall 1927). */
export function tokenTableRow(seed: number, token: number, columns: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: columns }, (_, column) => {
    let sum = 0
    for (const word of pcg4d(token, column, seed, TABLE_KEY)) {
      sum += (word & 255) + ((word >>> 8) & 255) + ((word >>> 16) & 255) + (word >>> 24)
    }
    return (sum - 1530) / 256
  })
}
