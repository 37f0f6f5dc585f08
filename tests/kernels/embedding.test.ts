/** Proves the embedding kernels against the reference, from one token to skewed vocabularies. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { embeddingKernels, segmentWords, tokenSegments } from '../../src/gpu/kernels/embedding.ts'
import { embed, embedBackward } from '../../src/model/reference/embedding.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

/** Half of the tokens are token 3, as blanks are in a text. */
const skewed = (rows: number, vocab: number) =>
  Uint32Array.from(noise(rows, 5), (x) => (x < 0 ? 3 % vocab : Math.floor(x * vocab)))

describe('tokenSegments', () => {
  it('groups positions by token, ascending', () => {
    const { words, distinct } = tokenSegments(new Uint32Array([7, 2, 7, 9, 7, 2]))
    expect(distinct).toBe(3)
    expect(words.length).toBeLessThanOrEqual(segmentWords(6))
    const found = Array.from({ length: distinct }, (_, s) => {
      const [token, first, end] = words.subarray(3 * s, 3 * s + 3)
      return [token, ...words.subarray(first, end)]
    })
    expect(found).toEqual([
      [7, 0, 2, 4],
      [2, 1, 5],
      [9, 3],
    ])
  })
})

describe.each([
  { rows: 1, d: 1, vocab: 2 },
  { rows: 7, d: 6, vocab: 5 },
  { rows: 200, d: 30, vocab: 256 },
  { rows: 768, d: 128, vocab: 256 },
  { rows: 300, d: 64, vocab: 50_257 },
])('embedding of $rows tokens, $vocab by $d', ({ rows, d, vocab }) => {
  it('gathers, and adds gradients to what is there', async () => {
    const kernels = await embeddingKernels(gpu, { d })
    const tokens = skewed(rows, vocab)
    const [table, dOut, before] = [noise(vocab * d, 1), noise(rows * d, 2), noise(vocab * d, 3)]
    const { words, distinct } = tokenSegments(tokens)
    const lent = [tokens, table, words, dOut, before].map((values) => gpu.pool.upload(values))
    const [tokenBuffer, tableBuffer, segments, dOutBuffer, tableGradient] = lent as [
      (typeof lent)[0],
      (typeof lent)[0],
      (typeof lent)[0],
      (typeof lent)[0],
      (typeof lent)[0],
    ]
    const out = gpu.pool.allocate(rows * d * 4)
    const recorder = new Recorder(gpu)
    recorder.variables = { distinct }
    kernels.forward(recorder, { tokens: tokenBuffer, table: tableBuffer, out }, { rows })
    kernels.backward(recorder, { segments, dOut: dOutBuffer, tableGradient }, { rows: Math.min(rows, vocab) })
    const results = [recorder.readF32({ ...out, size: rows * d * 4 }), recorder.readF32(tableGradient)] as const
    recorder.submit()

    const expected = Float64Array.from(before)
    embedBackward(expected, tokens, Float64Array.from(dOut), d)
    expect(Array.from(await results[0])).toEqual(Array.from(embed(Float64Array.from(table), tokens, d)))
    expect(relativeError(await results[1], expected)).toBeLessThan(2e-6)
    for (const buffer of [...lent, out]) gpu.pool.release(buffer)
  })
})
