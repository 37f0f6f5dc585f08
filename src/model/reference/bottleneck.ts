/**
 * Owns the reference learned boundary: a residual bottleneck (after ResBM) with token re-injection, in f64. The sender's half
 * code = n[:k] + W2·silu(W1·n) with n = h / rms(h), the receiver's stream =
 * s·(pad(code) + V2·silu(V1·code) + E[token]).
 */
import { RECEIVED_SCALE } from '../../codec/boundary.ts'
import { tokenTableRow } from '../../codec/tokenTable.ts'
import { linear, linearBackward } from './linear.ts'
import { rmsNorm, rmsNormBackward } from './rmsNorm.ts'

/** `first` [hidden, inputs], `second` [outputs, hidden]. */
export interface NetworkWeights {
  readonly first: Float64Array
  readonly second: Float64Array
}

interface NetworkTrace {
  readonly x: Float64Array
  readonly hidden: Float64Array
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
const silu = (values: Float64Array) => values.map((x) => x * sigmoid(x))

/** second·silu(first·x): `x` [n, inputs] → [n, outputs]. */
function network(x: Float64Array, { first, second }: NetworkWeights, inputs: number, outputs: number) {
  const width = second.length / outputs
  const hidden = linear(x, first, inputs, width)
  return { y: linear(silu(hidden), second, width, outputs), trace: { x, hidden } }
}

function networkBackward(
  { x, hidden }: NetworkTrace,
  { first, second }: NetworkWeights,
  dy: Float64Array,
  gradients: NetworkWeights,
  inputs: number,
  outputs: number,
): Float64Array {
  const width = second.length / outputs
  const dActive = linearBackward(silu(hidden), second, dy, gradients.second, width, outputs)
  const dHidden = dActive.map((d, i) => {
    const s = sigmoid(hidden[i]!)
    return d * s * (1 + hidden[i]! * (1 - s))
  })
  return linearBackward(x, first, dHidden, gradients.first, inputs, width)
}

/** Adds the first `columns` of each row of `source` to those of `target`. */
function addColumns(source: Float64Array, from: number, target: Float64Array, to: number, columns: number): void {
  for (let row = 0; row < source.length / from; row++) {
    for (let c = 0; c < columns; c++) target[row * to + c]! += source[row * from + c]!
  }
}

export interface SendTrace {
  readonly stream: Float64Array
  readonly network: NetworkTrace
}

/** `stream` [n, d] → the code [n, k]. */
export function send(stream: Float64Array, weights: NetworkWeights, d: number, k: number, eps: number) {
  const normed = rmsNorm(stream, new Float64Array(d).fill(1), eps)
  const { y: code, trace } = network(normed, weights, d, k)
  addColumns(normed, d, code, k, k)
  return { code, trace: { stream, network: trace } }
}

/** Given `dCode` [n, k]: adds to `gradients` and returns the gradient of the stream [n, d]. */
export function sendBackward(
  { stream, network: trace }: SendTrace,
  weights: NetworkWeights,
  dCode: Float64Array,
  gradients: NetworkWeights,
  { d, k, eps }: { d: number; k: number; eps: number },
): Float64Array {
  const dNormed = networkBackward(trace, weights, dCode, gradients, d, k)
  addColumns(dCode, k, dNormed, d, k)
  return rmsNormBackward(stream, new Float64Array(d).fill(1), dNormed, new Float64Array(d), eps)
}

/** `code` [n, k] and `tokens` [n] → the stream [n, d]. */
export function receive(
  code: Float64Array,
  weights: NetworkWeights,
  tokens: Uint32Array,
  { d, k, seed }: { d: number; k: number; seed: number },
) {
  const { y, trace } = network(code, weights, k, d)
  addColumns(code, k, y, d, k)
  tokens.forEach((token, row) => tokenTableRow(seed, token, d).forEach((x, c) => (y[row * d + c]! += x)))
  return { stream: y.map((x) => RECEIVED_SCALE * x), trace }
}

/** Given `dStream` [n, d]: adds to `gradients` and returns the gradient of the code [n, k]. */
export function receiveBackward(
  trace: NetworkTrace,
  weights: NetworkWeights,
  dStream: Float64Array,
  gradients: NetworkWeights,
  { d, k }: { d: number; k: number },
): Float64Array {
  const dy = dStream.map((x) => RECEIVED_SCALE * x)
  const dCode = networkBackward(trace, weights, dy, gradients, k, d)
  addColumns(dy, d, dCode, k, k)
  return dCode
}
