/** Owns the reference SwiGLU gate (Shazeer 2020): silu(gate) · up, element by element, with silu(g) = g·sigmoid(g). */

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

/** `gate` and `up` [n, ffn] → [n, ffn]. */
export function swiglu(gate: Float64Array, up: Float64Array): Float64Array {
  return gate.map((g, i) => g * sigmoid(g) * up[i]!)
}

/** Given `dy` [n, ffn]: the gradients of gate and up. */
export function swigluBackward(
  gate: Float64Array,
  up: Float64Array,
  dy: Float64Array,
): { dGate: Float64Array; dUp: Float64Array } {
  const dGate = gate.map((g, i) => {
    const s = sigmoid(g)
    return dy[i]! * up[i]! * s * (1 + g * (1 - s))
  })
  const dUp = gate.map((g, i) => dy[i]! * g * sigmoid(g))
  return { dGate, dUp }
}
