/** Owns what enters a stage: checks it, puts it on the GPU as the residual stream, and takes its gradient back out. */
import type { PooledBuffer } from '../gpu/buffers.ts'
import { encodedRows } from '../codec/size.ts'
import { tokenSegments } from '../gpu/kernels/embedding.ts'
import { fail } from '../protocol/errors.ts'
import type { StageInput } from '../stage/model.ts'
import { EMBEDDING, gradient, giveBack, lend, parameter } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

/** Token ids with the places they stand at, on the GPU; nothing where the input was a boundary tensor. */
export interface InputTrace {
  readonly segments: PooledBuffer | undefined
  readonly distinct: number
}

/** A copy that stays good when the sender's buffer is reused or transferred. */
export function copyInput(input: StageInput): StageInput {
  return 'tokens' in input ? { tokens: input.tokens.slice() } : { boundary: input.boundary.slice() }
}

/** Rows of an input. Throws `stage.input` if it is no whole number of sequences, or not what this stage takes. */
export function inputRows({ config, layout }: StageContext, input: StageInput): number {
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

/** Uploads now and records the rest: returns the residual stream [rows, d] and, with `keep`, what backward needs. */
export function recordInput(stage: StageContext, input: StageInput, rows: number, keep: boolean) {
  const { gpu, kernels, recorder, config } = stage
  const { dModel: d } = config.model
  // Written before anything is recorded: writes run ahead of recorded work.
  const segmented = keep && 'tokens' in input ? tokenSegments(input.tokens) : undefined
  const segments = segmented && gpu.pool.upload(segmented.words, 'token segments')
  const raw = gpu.pool.upload('tokens' in input ? input.tokens : input.boundary, 'stage input')
  const stream = lend(stage, rows, d, 'stage input')
  if ('tokens' in input) {
    kernels.embedding!.forward(recorder, { tokens: raw, table: parameter(stage, EMBEDDING), out: stream }, { rows })
  } else {
    kernels.codec.decode(recorder, raw, stream, { rows, columns: d })
  }
  const trace: InputTrace = { segments, distinct: segmented?.distinct ?? 0 }
  return { stream, trace, raw }
}

/** Gradients of a mean over the batch are tiny: lifted by this power of two they fit a half float's range. */
export function gradientLift({ config }: StageContext): number {
  return 2 ** Math.round(Math.log2(config.batch * config.model.blockSize))
}

/**
 * Ends a backward pass: at the first stage adds to the embedding's gradient (null), elsewhere encodes the gradient of the
 * input; the bytes come some time after the submit. Releases `dInput` and the trace.
 */
export function recordInputGradient(
  stage: StageContext,
  trace: InputTrace,
  dInput: PooledBuffer,
  rows: number,
): Promise<Uint8Array<ArrayBuffer>> | null {
  const { kernels, recorder } = stage
  let bytes: Promise<Uint8Array<ArrayBuffer>> | null = null
  if (trace.segments) {
    const tensors = { segments: trace.segments, dOut: dInput, tableGradient: gradient(stage, EMBEDDING) }
    kernels.embedding!.backward(recorder, tensors, { distinct: trace.distinct })
  } else {
    bytes = recordEncoded(stage, dInput, rows, gradientLift(stage))
  }
  giveBack(stage, trace.segments, dInput)
  return bytes
}

/** Encodes `values` [rows, d] with the run's codec and reads the bytes back. */
export function recordEncoded(
  stage: StageContext,
  values: PooledBuffer,
  rows: number,
  scale = 1,
): Promise<Uint8Array<ArrayBuffer>> {
  const { gpu, kernels, recorder, config } = stage
  const shape = { rows, columns: config.model.dModel }
  const bytes = kernels.codec.bytes(shape)
  const encoded = gpu.pool.allocate(bytes, 'encoded boundary')
  kernels.codec.encode(recorder, values, encoded, shape, scale)
  const read = recorder.read({ ...encoded, size: bytes })
  gpu.pool.release(encoded)
  return read.then((buffer) => new Uint8Array(buffer))
}
