import { expect, it } from 'vitest'
import { kernelFlops, parameters, trainFlopsPerToken } from '../../bench/flops.ts'
import { WORKS } from '../../bench/works.ts'

it('counts a multiply-add as two', () => {
  expect(kernelFlops({ op: 'matmul', form: 'nt', m: 3, n: 5, k: 7 })).toBe(210)
})

it('counts the causal half of attention, and two and a half times that backward', () => {
  const shape = { op: 'attention', batch: 2, heads: 3, seq: 16, headDim: 8 } as const
  // Two products of 16·16/2 pairs, eight multiply-adds each, in six heads.
  expect(kernelFlops({ ...shape, pass: 'forward' })).toBe(2 * 6 * 128 * 8 * 2)
  expect(kernelFlops({ ...shape, pass: 'forwardBackward' })).toBe(3.5 * 2 * 6 * 128 * 8 * 2)
})

it('counts six for each parameter that is multiplied, and attention', () => {
  const { model } = WORKS.w1.config
  const layer = 4 * 128 * 128 + 3 * 128 * 384
  expect(parameters(model)).toBe(4 * (layer + 2 * 128) + 2 * 256 * 128 + 128)
  expect(trainFlopsPerToken(model)).toBe(6 * (parameters(model) - 256 * 128) + 12 * 4 * 128 * 64)
  expect(trainFlopsPerToken({ ...model, tieEmbeddings: true })).toBe(
    6 * parameters({ ...model, tieEmbeddings: true }) + 12 * 4 * 128 * 64,
  )
})

it('keeps w3 near 160 million parameters', () => {
  expect(parameters(WORKS.w3.config.model) / 160e6).toBeCloseTo(1, 1)
})
