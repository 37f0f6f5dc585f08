/**
 * Owns the learned boundary on the GPU, forward and backward: a residual bottleneck (after ResBM) that sends `codeWidth` numbers
 * a token, with the token injected again behind it. The sender's half, with n = h / rms(h):
 *   code = n[:k] + W2·silu(W1·n)
 * and the receiver's, with E the frozen table of `src/codec/tokenTable.ts` and s small (`RECEIVED_SCALE`):
 *   r = s·(pad(code) + V2·silu(V1·code) + E[token]);   stream[t] = r[t] + Σ_j taps[j − 1] ⊙ r[t − j]
 * the last being a short causal convolution of each column by itself (as in Primer, So et al. 2021, arXiv 2109.08668).
 */
import { RECEIVED_SCALE, RECEIVED_TAPS } from '../codec/boundary.ts'
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import type { SequenceShape, Strided } from '../gpu/kernels/bottleneck.ts'
import type { Keeping } from './forward.ts'
import { boundaryTensor, codeHidden } from './layout.ts'
import { giveBack, gradient, lend, multiply, parameter } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

/** What a network x → scale·second·silu(first·x) needs on the way back: its input f32 [rows, inputs], and f32 [rows, hidden] twice. */
interface Network {
  readonly input: PooledBuffer
  readonly hidden: PooledBuffer
  readonly active: PooledBuffer
}

/** What the sender's backward needs. */
export interface SentCode {
  /** The stream that left the last layer, f32 [rows, d]. */
  readonly stream: PooledBuffer
  readonly inverse: PooledBuffer
  /** Its input is the stream normalised. */
  readonly network: Network
}

/** What the receiver's backward needs. Its input is the code. */
export interface ReceivedCode {
  readonly network: Network
  /** What came of the code, before each row took in those before it, f32 [rows, d]. */
  readonly received: PooledBuffer
}

interface Weights {
  /** [hidden, inputs] */
  readonly first: string
  /** [outputs, hidden] */
  readonly second: string
  readonly inputs: number
  readonly outputs: number
  readonly scale: number
}

function sender({ layout, config }: StageContext): Weights {
  const [first, second] = [boundaryTensor(layout.stage, 'send_in'), boundaryTensor(layout.stage, 'send_out')]
  return { first, second, inputs: config.model.dModel, outputs: layout.codeWidth!, scale: 1 }
}

function receiver({ layout, config }: StageContext): Weights {
  const boundary = layout.stage - 1
  const [first, second] = [boundaryTensor(boundary, 'receive_in'), boundaryTensor(boundary, 'receive_out')]
  return { first, second, inputs: layout.codeWidth!, outputs: config.model.dModel, scale: RECEIVED_SCALE }
}

/** Fills `output` [rows, outputs]; what backward needs is lent by `keeping`. */
function networkForward(
  stage: StageContext,
  { first, second, inputs, outputs, scale }: Weights,
  input: PooledBuffer,
  output: BufferView,
  rows: number,
  keeping: Keeping,
): Network {
  const width = codeHidden(stage.config.model)
  const [hidden, active] = [keeping.lend(rows, width, 'code hidden'), keeping.lend(rows, width, 'code active')]
  multiply(stage, { form: 'nt', a: input, b: parameter(stage, first), c: hidden, m: rows, n: width, k: inputs })
  stage.kernels.bottleneck!.silu(stage.recorder, { hidden, active }, { rows, columns: width }, scale)
  multiply(stage, { form: 'nt', a: active, b: parameter(stage, second), c: output, m: rows, n: outputs, k: width })
  return { input, hidden, active }
}

/** Adds to both weights' gradients; returns the gradient of the input as scratch. Keeps `dOutput`, gives the network back. */
function networkBackward(
  stage: StageContext,
  { first, second, inputs, outputs, scale }: Weights,
  { input, hidden, active }: Network,
  dOutput: BufferView,
  rows: number,
  keeping: Keeping,
): PooledBuffer {
  const width = codeHidden(stage.config.model)
  const sums = { form: 'tn', k: rows, accumulate: true } as const
  multiply(stage, { ...sums, a: dOutput, b: active, c: gradient(stage, second), m: outputs, n: width })
  const dHidden = lend(stage, rows, width, 'code hidden gradient')
  multiply(stage, { form: 'nn', a: dOutput, b: parameter(stage, second), c: dHidden, m: rows, n: width, k: outputs })
  stage.kernels.bottleneck!.siluBackward(stage.recorder, { hidden, gradient: dHidden }, { rows, columns: width }, scale)
  multiply(stage, { ...sums, a: dHidden, b: input, c: gradient(stage, first), m: width, n: inputs })
  const dInput = lend(stage, rows, inputs, 'code input gradient')
  multiply(stage, { form: 'nn', a: dHidden, b: parameter(stage, first), c: dInput, m: rows, n: inputs, k: width })
  giveBack(stage, dHidden)
  keeping.giveBack(input, hidden, active)
  return dInput
}

const ofStream = ({ config }: StageContext, view: BufferView): Strided => ({ view, stride: config.model.dModel })
const ofCode = ({ layout }: StageContext, view: BufferView): Strided => ({ view, stride: layout.codeWidth! })

/** Adds `factor` times the columns that a code has, of `source` to those of `target`. */
function addCodeColumns(stage: StageContext, source: Strided, target: Strided, rows: number, factor: number): void {
  const shape = { rows, columns: stage.layout.codeWidth! }
  stage.kernels.bottleneck!.addColumns(stage.recorder, source, target, shape, factor)
}

/** `stream` [rows, d], which `keeping` lent and now keeps, becomes the code [rows, k], which is scratch. */
export function sendForward(
  stage: StageContext,
  stream: PooledBuffer,
  rows: number,
  keeping: Keeping,
): { sent: SentCode; code: PooledBuffer } {
  const { kernels, recorder, config, layout } = stage
  const { dModel: d, normEps } = config.model
  const k = layout.codeWidth!
  const [normed, inverse] = [keeping.lend(rows, d, 'normalised stream'), keeping.lend(rows, 1, 'normalised stream')]
  const weight = kernels.ones!
  kernels.rmsNorm.forward(recorder, { x: stream, weight, y: normed, inverse }, { rows, columns: d }, normEps)
  const code = lend(stage, rows, k, 'code')
  const network = networkForward(stage, sender(stage), normed, code, rows, keeping)
  addCodeColumns(stage, ofStream(stage, normed), ofCode(stage, code), rows, 1)
  return { sent: { stream, inverse, network }, code }
}

/** Gives `dCode` [rows, k] back; returns the gradient of the stream as scratch. */
export function sendBackward(
  stage: StageContext,
  { stream, inverse, network }: SentCode,
  dCode: PooledBuffer,
  rows: number,
  keeping: Keeping,
): PooledBuffer {
  const { kernels, recorder, config } = stage
  const d = config.model.dModel
  const dNormed = networkBackward(stage, sender(stage), network, dCode, rows, keeping)
  addCodeColumns(stage, ofCode(stage, dCode), ofStream(stage, dNormed), rows, 1)
  const dx = lend(stage, rows, d, 'stream gradient')
  const tensors = { x: stream, weight: kernels.ones!, inverse, dy: dNormed, dx }
  kernels.rmsNorm.backward(recorder, tensors, { rows, columns: d })
  giveBack(stage, dNormed, dCode)
  keeping.giveBack(stream, inverse)
  return dx
}

const tapsOf = ({ layout }: StageContext) => boundaryTensor(layout.stage - 1, 'receive_taps')

function sequences({ config: { model } }: StageContext, rows: number): SequenceShape {
  return { rows, columns: model.dModel, sequence: model.blockSize, taps: RECEIVED_TAPS }
}

/** Fills `stream` [rows, d] from `code` [rows, k], which `keeping` lent and now keeps, and `tokens` u32 [rows]. */
export function receiveForward(
  stage: StageContext,
  code: PooledBuffer,
  tokens: BufferView,
  stream: BufferView,
  rows: number,
  keeping: Keeping,
): ReceivedCode {
  const { kernels, recorder, config } = stage
  const columns = config.model.dModel
  const received = keeping.lend(rows, columns, 'received stream')
  const network = networkForward(stage, receiver(stage), code, received, rows, keeping)
  addCodeColumns(stage, ofCode(stage, code), ofStream(stage, received), rows, RECEIVED_SCALE)
  kernels.bottleneck!.inject(recorder, { tokens, stream: received }, { rows, columns }, config.seed, RECEIVED_SCALE)
  const tensors = { x: received, taps: parameter(stage, tapsOf(stage)), y: stream }
  kernels.bottleneck!.mixTaps(recorder, tensors, sequences(stage, rows))
  return { network, received }
}

/** Gives `dStream` [rows, d] back; returns the gradient of the code as scratch. */
export function receiveBackward(
  stage: StageContext,
  { network, received }: ReceivedCode,
  dStream: PooledBuffer,
  rows: number,
  keeping: Keeping,
): PooledBuffer {
  const { kernels, recorder, config } = stage
  const shape = sequences(stage, rows)
  const [taps, dTaps] = [parameter(stage, tapsOf(stage)), gradient(stage, tapsOf(stage))]
  kernels.bottleneck!.mixTapsBackwardWeight(recorder, { x: received, dy: dStream, dTaps }, shape)
  const dReceived = lend(stage, rows, config.model.dModel, 'received stream gradient')
  kernels.bottleneck!.mixTapsBackward(recorder, { taps, dy: dStream, dx: dReceived }, shape)
  keeping.giveBack(received)
  const dCode = networkBackward(stage, receiver(stage), network, dReceived, rows, keeping)
  addCodeColumns(stage, ofStream(stage, dReceived), ofCode(stage, dCode), rows, RECEIVED_SCALE)
  giveBack(stage, dStream, dReceived)
  return dCode
}
