/** Proves chunked softmax cross-entropy against the reference: blocks of rows, chunks of the vocabulary, huge logits. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { crossEntropyKernels, partialsBytes } from '../../src/gpu/kernels/crossEntropy.ts'
import { crossEntropy, crossEntropyBackward } from '../../src/model/reference/crossEntropy.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

/** Columns behind every row, filled with what must not count. */
const PADDING = 3

/** Columns [first, first + columns) of rows [firstRow, firstRow + rows) of a [.., vocab] matrix. */
function cut(matrix: Float32Array, vocab: number, firstRow: number, rows: number, first: number, columns: number) {
  const chunk = new Float32Array(rows * (columns + PADDING)).fill(1e3)
  for (let r = 0; r < rows; r++) {
    const from = (firstRow + r) * vocab + first
    chunk.set(matrix.subarray(from, from + columns), r * (columns + PADDING))
  }
  return chunk
}

describe.each([
  { rows: 1, vocab: 2, blockRows: 1, chunk: 2, spread: 1 },
  { rows: 5, vocab: 31, blockRows: 2, chunk: 7, spread: 1 },
  { rows: 192, vocab: 256, blockRows: 192, chunk: 256, spread: 5 },
  { rows: 70, vocab: 1000, blockRows: 33, chunk: 333, spread: 300 },
  { rows: 9, vocab: 50_257, blockRows: 9, chunk: 16_384, spread: 3 },
])('$rows rows over $vocab, by $blockRows × $chunk, logits to $spread', ({ rows, vocab, blockRows, chunk, spread }) => {
  it('agrees with the reference', async () => {
    const kernels = await crossEntropyKernels(gpu)
    const logits = noise(rows * vocab, 1, spread)
    const targets = Uint32Array.from(noise(rows, 2), (x) => Math.floor(((x + 1) / 2) * vocab))
    targets[0] = vocab - 1
    const scale = 1 / rows
    const targetBuffer = gpu.pool.upload(targets)
    const logSumExp = gpu.pool.allocate(rows * 4)
    const losses = gpu.pool.allocate(rows * 4)
    const partials = gpu.pool.allocate(partialsBytes(blockRows))
    const actual = new Float32Array(rows * vocab)
    const recorder = new Recorder(gpu)
    const pending: Promise<void>[] = []
    const blocks: (() => void)[] = []
    for (let firstRow = 0; firstRow < rows; firstRow += blockRows) {
      const count = Math.min(blockRows, rows - firstRow)
      const chunks = Array.from({ length: Math.ceil(vocab / chunk) }, (_, i) => {
        const firstColumn = i * chunk
        const columns = Math.min(chunk, vocab - firstColumn)
        const buffer = gpu.pool.upload(cut(logits, vocab, firstRow, count, firstColumn, columns))
        return { firstRow, rows: count, firstColumn, columns, stride: columns + PADDING, buffer }
      })
      for (const c of chunks) kernels.stats(recorder, { logits: c.buffer, targets: targetBuffer, partials }, c)
      kernels.finish(recorder, { partials, logSumExp, losses }, { firstRow, rows: count })
      for (const c of chunks) {
        kernels.gradient(recorder, { logits: c.buffer, targets: targetBuffer, logSumExp }, { ...c, scale })
        pending.push(
          recorder.readF32(c.buffer).then((values) => {
            for (let r = 0; r < count; r++) {
              const line = values.subarray(r * c.stride, r * c.stride + c.columns)
              expect(Array.from(values.subarray(r * c.stride + c.columns, (r + 1) * c.stride))).toEqual([0, 0, 0])
              actual.set(line, (firstRow + r) * vocab + c.firstColumn)
            }
          }),
        )
      }
      blocks.push(() => chunks.forEach((c) => gpu.pool.release(c.buffer)))
    }
    const lossValues = recorder.readF32(losses)
    recorder.submit()
    await Promise.all(pending)
    const exact = Float64Array.from(logits)
    expect(relativeError(await lossValues, crossEntropy(exact, targets, vocab))).toBeLessThan(2e-6)
    expect(relativeError(actual, crossEntropyBackward(exact, targets, vocab, scale))).toBeLessThan(
      spread > 100 ? 1e-4 : 5e-6,
    )
    for (const release of blocks) release()
    for (const buffer of [targetBuffer, logSumExp, losses, partials]) gpu.pool.release(buffer)
  })
})
