/** Owns the reference linear map y = x·Wᵀ with the weight as Hugging Face stores it, [out, in], and no bias. */

/** `x` [n, inputs], `weight` [outputs, inputs] → [n, outputs]. */
export function linear(x: Float64Array, weight: Float64Array, inputs: number, outputs: number): Float64Array {
  const rows = x.length / inputs
  const y = new Float64Array(rows * outputs)
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      let sum = 0
      for (let i = 0; i < inputs; i++) sum += x[r * inputs + i]! * weight[o * inputs + i]!
      y[r * outputs + o] = sum
    }
  }
  return y
}

/** Given `dy` [n, outputs]: adds dyᵀ·x to `weightGradient` [outputs, inputs] and returns dy·W [n, inputs]. */
export function linearBackward(
  x: Float64Array,
  weight: Float64Array,
  dy: Float64Array,
  weightGradient: Float64Array,
  inputs: number,
  outputs: number,
): Float64Array {
  const rows = x.length / inputs
  const dx = new Float64Array(x.length)
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      const g = dy[r * outputs + o]!
      for (let i = 0; i < inputs; i++) {
        dx[r * inputs + i]! += g * weight[o * inputs + i]!
        weightGradient[o * inputs + i]! += g * x[r * inputs + i]!
      }
    }
  }
  return dx
}
