/** Proves every matmul variant against f64 sums, on ragged, long and tiny shapes, with every epilogue. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { HALF_MATMUL_VARIANTS, MATMUL_VARIANTS } from '../../src/gpu/kernels/matmul.ts'
import type { MatmulForm, MatmulShape, MatmulVariant, MatmulVariantSpec } from '../../src/gpu/kernels/matmul.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

function reference(
  { form, m, n, k }: MatmulShape,
  a: Float32Array,
  b: Float32Array,
  start?: Float32Array,
): Float64Array {
  const c = Float64Array.from({ length: m * n }, (_, i) => start?.[i] ?? 0)
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) {
        c[i * n + j]! +=
          (form === 'tn' ? a[l * m + i]! : a[i * k + l]!) * (form === 'nt' ? b[j * k + l]! : b[l * n + j]!)
      }
    }
  }
  return c
}

async function run(variant: MatmulVariant, shape: MatmulShape, a: Float32Array, b: Float32Array, start?: Float32Array) {
  const { m, n } = shape
  const c = gpu.pool.upload(start ?? new Float32Array(m * n).fill(7))
  const [bufferA, bufferB] = [gpu.pool.upload(a), gpu.pool.upload(b)]
  const recorder = new Recorder(gpu)
  variant.record(recorder, shape, { a: bufferA, b: bufferB, c }, start !== undefined)
  const result = recorder.readF32({ ...c, size: m * n * 4 })
  recorder.submit()
  const values = await result
  for (const lent of [c, bufferA, bufferB]) gpu.pool.release(lent)
  return values
}

async function runFused(
  spec: MatmulVariantSpec,
  shape: MatmulShape,
  a: Float32Array,
  b: Float32Array,
  { residual }: { residual?: Float32Array },
) {
  const { m, n } = shape
  const variant = await spec.create(gpu, shape.form, shape.epilogue)
  const [c, gated] = [gpu.pool.allocate(m * n * 4), gpu.pool.allocate(m * n * 2)]
  const lent = [gpu.pool.upload(a), gpu.pool.upload(b), gpu.pool.upload(residual ?? new Float32Array(1))]
  const recorder = new Recorder(gpu)
  variant.record(recorder, shape, { a: lent[0]!, b: lent[1]!, residual: lent[2]!, c, gated }, false)
  const results = Promise.all([recorder.readF32(c), recorder.readF32(gated)])
  recorder.submit()
  const [values, products] = await results
  for (const buffer of [c, gated, ...lent]) gpu.pool.release(buffer)
  return { c: values, gated: products }
}

const sizes = [
  [1, 4, 4],
  [1, 1, 1],
  [4, 4, 1],
  [5, 7, 3],
  [24, 36, 20],
  [60, 132, 52],
  [65, 130, 129],
  [192, 256, 128],
  [68, 132, 528],
]

const variants = [...MATMUL_VARIANTS, ...HALF_MATMUL_VARIANTS].filter((variant) => variant.suits(gpu))

describe.each(variants)('matmul $name', (spec) => {
  // Rounding to halves is judged by the largest sum as well; it is what such a variant promises.
  const tolerance = spec.tolerance ?? 2e-6
  describe.each<MatmulForm>(['nt', 'nn', 'tn'])('%s', (form) => {
    const shapes = sizes.map(([m, n, k]) => ({ form, m: m!, n: n!, k: k! })).filter((shape) => spec.accepts(shape))

    it.each(shapes)('[$m,$n] over $k', async (shape) => {
      const { m, n, k } = shape
      const variant = await spec.create(gpu, form)
      const [a, b] = [noise(m * k, 1), noise(k * n, 2)]
      expect(relativeError(await run(variant, shape, a, b), reference(shape, a, b))).toBeLessThan(tolerance)
      const start = noise(m * n, 3, 5)
      const sum = await run(variant, shape, a, b, start)
      expect(relativeError(sum, reference(shape, a, b, start))).toBeLessThan(tolerance)
    })

    it('keeps large and small magnitudes', async () => {
      const shape = { form, m: 32, n: 32, k: 64 }
      if (!spec.accepts(shape)) return
      const variant = await spec.create(gpu, form)
      for (const scale of spec.tolerance ? [100, 1e-2] : [1e15, 1e-15]) {
        const [a, b] = [noise(32 * 64, 4, scale), noise(64 * 32, 5, scale)]
        expect(relativeError(await run(variant, shape, a, b), reference(shape, a, b))).toBeLessThan(tolerance)
      }
    })
  })
})

const fusing = variants.filter((spec) => spec.accepts({ form: 'nt', m: 32, n: 32, k: 32, epilogue: 'swiglu' }))

describe.each(fusing)('matmul $name with an epilogue', (spec) => {
  const shapes = [
    [5, 24, 12],
    [1, 8, 4],
    [33, 144, 64],
    [37, 56, 48],
    [7, 6, 5],
  ].map(([m, n, k]) => ({ form: 'nt' as const, m: m!, n: n!, k: k! }))

  it.each(shapes.filter((shape) => spec.accepts(shape)))('[$m,$n] over $k', async (shape) => {
    const { m, n, k } = shape
    const [a, b] = [noise(m * k, 1, 4), noise(n * k, 2, 4)]
    const sums = reference(shape, a, b)

    const residual = noise(m * n, 3)
    const sum = await runFused(spec, { ...shape, epilogue: 'residual' }, a, b, { residual })
    expect(
      relativeError(
        sum.c,
        sums.map((x, i) => x + residual[i]!),
      ),
    ).toBeLessThan(spec.tolerance ?? 2e-6)

    const { c, gated } = await runFused(spec, { ...shape, epilogue: 'swiglu' }, a, b, {})
    expect(relativeError(c, sums)).toBeLessThan(spec.tolerance ?? 2e-6)
    const f = n / 2
    const expected = Float64Array.from({ length: m * f }, (_, i) => {
      const at = Math.floor(i / f) * n + (i % f)
      return (sums[at]! / (1 + Math.exp(-sums[at]!))) * sums[at + f]!
    })
    expect(relativeError(gated, expected)).toBeLessThan(2 * (spec.tolerance ?? 2.5e-6))
  })

  it('refuses to accumulate, and a missing tensor', async () => {
    const shape = { form: 'nt' as const, m: 4, n: 8, k: 4, epilogue: 'residual' as const }
    const variant = await spec.create(gpu, 'nt', 'residual')
    const view = gpu.pool.allocate(256)
    const tensors = { a: view, b: view, c: view }
    expect(() => variant.record(new Recorder(gpu), shape, tensors, false)).toThrow(RangeError)
    expect(() => variant.record(new Recorder(gpu), shape, { ...tensors, residual: view }, true)).toThrow(RangeError)
    gpu.pool.release(view)
  })
})

describe('k in parts', () => {
  it('gives the same bits each time', async () => {
    const spec = variants.find(({ name }) => name.endsWith('parts'))!
    const shape: MatmulShape = { form: 'tn', m: 36, n: 52, k: 528 }
    const variant = await spec.create(gpu, 'tn')
    const [a, b] = [noise(36 * 528, 1, 9), noise(528 * 52, 2, 9)]
    const first = await run(variant, shape, a, b)
    expect(relativeError(first, reference(shape, a, b))).toBeLessThan(2e-6)
    expect(await run(variant, shape, a, b)).toEqual(first)
    const start = noise(36 * 52, 3, 9)
    expect(relativeError(await run(variant, shape, a, b, start), reference(shape, a, b, start))).toBeLessThan(2e-6)
  })
})
