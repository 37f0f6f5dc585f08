/** Owns what enters a stage: checks it, makes it the residual stream, and takes the stream's gradient back out. */
import { gradientLift } from '../codec/lift.ts'
import { encodedRows } from '../codec/size.ts'
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { segmentWords } from '../gpu/kernels/embedding.ts'
import { fail } from '../protocol/errors.ts'
import type { StageInput } from '../stage/model.ts'
import type { Keeping } from './forward.ts'
import { EMBEDDING, gradient, giveBack, lend, parameter } from './stageContext.ts'
import type { Stage, StageContext } from './stageContext.ts'

/** A copy that stays good when the sender's buffer is reused or transferred. */
export function copyInput(input: StageInput): StageInput {
  return 'tokens' in input ? { tokens: input.tokens.slice() } : { boundary: input.boundary.slice() }
}

/** The words or bytes of an input, as they are written to the GPU. */
export function inputValues(input: StageInput): Uint32Array | Uint8Array {
  return 'tokens' in input ? input.tokens : input.boundary
}

/** Rows of an input. Throws `stage.input` if it is no whole number of sequences, or not what this stage takes. */
export function inputRows({ config, layout }: Stage, input: StageInput): number {
  const { blockSize, dModel, vocabSize } = config.model
  const wrong = (message: string) =>
    fail(
      'stage.input',
      message,
      'Another node sent what this run cannot contain; the run goes back to its last checkpoint.',
    )
  if ('tokens' in input !== layout.hasEmbedding) return wrong('The stage got the wrong kind of input.')
  const rows = 'tokens' in input ? input.tokens.length : encodedRows(config.codec, input.boundary.length, dModel)
  if (rows === null || rows === 0 || rows % blockSize !== 0) {
    return wrong(`The input is no whole number of sequences of ${blockSize} tokens.`)
  }
  if ('tokens' in input && input.tokens.some((token) => token >= vocabSize)) {
    return wrong(`A token is beyond the vocabulary of ${vocabSize}.`)
  }
  return rows
}

/** Records the way of an input to the residual stream [rows, d], which `keeping` lends. `raw` is to be written before a run. */
export function recordInput(stage: StageContext, rows: number, keeping: Keeping) {
  const { kernels, recorder, config, layout } = stage
  const { dModel: d } = config.model
  const shape = { rows, columns: d }
  const raw = recorder.input(layout.hasEmbedding ? rows * 4 : kernels.codec.bytes(shape), 'stage input')
  const stream = keeping.lend(rows, d, 'stage input')
  if (layout.hasEmbedding) {
    kernels.embedding!.forward(recorder, { tokens: raw, table: parameter(stage, EMBEDDING), out: stream }, { rows })
  } else {
    kernels.codec.decode(recorder, raw, stream, shape)
  }
  return { stream, raw }
}

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
  segments: PooledBuffer | null,
  dInput: PooledBuffer,
  rows: number,
): BufferView | null {
  const { kernels, recorder, config } = stage
  if (!segments) {
    const encoded = recordEncoded(stage, dInput, rows, gradientLift(stage.config))
    giveBack(stage, dInput)
    return encoded
  }
  const tensors = { segments, dOut: dInput, tableGradient: gradient(stage, EMBEDDING) }
  kernels.embedding!.backward(recorder, tensors, { rows: Math.min(rows, config.model.vocabSize) })
  giveBack(stage, dInput)
  return null
}

/** Encodes `values` [rows, d] with the run's codec, into scratch that stays until the end of the plan. */
export function recordEncoded(stage: StageContext, values: PooledBuffer, rows: number, scale = 1): BufferView {
  const { kernels, recorder, config } = stage
  const shape = { rows, columns: config.model.dModel }
  const bytes = kernels.codec.bytes(shape)
  const encoded = recorder.scratch(bytes, 'encoded boundary')
  kernels.codec.encode(recorder, values, encoded, shape, scale)
  return { ...encoded, size: bytes }
}

/** Records the decoding of an output's gradient; `raw` is to be written before a run. */
export function recordOutputGradient(stage: StageContext, rows: number) {
  const { kernels, recorder, config } = stage
  const shape = { rows, columns: config.model.dModel }
  const raw = recorder.input(kernels.codec.bytes(shape), 'output gradient')
  const dOutput = lend(stage, rows, shape.columns, 'output gradient')
  kernels.codec.decode(recorder, raw, dOutput, shape, gradientLift(stage.config))
  return { raw, dOutput }
}
