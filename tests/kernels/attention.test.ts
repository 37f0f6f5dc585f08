/** Proves the attention kernels, forward and backward, against the reference over head shapes and ragged lengths. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { ATTENTION_VARIANTS, attentionKernels } from '../../src/gpu/kernels/attention.ts'
import type { AttentionVariant } from '../../src/gpu/kernels/attention.ts'
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
  /** Half the range of queries and keys: scores grow with its square. */
  spread: number
  /** Half the range of values and of the gradient of the output. */
  values: number
}

/** Queries, keys and values of `shape`, apart as the reference takes them. */
function inputsOf({ batch, sequence, heads, kvHeads, headDim, spread, values }: Case) {
  const rows = batch * sequence
  const [wide, narrow] = [rows * heads * headDim, rows * kvHeads * headDim]
  return {
    q: noise(wide, 1, spread),
    k: noise(narrow, 2, spread),
    v: noise(narrow, 3, values),
    dOut: noise(wide, 4, values),
  }
}

type Inputs = ReturnType<typeof inputsOf>

/** [rows, columns] tensors side by side. */
function beside(rows: number, ...parts: Float32Array[]): Float32Array<ArrayBuffer> {
  const total = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (const part of parts) {
      const columns = part.length / rows
      total.set(part.subarray(row * columns, (row + 1) * columns), at)
      at += columns
    }
  }
  return total
}

function columnsOf(all: Float32Array, rows: number, first: number, count: number): Float32Array {
  const width = all.length / rows
  const part = new Float32Array(rows * count)
  for (let row = 0; row < rows; row++) {
    part.set(all.subarray(row * width + first, row * width + first + count), row * count)
  }
  return part
}

/** What a row past the end of every written tensor holds before and must hold after. */
const CANARY = 12345

async function onGpu(shape: Case, { q, k, v, dOut }: Inputs, variant?: AttentionVariant) {
  const { batch, sequence, heads, kvHeads, headDim } = shape
  const rows = batch * sequence
  const kernels = await attentionKernels(gpu, shape, variant ? { variant } : {})
  const qkv = beside(rows, q, k, v)
  const written = (length: number) => gpu.pool.upload(new Float32Array(length + 64).fill(CANARY))
  const lent = {
    qkv: gpu.pool.upload(qkv),
    dOut: gpu.pool.upload(dOut),
    out: written(q.length),
    logSumExp: written(rows * heads),
    rowDots: written(rows * heads),
    dqkv: written(qkv.length),
  }
  const recorder = new Recorder(gpu)
  kernels.forward(recorder, lent, { batch, sequence })
  kernels.backward(recorder, lent, { batch, sequence })
  const results = Promise.all([lent.out, lent.dqkv, lent.logSumExp, lent.rowDots].map((view) => recorder.readF32(view)))
  recorder.submit()
  const [out, dqkv, logSumExp, rowDots] = (await results) as [Float32Array, Float32Array, Float32Array, Float32Array]
  for (const buffer of Object.values(lent)) gpu.pool.release(buffer)
  for (const whole of [out, dqkv, logSumExp, rowDots]) {
    expect(whole.subarray(whole.length - 64).every((x) => x === CANARY)).toBe(true)
  }
  const own = dqkv.subarray(0, qkv.length)
  const [wide, narrow] = [heads * headDim, kvHeads * headDim]
  return {
    out: out.subarray(0, q.length),
    dq: columnsOf(own, rows, 0, wide),
    dk: columnsOf(own, rows, wide, narrow),
    dv: columnsOf(own, rows, wide + narrow, narrow),
  }
}

/** The tiled kernels: each head dim costs seconds to compile on a software adapter, whose memory is cleared word by word. */
const flash: Case[] = [
  { batch: 2, sequence: 1, heads: 4, kvHeads: 2, headDim: 32, spread: 1, values: 1 },
  { batch: 2, sequence: 65, heads: 4, kvHeads: 2, headDim: 32, spread: 3, values: 1 },
  { batch: 1, sequence: 70, heads: 4, kvHeads: 2, headDim: 32, spread: 30, values: 1e4 },
  { batch: 1, sequence: 37, heads: 3, kvHeads: 1, headDim: 40, spread: 1, values: 1 },
  { batch: 1, sequence: 130, heads: 6, kvHeads: 1, headDim: 64, spread: 1, values: 1 },
  { batch: 1, sequence: 37, heads: 3, kvHeads: 1, headDim: 80, spread: 1, values: 1 },
  { batch: 2, sequence: 77, heads: 2, kvHeads: 2, headDim: 128, spread: 2, values: 1 },
]

const rows: Case[] = [
  ...flash,
  { batch: 2, sequence: 35, heads: 2, kvHeads: 2, headDim: 96, spread: 1, values: 1 },
  { batch: 1, sequence: 1, heads: 1, kvHeads: 1, headDim: 2, spread: 1, values: 1 },
  { batch: 3, sequence: 5, heads: 3, kvHeads: 3, headDim: 6, spread: 1, values: 1 },
  { batch: 2, sequence: 33, heads: 4, kvHeads: 2, headDim: 16, spread: 1, values: 1 },
  { batch: 3, sequence: 64, heads: 4, kvHeads: 4, headDim: 32, spread: 3, values: 1 },
  { batch: 1, sequence: 50, heads: 2, kvHeads: 1, headDim: 48, spread: 1, values: 1 },
  { batch: 1, sequence: 40, heads: 2, kvHeads: 1, headDim: 70, spread: 1, values: 1 },
]

describe.each<Case & { variant: AttentionVariant }>([
  ...flash.map((shape) => ({ ...shape, variant: 'flash' as const })),
  ...rows.map((shape) => ({ ...shape, variant: 'rows' as const })),
])('$variant attention of $batch × $sequence, $heads/$kvHeads heads of $headDim', ({ variant, ...shape }) => {
  it(`agrees with the reference: scores by ${shape.spread}², values to ${shape.values}`, async () => {
    const inputs = inputsOf(shape)
    const actual = await onGpu(shape, inputs, variant)
    const exact = Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, Float64Array.from(x)])) as Record<
      keyof Inputs,
      Float64Array
    >
    const expected = attentionBackward(exact.q, exact.k, exact.v, exact.dOut, shape)
    // A score of hundreds carries its f32 rounding into the exponent.
    const tolerance = shape.spread > 5 ? 2e-4 : 5e-6
    expect(relativeError(actual.out, attention(exact.q, exact.k, exact.v, shape))).toBeLessThan(tolerance)
    if (shape.sequence === 1) {
      // One key: a probability of exactly one leaves no gradient to the scores.
      const gradients = [1, ...actual.dq, ...actual.dk]
      expect(relativeError(gradients, [1, ...new Float32Array(gradients.length - 1)])).toBeLessThan(tolerance)
    } else {
      expect(relativeError(actual.dq, expected.dq)).toBeLessThan(tolerance)
      expect(relativeError(actual.dk, expected.dk)).toBeLessThan(tolerance)
    }
    expect(relativeError(actual.dv, expected.dv)).toBeLessThan(tolerance)
  })
})

describe.each(ATTENTION_VARIANTS)('%s', (variant) => {
  const shape = { batch: 1, sequence: 70, heads: 4, kvHeads: 2, headDim: 32, spread: 1, values: 1 }

  it('lets no row see a later one', async () => {
    const inputs = inputsOf(shape)
    const before = await onGpu(shape, inputs, variant)
    inputs.k.fill(9, 20 * 64)
    inputs.v.fill(-9, 20 * 64)
    const after = await onGpu(shape, inputs, variant)
    expect(after.out.subarray(0, 20 * 128)).toEqual(before.out.subarray(0, 20 * 128))
    expect(after.out[20 * 128]).not.toBe(before.out[20 * 128])
  })

  it('gives the same bits twice, and alone what it gives in a batch', async () => {
    const inputs = inputsOf(shape)
    const once = await onGpu(shape, inputs, variant)
    expect(await onGpu(shape, inputs, variant)).toEqual(once)
    const twice = Object.fromEntries(
      Object.entries(inputs).map(([name, x]) => [name, Float32Array.from([...x, ...x])]),
    ) as Inputs
    const both = await onGpu({ ...shape, batch: 2 }, twice, variant)
    for (const name of ['out', 'dq', 'dk', 'dv'] as const) {
      expect(both[name]).toEqual(Float32Array.from([...once[name], ...once[name]]))
    }
  })
})

it('takes the variant that suits the adapter, and rows where the tiles do not fit the head', async () => {
  const shape = { batch: 1, sequence: 40, heads: 4, kvHeads: 2, headDim: 32, spread: 1, values: 1 }
  const own = gpu.adapter.software ? 'rows' : 'flash'
  expect(await onGpu(shape, inputsOf(shape))).toEqual(await onGpu(shape, inputsOf(shape), own))
  const odd = { ...shape, headDim: 6 }
  expect(await onGpu(odd, inputsOf(odd), 'flash')).toEqual(await onGpu(odd, inputsOf(odd), 'rows'))
})
