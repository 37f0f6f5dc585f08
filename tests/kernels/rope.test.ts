/** Proves the rotary kernel against the reference, at positions up to the largest block. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
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

describe.each([{ headDim: 6 }, { headDim: 32 }])('rope in fused rows of heads of $headDim', ({ headDim }) => {
  it('turns the first heads of a row and leaves the rest', async () => {
    const [rows, sequence, heads, allHeads] = [10, 5, 3, 5]
    const [width, stride] = [heads * headDim, allHeads * headDim]
    const kernels = await ropeKernels(gpu, { headDim })
    const values = noise(rows * stride, 2)
    const table = gpu.pool.upload(ropeTable(sequence, headDim, 10_000))
    const x = gpu.pool.upload(values)
    const recorder = new Recorder(gpu)
    kernels.forward(recorder, { x, table }, { rows, heads, sequence, stride })
    const result = recorder.readF32(x)
    recorder.submit()
    const turned = await result
    const first = Array.from({ length: rows }, (_, row) => [...values.subarray(row * stride, row * stride + width)])
    const expected = rope(Float64Array.from(first.flat()), heads, headDim, sequence, 10_000)
    for (let row = 0; row < rows; row++) {
      const at = row * stride
      const own = expected.subarray(row * width, (row + 1) * width)
      expect(relativeError(turned.subarray(at, at + width), own)).toBeLessThan(1e-6)
      expect(turned.subarray(at + width, at + stride)).toEqual(values.subarray(at + width, at + stride))
    }
    for (const buffer of [table, x]) gpu.pool.release(buffer)
  })
})
