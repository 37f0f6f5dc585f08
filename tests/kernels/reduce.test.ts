/** Proves the ordered reductions: right, and bit for bit the same on every run. */
import { afterAll, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { reduceKernels, squarePartials } from '../../src/gpu/kernels/reduce.ts'
import { noise, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

it.each([
  [1, 1],
  [63, 1],
  [100_003, 1],
  [3_000_000, 1e-8],
  [5000, 1e15],
])('the squared norm of %i values of size %f', async (length, scale) => {
  const { squares } = await reduceKernels(gpu)
  const values = noise(length, 1, scale)
  const buffer = gpu.pool.upload(values)
  const norm = async () => {
    const recorder = new Recorder(gpu)
    const size = squarePartials(length) * 4
    const partial = { ...recorder.scratch(size), size }
    squares(recorder, { values: buffer, partial }, length)
    const result = recorder.readF32(partial)
    recorder.release(partial)
    recorder.submit()
    return (await result).reduce((sum, x) => sum + x, 0)
  }
  const expected = values.reduce((sum, x) => sum + x * x, 0)
  const actual = await norm()
  expect(Math.abs(actual / expected - 1)).toBeLessThan(1e-5)
  expect(await norm()).toBe(actual)
})

it('adds in the order of the calls, within its length', async () => {
  const { accumulate } = await reduceKernels(gpu)
  const total = gpu.pool.upload(new Float32Array(103).fill(1))
  const parts = [noise(100, 1, 1e6), noise(100, 2, 1e-2), noise(100, 3)]
  const recorder = new Recorder(gpu)
  for (const part of parts) accumulate(recorder, gpu.pool.upload(part), total, 100)
  const result = recorder.readF32({ ...total, size: 103 * 4 })
  recorder.submit()
  const expected = Array.from({ length: 103 }, (_, i) =>
    parts.reduce((sum, part) => Math.fround(sum + (part[i] ?? 0)), 1),
  )
  expect(Array.from(await result)).toEqual(expected)
})
