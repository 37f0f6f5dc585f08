/** Owns what enters a stage: checks it, makes it the residual stream, and takes the stream's gradient back out. */
import { boundaryBytes, boundaryRows, numbersPerToken } from '../codec/boundary.ts'
import type { GradientCoding } from '../codec/codec.ts'
import { gradientLift } from '../codec/lift.ts'
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { segmentWords } from '../gpu/kernels/embedding.ts'
import { variable } from '../gpu/kernel.ts'
import { fail } from '../protocol/errors.ts'
import type { StageInput } from '../stage/model.ts'
import { receiveBackward, receiveForward, sendBackward, sendForward } from './bottleneck.ts'
import type { ReceivedCode, SentCode } from './bottleneck.ts'
import type { Keeping } from './forward.ts'
import { receivesCode, sendsCode } from './layout.ts'
import { EMBEDDING, gradient, giveBack, lend, parameter } from './stageContext.ts'
import type { Stage, StageContext } from './stageContext.ts'

/** A copy that stays good when the sender's buffer is reused or transferred. */
export function copyInput(input: StageInput): StageInput {
  if ('tokens' in input) return { tokens: input.tokens.slice() }
  const { boundary, tokenIds } = input
  return { boundary: boundary.slice(), ...(tokenIds && { tokenIds: tokenIds.slice() }) }
}

/** Rows of an input. Throws `stage.input` if it is no whole number of sequences, or not what this stage takes. */
export function inputRows({ config, layout }: Stage, input: StageInput): number {
  const { blockSize, vocabSize } = config.model
  const wrong = (message: string) =>
    fail(
      'stage.input',
      message,
      'Another node sent what this run cannot contain; the run goes back to its last checkpoint.',
    )
  if ('tokens' in input !== layout.hasEmbedding) return wrong('The stage got the wrong kind of input.')
  const ids = 'tokens' in input ? input.tokens : input.tokenIds
  const rows = 'tokens' in input ? input.tokens.length : boundaryRows(config, input.boundary.length)
  if (rows === null || rows === 0 || rows % blockSize !== 0) {
    return wrong(`The input is no whole number of sequences of ${blockSize} tokens.`)
  }
  if (receivesCode(layout) && ids?.length !== rows) return wrong('The input comes without the ids of its tokens.')
  if (ids?.some((token) => token >= vocabSize)) {
    return wrong(`A token is beyond the vocabulary of ${vocabSize}.`)
  }
  return rows
}

/**
 * Records the way of an input to the residual stream [rows, d], which `keeping` lends. `raw` is to be written before a run, and
 * `tokenIds` (u32 [rows]) behind a learned boundary.
 */
export function recordInput(stage: StageContext, rows: number, keeping: Keeping) {
  const { kernels, recorder, config, layout } = stage
  const { dModel: d } = config.model
  const raw = recorder.input(layout.hasEmbedding ? rows * 4 : boundaryBytes(config, rows), 'stage input')
  const tokenIds = receivesCode(layout) ? recorder.input(rows * 4, 'token ids') : null
  const stream = keeping.lend(rows, d, 'stage input')
  let received: ReceivedCode | null = null
  if (layout.hasEmbedding) {
    kernels.embedding!.forward(recorder, { tokens: raw, table: parameter(stage, EMBEDDING), out: stream }, { rows })
  } else if (tokenIds) {
    const code = keeping.lend(rows, layout.codeWidth!, 'code')
    kernels.codec.decode(recorder, raw, code, { rows, columns: layout.codeWidth! })
    received = receiveForward(stage, code, tokenIds, stream, rows, keeping)
  } else {
    kernels.codec.decode(recorder, raw, stream, { rows, columns: d })
  }
  return { stream, received, inputs: { raw, tokenIds } }
}

/** The u32 variable of plans that encode a gradient: `roundingCounter` of it. */
export const ROUNDING_VARIABLE = 'codec.rounding'

/** Room for `tokenSegments` of the input, which backward of the first stage needs; nothing elsewhere. */
export function lendSegments({ recorder, layout }: StageContext, rows: number): PooledBuffer | null {
  return layout.hasEmbedding ? recorder.input(segmentWords(rows) * 4, 'token segments') : null
}

/**
 * Ends a backward pass: at the first stage adds to the embedding's gradient, with the u32 variable `distinct`; elsewhere
 * returns the encoded gradient of the input. Releases `dInput`.
 */
export function recordInputGradient(
  stage: StageContext,
  { received, keeping }: { readonly received: ReceivedCode | null; readonly keeping: Keeping },
  segments: PooledBuffer | null,
  dInput: PooledBuffer,
  rows: number,
): BufferView | null {
  const { kernels, recorder, config } = stage
  if (!segments) {
    const crossing = received ? receiveBackward(stage, received, dInput, rows, keeping) : dInput
    const gradient = { lift: gradientLift(stage.config), counter: variable(ROUNDING_VARIABLE, 'u32') }
    const encoded = recordEncoded(stage, crossing, rows, gradient)
    giveBack(stage, crossing)
    return encoded
  }
  const tensors = { segments, dOut: dInput, tableGradient: gradient(stage, EMBEDDING) }
  kernels.embedding!.backward(recorder, tensors, { rows: Math.min(rows, config.model.vocabSize) })
  giveBack(stage, dInput)
  return null
}

/** Encodes what crosses a boundary, [rows, numbers a token], into scratch that stays until the end of the plan. */
function recordEncoded(stage: StageContext, values: PooledBuffer, rows: number, gradient?: GradientCoding): BufferView {
  const { kernels, recorder, config } = stage
  const shape = { rows, columns: numbersPerToken(config) }
  const bytes = boundaryBytes(config, rows)
  const encoded = recorder.scratch(bytes, 'encoded boundary')
  kernels.codec.encode(recorder, values, encoded, shape, gradient)
  return { ...encoded, size: bytes }
}

/** Records the way of `stream` [rows, d], lent by `keeping`, out of the stage: encoded, or as the code of a learned boundary. */
export function recordOutput(stage: StageContext, stream: PooledBuffer, rows: number, keeping: Keeping) {
  if (!sendsCode(stage.layout)) return { encoded: recordEncoded(stage, stream, rows), sent: null }
  const { sent, code } = sendForward(stage, stream, rows, keeping)
  return { encoded: recordEncoded(stage, code, rows), sent }
}

/** Records the decoding of an output's gradient; `raw` is to be written before a run. */
export function recordOutputGradient(stage: StageContext, sent: SentCode | null, rows: number, keeping: Keeping) {
  const { kernels, recorder, config } = stage
  const shape = { rows, columns: numbersPerToken(config) }
  const raw = recorder.input(boundaryBytes(config, rows), 'output gradient')
  const crossing = lend(stage, rows, shape.columns, 'output gradient')
  kernels.codec.decode(recorder, raw, crossing, shape, gradientLift(stage.config))
  return { raw, dOutput: sent ? sendBackward(stage, sent, crossing, rows, keeping) : crossing }
}
