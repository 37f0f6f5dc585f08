/** Owns the reference embedding: rows of the table by token id, and the sum of gradients back into those rows. */

/** `table` [vocab, d], `tokens` [n] → [n, d]. */
export function embed(table: Float64Array, tokens: Uint32Array, d: number): Float64Array {
  const out = new Float64Array(tokens.length * d)
  tokens.forEach((token, i) => out.set(table.subarray(token * d, (token + 1) * d), i * d))
  return out
}

/** Adds `gradient` [n, d] to the rows of `tableGradient` [vocab, d] that the tokens named. */
export function embedBackward(
  tableGradient: Float64Array,
  tokens: Uint32Array,
  gradient: Float64Array,
  d: number,
): void {
  for (let i = 0; i < tokens.length; i++) {
    for (let c = 0; c < d; c++) tableGradient[tokens[i]! * d + c]! += gradient[i * d + c]!
  }
}
