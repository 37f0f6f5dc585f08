/** Owns the reference RMSNorm (Zhang & Sennrich 2019): y = w·x / sqrt(mean(x²) + eps), row by row. */

const inverseRms = (x: Float64Array, row: number, d: number, eps: number) => {
  let squares = 0
  for (let c = 0; c < d; c++) squares += x[row * d + c]! ** 2
  return 1 / Math.sqrt(squares / d + eps)
}

/** `x` [n, d], `weight` [d] → [n, d]. */
export function rmsNorm(x: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const d = weight.length
  const y = new Float64Array(x.length)
  for (let row = 0; row < x.length / d; row++) {
    const r = inverseRms(x, row, d, eps)
    for (let c = 0; c < d; c++) y[row * d + c] = x[row * d + c]! * r * weight[c]!
  }
  return y
}

/**
 * Given `dy` [n, d]: adds Σ dy·x·r to `weightGradient` [d] and returns
 * dx = r·(w∘dy) − x·r³·⟨w∘dy, x⟩/d, with r the inverse root mean square of the row.
 */
export function rmsNormBackward(
  x: Float64Array,
  weight: Float64Array,
  dy: Float64Array,
  weightGradient: Float64Array,
  eps: number,
): Float64Array {
  const d = weight.length
  const dx = new Float64Array(x.length)
  for (let row = 0; row < x.length / d; row++) {
    const r = inverseRms(x, row, d, eps)
    let dot = 0
    for (let c = 0; c < d; c++) dot += weight[c]! * dy[row * d + c]! * x[row * d + c]!
    for (let c = 0; c < d; c++) {
      const i = row * d + c
      weightGradient[c]! += dy[i]! * x[i]! * r
      dx[i] = r * weight[c]! * dy[i]! - (x[i]! * r ** 3 * dot) / d
    }
  }
  return dx
}
