/** Proves the attention kernels, forward and backward, against the reference over head shapes and ragged lengths. */
import { afterAll, describe, expect, it } from 'vitest'
import type { BufferView } from '../../src/gpu/buffers.ts'
import { Recorder } from '../../src/gpu/kernel.ts'
import { attentionKernels, SCORE_BLOCKS } from '../../src/gpu/kernels/attention.ts'
import type { ScoreBlock } from '../../src/gpu/kernels/attention.ts'
import { attention, attentionBackward } from '../../src/model/reference/attention.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

interface Case {
  batch: number
  sequence: number
  heads: number
  kvHeads: number
  headDim: number
  /** Half the range of the values: scores grow with its square. */
  spread: number
}

const names = ['q', 'k', 'v', 'dOut', 'out', 'logSumExp', 'rowDots', 'dq', 'dk', 'dv'] as const

async function onGpu(shape: Case, inputs: Record<'q' | 'k' | 'v' | 'dOut', Float32Array>, block?: ScoreBlock) {
  const { batch, sequence, heads } = shape
  const kernels = await attentionKernels(gpu, shape, block)
  const lengths = { out: inputs.q.length, logSumExp: batch * sequence * heads, rowDots: batch * sequence * heads }
  const sizes = { ...lengths, dq: inputs.q.length, dk: inputs.k.length, dv: inputs.v.length }
  const lent = names.map((name) =>
    name in inputs
      ? gpu.pool.upload(inputs[name as keyof typeof inputs])
      : gpu.pool.allocate(4 * sizes[name as keyof typeof sizes]),
  )
  const tensors = Object.fromEntries(names.map((name, i) => [name, lent[i]])) as unknown as Record<
    (typeof names)[number],
    BufferView
  >
  const recorder = new Recorder(gpu)
  kernels.forward(recorder, tensors, { batch, sequence })
  kernels.backward(recorder, tensors, { batch, sequence })
  const results = Promise.all((['out', 'dq', 'dk', 'dv'] as const).map((name) => recorder.readF32(tensors[name])))
  recorder.submit()
  const [out, dq, dk, dv] = await results
  for (const buffer of lent) gpu.pool.release(buffer)
  return { out: out!, dq: dq!, dk: dk!, dv: dv! }
}

describe.each<Case>([
  { batch: 1, sequence: 1, heads: 1, kvHeads: 1, headDim: 2, spread: 1 },
  { batch: 3, sequence: 5, heads: 3, kvHeads: 3, headDim: 6, spread: 1 },
  { batch: 2, sequence: 33, heads: 4, kvHeads: 2, headDim: 16, spread: 1 },
  { batch: 3, sequence: 64, heads: 4, kvHeads: 4, headDim: 32, spread: 3 },
  { batch: 1, sequence: 130, heads: 6, kvHeads: 1, headDim: 64, spread: 1 },
  { batch: 2, sequence: 47, heads: 2, kvHeads: 2, headDim: 128, spread: 2 },
  { batch: 1, sequence: 40, heads: 2, kvHeads: 1, headDim: 70, spread: 1 },
  // Scores in the hundreds: only a softmax that subtracts its maximum survives.
  { batch: 1, sequence: 70, heads: 1, kvHeads: 1, headDim: 16, spread: 20 },
])('attention of $batch × $sequence, $heads/$kvHeads heads of $headDim, values to $spread', (shape) => {
  it.each(Object.entries(SCORE_BLOCKS))('agrees with the reference, by the blocks of %s', async (_, block) => {
    const rows = shape.batch * shape.sequence
    const [wide, narrow] = [rows * shape.heads * shape.headDim, rows * shape.kvHeads * shape.headDim]
    const q = noise(wide, 1, shape.spread)
    const k = noise(narrow, 2, shape.spread)
    const v = noise(narrow, 3)
    const dOut = noise(wide, 4)
    const actual = await onGpu(shape, { q, k, v, dOut }, block)
    const [exactQ, exactK, exactV] = [q, k, v].map((x) => Float64Array.from(x)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ]
    const expected = attentionBackward(exactQ, exactK, exactV, Float64Array.from(dOut), shape)
    // A score of hundreds carries its f32 rounding into the exponent.
    const tolerance = shape.spread > 5 ? 1e-4 : 5e-6
    expect(relativeError(actual.out, attention(exactQ, exactK, exactV, shape))).toBeLessThan(tolerance)
    if (rows === 1) {
      // One key: a probability of exactly one leaves no gradient to the scores.
      expect(relativeError([...actual.dq, ...actual.dk, 1], [0, 0, 0, 0, 1])).toBeLessThan(tolerance)
    } else {
      expect(relativeError(actual.dq, expected.dq)).toBeLessThan(tolerance)
      expect(relativeError(actual.dk, expected.dk)).toBeLessThan(tolerance)
    }
    expect(relativeError(actual.dv, expected.dv)).toBeLessThan(tolerance)
  })
})

describe('causality', () => {
  it('lets no row see a later one', async () => {
    const shape = { batch: 1, sequence: 40, heads: 2, kvHeads: 1, headDim: 16, spread: 1 }
    const [q, k, v, dOut] = [noise(1280, 1), noise(640, 2), noise(640, 3), noise(1280, 4)]
    const before = await onGpu(shape, { q, k, v, dOut })
    k.fill(9, 20 * 16)
    v.fill(-9, 20 * 16)
    const after = await onGpu(shape, { q, k, v, dOut })
    expect(after.out.subarray(0, 20 * 32)).toEqual(before.out.subarray(0, 20 * 32))
    expect(after.out[20 * 32]).not.toBe(before.out[20 * 32])
  })
})
