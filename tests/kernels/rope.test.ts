/** Proves the rotary kernel against the reference, at positions up to the largest block. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/kernel.ts'
import { ropeKernels, ropeTable } from '../../src/gpu/kernels/rope.ts'
import { rope } from '../../src/model/reference/rope.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

describe.each([
  { batch: 1, sequence: 1, heads: 1, headDim: 2, theta: 10_000 },
  { batch: 3, sequence: 7, heads: 3, headDim: 6, theta: 10_000 },
  { batch: 2, sequence: 64, heads: 4, headDim: 32, theta: 10_000 },
  { batch: 1, sequence: 300, heads: 2, headDim: 128, theta: 500_000 },
  { batch: 1, sequence: 8192, heads: 1, headDim: 16, theta: 10_000 },
])('rope of $batch × $sequence, $heads heads of $headDim', ({ batch, sequence, heads, headDim, theta }) => {
  it('turns forward and back', async () => {
    const kernels = await ropeKernels(gpu, { headDim })
    const rows = batch * sequence
    const values = noise(rows * heads * headDim, 1)
    // The table may be longer than the sequence.
    const table = gpu.pool.upload(ropeTable(sequence + 3, headDim, theta))
    const x = gpu.pool.upload(values)
    const recorder = new Recorder(gpu)
    kernels.forward(recorder, { x, table }, { rows, heads, sequence })
    const turned = recorder.readF32(x)
    kernels.backward(recorder, { x, table }, { rows, heads, sequence })
    kernels.backward(recorder, { x, table }, { rows, heads, sequence })
    const back = recorder.readF32(x)
    recorder.submit()
    const exact = Float64Array.from(values)
    expect(relativeError(await turned, rope(exact, heads, headDim, sequence, theta))).toBeLessThan(1e-6)
    expect(relativeError(await back, rope(exact, heads, headDim, sequence, theta, -1))).toBeLessThan(1e-6)
    for (const buffer of [table, x]) gpu.pool.release(buffer)
  })
})
