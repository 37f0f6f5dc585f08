/** Proves the tuner: the fastest right kernel wins, a wrong one never does, and what was learnt is kept and believed. */
import { afterAll, describe, expect, it } from 'vitest'
import { tuneMatmul } from '../../src/gpu/autotune.ts'
import type { TuningStore } from '../../src/gpu/autotune.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import { MATMUL_VARIANTS } from '../../src/gpu/kernels/matmul.ts'
import type { MatmulShape, MatmulVariantSpec } from '../../src/gpu/kernels/matmul.ts'
import { freshGpu, noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

const spec = (name: string) => MATMUL_VARIANTS.find((one) => one.name === name)!

/** Does nothing at all, or leaves the last row out: fast, and wrong. */
function wrong(kind: 'last row' | 'nothing'): MatmulVariantSpec {
  const real = spec('registers 4x4')
  return {
    ...real,
    name: `wrong ${kind}`,
    async create(context, form, epilogue) {
      const variant = await real.create(context, form, epilogue)
      return {
        name: `wrong ${kind}`,
        record(recorder, shape, tensors, accumulate) {
          if (kind === 'last row') variant.record(recorder, { ...shape, m: shape.m - 1 }, tensors, accumulate)
        },
      }
    },
  }
}

class MemoryStore implements TuningStore {
  readonly texts = new Map<string, string>()

  load(key: string): Promise<string | null> {
    return Promise.resolve(this.texts.get(key) ?? null)
  }

  save(key: string, text: string): Promise<void> {
    this.texts.set(key, text)
    return Promise.resolve()
  }
}

const large: MatmulShape = { form: 'nn', m: 256, n: 128, k: 128 }
const small: MatmulShape = { form: 'nt', m: 24, n: 16, k: 16, epilogue: 'residual' }

describe('tuneMatmul', () => {
  it('measures every variant asked for, takes the fastest and computes with it', async () => {
    const shape: MatmulShape = { form: 'nn', m: 96, n: 64, k: 64 }
    const names = ['registers 8x8', 'registers 4x4', 'strided 4x4']
    const matmul = await tuneMatmul(gpu, [shape], { variants: names, budgetMs: 60_000 })
    expect(matmul.measurements.map((one) => one.variant).sort()).toEqual([...names].sort())
    const best = matmul.measurements.reduce((a, b) => (a.milliseconds <= b.milliseconds ? a : b))
    expect(matmul.chosen(shape)).toBe(best.variant)
    expect(matmul.rate).toBeCloseTo((96 * 64 * 64 * 1000) / best.milliseconds, -2)
    const [a, b] = [noise(96 * 64, 6), noise(64 * 64, 7)]
    const [bufferA, bufferB, c] = [gpu.pool.upload(a), gpu.pool.upload(b), gpu.pool.allocate(96 * 64 * 4)]
    const recorder = new Recorder(gpu)
    matmul.record(recorder, shape, { a: bufferA, b: bufferB, c })
    const result = recorder.readF32({ ...c, size: 96 * 64 * 4 })
    recorder.submit()
    const expected = Float64Array.from({ length: 96 * 64 }, (_, at) => {
      const [i, j] = [Math.floor(at / 64), at % 64]
      return Array.from({ length: 64 }, (__, l) => a[i * 64 + l]! * b[l * 64 + j]!).reduce((x, y) => x + y)
    })
    expect(relativeError(await result, expected)).toBeLessThan(2e-6)
    for (const buffer of [bufferA, bufferB, c]) gpu.pool.release(buffer)
  })

  it('finds a kernel for ragged sides, and refuses a shape it never saw', async () => {
    const ragged: MatmulShape = { form: 'tn', m: 5, n: 7, k: 3 }
    const matmul = await tuneMatmul(gpu, [ragged])
    expect(matmul.chosen(ragged)).toBe('strided 4x4')
    expect(() => matmul.chosen({ ...ragged, form: 'nt', m: 4096, epilogue: 'swiglu' })).toThrow(RangeError)
  })

  it('stops measuring when its time is up, and knows the rate all the same', async () => {
    const shape: MatmulShape = { form: 'nt', m: 40, n: 40, k: 40 }
    const names = ['registers 8x8', 'registers 4x4']
    const matmul = await tuneMatmul(gpu, [shape], { variants: names, budgetMs: 0 })
    expect(matmul.measurements).toHaveLength(1)
    expect(matmul.chosen(shape)).toBe('registers 8x8')
    expect(matmul.rate).toBeGreaterThan(0)
  })

  it('takes the largest work first and tells how far it is', async () => {
    const seen: number[][] = []
    const matmul = await tuneMatmul(gpu, [small, large, { ...small, m: 28 }], {
      variants: ['registers 8x8', 'registers 4x4'],
      onProgress: (done, total) => seen.push([done, total]),
    })
    expect(seen).toEqual([
      [1, 2],
      [2, 2],
    ])
    expect(matmul.measurements[0]!.shape).toEqual(large)
    expect(matmul.measurements).toHaveLength(4)
  })

  it.each(['last row', 'nothing'] as const)('drops a fast kernel that computes wrongly (%s)', async (kind) => {
    for (const shape of [large, small]) {
      const ladder = [wrong(kind), spec('registers 4x4'), spec('registers 8x8')]
      const matmul = await tuneMatmul(gpu, [shape], { ladder, variants: ladder.map(({ name }) => name) })
      expect(matmul.chosen(shape)).toMatch(/^registers/)
      const only = await tuneMatmul(gpu, [shape], { ladder: [wrong(kind)] }).catch((error: unknown) => error)
      expect(only).toMatchObject({ code: 'gpu.shader' })
    }
  })

  it('notes what it dropped', async () => {
    const ladder = [wrong('nothing'), spec('registers 4x4')]
    const { measurements } = await tuneMatmul(gpu, [large], { ladder, variants: ladder.map(({ name }) => name) })
    expect(measurements.find(({ variant }) => variant === 'wrong nothing')?.note).toMatch(/dropped/)
  })
})

describe('a kept choice', () => {
  const variants = ['registers 4x4', 'registers 8x8']
  const tune = async (store: TuningStore, runtime = 'browser 1') => {
    const own = await freshGpu() // Another device: nothing is remembered but by the store.
    try {
      const matmul = await tuneMatmul(own, [large], { store, runtime, variants, budgetMs: 60_000 })
      return { measured: matmul.measurements.length, chosen: matmul.chosen(large), rate: matmul.rate }
    } finally {
      own.destroy()
    }
  }

  it('is believed by the same adapter, runtime and texts, and by no other', async () => {
    const store = new MemoryStore()
    const first = await tune(store)
    expect(first.measured).toBeGreaterThan(1)
    expect(store.texts.size).toBe(1)
    expect(await tune(store)).toEqual({ ...first, measured: 0 })
    expect((await tune(store, 'browser 2')).measured).toBeGreaterThan(1)
    expect(store.texts.size).toBe(2)
  })

  it.each(['{', '{"winners":{"nn plain 8 7 7":{"variant":3}}}', '[]'])(
    'that is broken is ignored: %s',
    async (text) => {
      const store = new MemoryStore()
      await tune(store)
      const key = [...store.texts.keys()][0]!
      store.texts.set(key, text)
      expect((await tune(store)).measured).toBeGreaterThan(1)
      expect(store.texts.get(key)).not.toBe(text)
    },
  )

  it('may name a variant that is no more, and a store may fail', async () => {
    const store = new MemoryStore()
    await tune(store)
    const key = [...store.texts.keys()][0]!
    store.texts.set(key, store.texts.get(key)!.replace(/"variant":"[^"]+"/, '"variant":"gone"'))
    expect((await tune(store)).measured).toBeGreaterThan(1)
    const failing: TuningStore = {
      load: () => Promise.reject(new Error('no storage')),
      save: () => Promise.reject(new Error('no storage')),
    }
    expect((await tune(failing)).measured).toBeGreaterThan(1)
  })
})
