/** Owns the reference softmax cross-entropy: one loss in nats a row, and its gradient. */

/** `logits` [n, vocab], `targets` [n] → −log softmax(logits)[target] for each row. */
export function crossEntropy(logits: Float64Array, targets: Uint32Array, vocab: number): Float64Array {
  return Float64Array.from(targets, (target, row) => {
    const line = logits.subarray(row * vocab, (row + 1) * vocab)
    return logSumExp(line) - line[target]!
  })
}

/** (softmax(logits) − onehot(target)) · scale, shape of `logits`; scale 1/n makes it the gradient of the mean loss. */
export function crossEntropyBackward(
  logits: Float64Array,
  targets: Uint32Array,
  vocab: number,
  scale: number,
): Float64Array {
  const gradient = new Float64Array(logits.length)
  for (let row = 0; row < targets.length; row++) {
    const norm = logSumExp(logits.subarray(row * vocab, (row + 1) * vocab))
    for (let c = 0; c < vocab; c++) gradient[row * vocab + c] = scale * Math.exp(logits[row * vocab + c]! - norm)
    gradient[row * vocab + targets[row]!]! -= scale
  }
  return gradient
}

function logSumExp(values: Float64Array): number {
  const max = values.reduce((a, b) => Math.max(a, b), -Infinity)
  return max + Math.log(values.reduce((sum, v) => sum + Math.exp(v - max), 0))
}
