/** Proves the Muon update of a matrix against the f64 reference, and that the update is a sum of orthogonal directions. */
import { afterAll, describe, expect, it } from 'vitest'
import { tuneMatmul } from '../../src/gpu/autotune.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import { MOMENT_BYTES } from '../../src/gpu/kernels/adamw.ts'
import { muonKernels, muonProducts, muonScalars } from '../../src/gpu/kernels/muon.ts'
import { bf16Decode } from '../../src/model/optimizerMoments.ts'
import { muon, orthogonalized } from '../../src/model/reference/muon.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const optimizer = (moments: 'f32' | 'bf16') => runConfigSchema.parse({ optimizer: { kind: 'muon', moments } }).optimizer

interface Case {
  rows: number
  columns: number
  /** Of the gradients. */
  size?: number
  moments?: 'f32' | 'bf16'
  sums?: 'few' | 'many'
  /** Elements of other tensors before the matrix; more follow it. */
  before?: number
}

/** Runs `steps` updates on the GPU, between neighbours that nothing may touch. */
async function trained({ rows, columns, size = 1, moments = 'f32', before = 0, sums = 'few' }: Case, steps: number) {
  const config = optimizer(moments)
  const length = rows * columns
  // One kernel for every shape: the tuned ones are judged in tests/golden.
  const matmul = await tuneMatmul(gpu, Object.values(muonProducts(rows, columns)), { variants: ['strided 4x4'] })
  const kernels = await muonKernels(gpu, { moments, matmul, sums })
  const all = before + length + 64
  const within = (values: Float32Array, bytes: number) => {
    const { buffer } = gpu.pool.upload(values)
    return { buffer, offset: before * bytes, size: length * bytes }
  }
  const start = noise(all, 1)
  const parameter = within(start, 4)
  const gradient = within(start, 4)
  const bytes = MOMENT_BYTES[moments]
  const momentum = within(new Float32Array(Math.ceil((all * bytes) / 4)), bytes)
  const gradients: Float32Array[] = []
  for (let step = 1; step <= steps; step++) {
    const values = noise(all, 10 + step, size)
    gradients.push(values.subarray(before, before + length))
    gpu.pool.write({ ...gradient, offset: 0 }, values)
    const recorder = new Recorder(gpu)
    recorder.variables = muonScalars(config, { lr: 0.01 * step, scale: 0.37, step })
    kernels.record(recorder, { parameter, gradient, momentum }, { rows, columns, start: before }, config)
    recorder.submit()
  }
  const recorder = new Recorder(gpu)
  const parameters = recorder.readF32({ buffer: parameter.buffer, offset: 0, size: all * 4 })
  const raw = recorder.read({ buffer: momentum.buffer, offset: 0, size: Math.ceil((all * bytes) / 4) * 4 })
  recorder.submit()
  const moment = bytes === 4 ? new Float32Array(await raw) : bf16Decode(new Uint16Array(await raw))
  return { start, gradients, parameters: await parameters, moment: moment.subarray(0, all) }
}

function expected({ rows, columns, before = 0 }: Case, start: Float32Array, gradients: readonly Float32Array[]) {
  const { momentum: beta, weightDecay } = optimizer('f32')
  const parameter = Float64Array.from(start.subarray(before, before + rows * columns))
  const momentum = new Float64Array(rows * columns)
  gradients.forEach((gradient, i) => {
    const scaled = Float64Array.from(gradient, (g) => g * 0.37)
    muon(parameter, scaled, momentum, { rows, columns }, { lr: 0.01 * (i + 1), momentum: beta, weightDecay })
  })
  return { parameter, momentum }
}

describe('the update', () => {
  it.each<Case>([
    { rows: 24, columns: 24 },
    { rows: 12, columns: 40 },
    { rows: 64, columns: 20 },
    { rows: 1, columns: 1 },
    { rows: 1, columns: 37 },
    { rows: 41, columns: 30 },
    { rows: 17, columns: 33 },
    { rows: 128, columns: 384 },
    { rows: 128, columns: 384, sums: 'many' },
    { rows: 17, columns: 33, sums: 'many' },
    { rows: 24, columns: 44, size: 1e12 },
    { rows: 24, columns: 44, size: 1e-12 },
    { rows: 20, columns: 12, before: 4 },
    { rows: 20, columns: 12, before: 36 },
    { rows: 15, columns: 6, before: 38 },
  ])('%j', async (shape) => {
    const { before = 0, rows, columns, size = 1 } = shape
    const { start, gradients, parameters, moment } = await trained(shape, 3)
    const { parameter, momentum } = expected(shape, start, gradients)
    const end = before + rows * columns
    const moved = (values: ArrayLike<number>) => Float64Array.from(values, (x, i) => x - start[before + i]!)
    expect(relativeError(moved(parameters.subarray(before, end)), moved(parameter))).toBeLessThan(1e-4)
    expect(relativeError(moment.subarray(before, end), momentum)).toBeLessThan(2e-6)
    expect(Math.max(...momentum)).toBeLessThan(size)
    // Nothing around it moved.
    expect(parameters.subarray(0, before)).toEqual(start.subarray(0, before))
    expect(parameters.subarray(end)).toEqual(start.subarray(end))
    expect([...moment.subarray(0, before), ...moment.subarray(end + (-end & 3))].every((m) => m === 0)).toBe(true)
  })

  it('gives the same bits twice', async () => {
    const shape = { rows: 48, columns: 80 }
    expect((await trained(shape, 2)).parameters).toEqual((await trained(shape, 2)).parameters)
  })

  it.each<Case>([
    { rows: 24, columns: 44, moments: 'bf16' },
    { rows: 15, columns: 6, moments: 'bf16', before: 38 },
  ])('stays near it with a bf16 momentum, %j', async (shape) => {
    const { before = 0, rows, columns } = shape
    const { start, gradients, parameters, moment } = await trained(shape, 3)
    const { parameter, momentum } = expected(shape, start, gradients)
    const end = before + rows * columns
    expect(relativeError(moment.subarray(before, end), momentum)).toBeLessThan(2e-2)
    const moved = (values: ArrayLike<number>) => Float64Array.from(values, (x, i) => x - start[before + i]!)
    expect(relativeError(moved(parameters.subarray(before, end)), moved(parameter))).toBeLessThan(5e-2)
    expect(parameters.subarray(end)).toEqual(start.subarray(end))
  })
})

describe('the reference', () => {
  it.each([
    [8, 20],
    [20, 8],
    [12, 12],
  ])('brings the singular values of %i x %i near one', (rows, columns) => {
    const update = orthogonalized(Float64Array.from(noise(rows * columns, 3)), rows, columns)
    const side = Math.min(rows, columns)
    // Σ s² is the squared norm; each s lies in about [0.7, 1.2].
    const meanSquare = update.reduce((sum, x) => sum + x * x, 0) / side
    expect(meanSquare).toBeGreaterThan(0.49)
    expect(meanSquare).toBeLessThan(1.44)
  })
})
