/** Owns the end of the model on the GPU: final norm, head and cross-entropy, forward and, for training, backward. */
import { slice } from '../gpu/buffers.ts'
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { partialsBytes } from '../gpu/kernels/crossEntropy.ts'
import { paddedVocabulary } from './layout.ts'
import { logitRows } from './memory.ts'
import { HEAD_NORM, gradient, giveBack, headMatrix, lend, multiply, parameter } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

export interface HeadResult {
  /** Each token's loss in nats, f32 [rows]; scratch, to be read at the end of the plan. */
  readonly losses: PooledBuffer
  /** The gradient of `stream`, null in evaluation. */
  readonly dStream: PooledBuffer | null
}

/**
 * Scores `stream` [rows, d] against `targets` u32 [rows]. `gradientScale` is what one token's loss weighs in the gradient
 * (1 / tokens of the whole batch), or null for no gradients. Logits exist for a block of rows at a time.
 */
export function lossOf(
  stage: StageContext,
  stream: BufferView,
  targets: BufferView,
  rows: number,
  gradientScale: number | null,
): HeadResult {
  const { kernels, recorder, config } = stage
  const { dModel: d, vocabSize, normEps } = config.model
  const crossEntropy = kernels.crossEntropy!
  const shape = { rows, columns: d }
  const weight = parameter(stage, HEAD_NORM)
  const head = headMatrix(stage, 'parameters')
  const width = paddedVocabulary(config.model)
  const blockRows = logitRows(config, rows)

  const losses = lend(stage, rows, 1, 'losses')
  const normed = lend(stage, rows, d, 'final norm')
  const inverse = lend(stage, rows, 1, 'final norm')
  kernels.rmsNorm.forward(recorder, { x: stream, weight, y: normed, inverse }, shape, normEps)
  const logits = lend(stage, blockRows, width, 'logits')
  const partials = recorder.scratch(partialsBytes(blockRows), 'cross-entropy partials')
  const logSumExp = lend(stage, rows, 1, 'log sum exp')
  const dNormed = gradientScale === null ? undefined : lend(stage, rows, d, 'final norm gradient')

  for (let firstRow = 0; firstRow < rows; firstRow += blockRows) {
    const block = Math.min(blockRows, rows - firstRow)
    const chunk = { firstRow, rows: block, firstColumn: 0, columns: vocabSize, stride: width }
    const x = slice(normed, firstRow * d, block * d)
    multiply(stage, { form: 'nt', a: x, b: head, c: logits, m: block, n: width, k: d })
    crossEntropy.stats(recorder, { logits, targets, partials }, chunk)
    crossEntropy.finish(recorder, { partials, logSumExp, losses }, chunk)
    if (!dNormed || gradientScale === null) continue
    crossEntropy.gradient(recorder, { logits, targets, logSumExp }, { ...chunk, scale: gradientScale })
    const dx = slice(dNormed, firstRow * d, block * d)
    multiply(stage, { form: 'nn', a: logits, b: head, c: dx, m: block, n: d, k: width })
    const dHead = headMatrix(stage, 'gradients')
    multiply(stage, { form: 'tn', a: logits, b: x, c: dHead, m: width, n: d, k: block, accumulate: true })
  }

  let dStream: PooledBuffer | null = null
  if (dNormed) {
    dStream = lend(stage, rows, d, 'stream gradient')
    kernels.rmsNorm.backward(recorder, { x: stream, weight, inverse, dy: dNormed, dx: dStream }, shape)
    const dWeight = gradient(stage, HEAD_NORM)
    kernels.rmsNorm.backwardWeight(recorder, { x: stream, inverse, dy: dNormed, dWeight }, shape)
  }
  giveBack(stage, normed, inverse, logits, partials, logSumExp, dNormed)
  return { losses: { ...losses, size: rows * 4 }, dStream }
}
