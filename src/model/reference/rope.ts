/** Owns the reference rotary position embedding (Su et al. 2021) in the rotate-half form that Hugging Face Llama uses. */

/**
 * Turns the pair (x[i], x[i + headDim/2]) of every head by the angle p·theta^(−2i/headDim), with p the row's position
 * `row % sequence`. `x` [n, heads·headDim] → the same shape. `direction` −1 turns back, which is also the backward pass:
 * a rotation's transpose is its inverse.
 */
export function rope(
  x: Float64Array,
  heads: number,
  headDim: number,
  sequence: number,
  theta: number,
  direction: 1 | -1 = 1,
): Float64Array {
  const y = new Float64Array(x.length)
  const half = headDim / 2
  const width = heads * headDim
  for (let row = 0; row < x.length / width; row++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < half; i++) {
        const angle = direction * (row % sequence) * theta ** ((-2 * i) / headDim)
        const a = row * width + h * headDim + i
        const b = a + half
        y[a] = x[a]! * Math.cos(angle) - x[b]! * Math.sin(angle)
        y[b] = x[b]! * Math.cos(angle) + x[a]! * Math.sin(angle)
      }
    }
  }
  return y
}
