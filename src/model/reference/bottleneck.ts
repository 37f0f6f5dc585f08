/**
 * Owns the reference learned boundary: a residual bottleneck (after ResBM) with token re-injection, in f64. The sender's half
 * code = n[:k] + W2·silu(W1·n) with n = h / rms(h), the receiver's stream =
 * r[t] + Σ_j taps[j − 1] ⊙ r[t − j] within a sequence, with r = s·(pad(code) + V2·silu(V1·code) + E[token]).
 */
import { RECEIVED_SCALE, RECEIVED_TAPS } from '../../codec/boundary.ts'
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

/** Of the receiver: its network, and `taps` [RECEIVED_TAPS, d]. */
export interface ReceiveWeights extends NetworkWeights {
  readonly taps: Float64Array
}

export interface ReceiveTrace {
  readonly network: NetworkTrace
  readonly received: Float64Array
}

interface Rows {
  readonly d: number
  /** Rows of one sequence. */
  readonly sequence: number
}

/** Calls `visit` for every element that another of its column takes in: `from`, `to`, and the weight's place among the taps. */
function eachTap(length: number, { d, sequence }: Rows, visit: (from: number, to: number, tap: number) => void): void {
  for (let to = 0; to < length; to++) {
    const place = Math.floor(to / d) % sequence
    for (let j = 1; j <= Math.min(RECEIVED_TAPS, place); j++) visit(to - j * d, to, (j - 1) * d + (to % d))
  }
}

/** `code` [n, k] and `tokens` [n] → the stream [n, d]. */
export function receive(
  code: Float64Array,
  weights: ReceiveWeights,
  tokens: Uint32Array,
  { d, k, seed, sequence }: Rows & { k: number; seed: number },
): { stream: Float64Array; trace: ReceiveTrace } {
  const { y, trace } = network(code, weights, k, d)
  addColumns(code, k, y, d, k)
  tokens.forEach((token, row) => tokenTableRow(seed, token, d).forEach((x, c) => (y[row * d + c]! += x)))
  const received = y.map((x) => RECEIVED_SCALE * x)
  const stream = received.slice()
  eachTap(stream.length, { d, sequence }, (from, to, tap) => (stream[to]! += weights.taps[tap]! * received[from]!))
  return { stream, trace: { network: trace, received } }
}

/** Given `dStream` [n, d]: adds to `gradients` and returns the gradient of the code [n, k]. */
export function receiveBackward(
  { network: trace, received }: ReceiveTrace,
  weights: ReceiveWeights,
  dStream: Float64Array,
  gradients: ReceiveWeights,
  { d, k, sequence }: Rows & { k: number },
): Float64Array {
  const dReceived = dStream.slice()
  eachTap(dStream.length, { d, sequence }, (from, to, tap) => {
    dReceived[from]! += weights.taps[tap]! * dStream[to]!
    gradients.taps[tap]! += received[from]! * dStream[to]!
  })
  const dy = dReceived.map((x) => RECEIVED_SCALE * x)
  const dCode = networkBackward(trace, weights, dy, gradients, k, d)
  addColumns(dy, d, dCode, k, k)
  return dCode
}
