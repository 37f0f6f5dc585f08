/** Owns the proof that a matmul variant computes a product, on this adapter, before a run relies on it. */
import type { GpuContext } from './device.ts'
import { Recorder } from './recorder.ts'
import type { MatmulShape, MatmulVariant, MatmulVariantSpec } from './kernels/matmul.ts'

/** Of f32 kernels, over the sum of absolute products of an element. */
const F32_TOLERANCE = 2e-6

/** The most ragged small shape of the same kind that the variant accepts: no side a multiple of a tile, if it can be. */
function raggedShape(spec: MatmulVariantSpec, { form, epilogue }: MatmulShape): MatmulShape | undefined {
  for (const k of [35, 36, 48, 528, 1040]) {
    for (const m of [37, 36, 160]) {
      for (const n of [50, 51, 52, 56, 96]) {
        const shape = { form, m, n, k, ...(epilogue ? { epilogue } : {}) }
        if (spec.accepts(shape)) return shape
      }
    }
  }
  return undefined
}

/** Values in [-scale, scale) from a linear congruence: the same on every machine. */
function values(length: number, seed: number, scale: number): Float32Array<ArrayBuffer> {
  let state = seed >>> 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1) * scale
  })
}

/**
 * Whether `variant` agrees with f64 sums on a ragged shape, at magnitude one and at large ones, with its epilogue, or
 * else storing and then accumulating. Throws what the device throws when it is lost.
 */
export async function verifyMatmul(
  gpu: GpuContext,
  spec: MatmulVariantSpec,
  variant: MatmulVariant,
  like: MatmulShape,
): Promise<boolean> {
  const shape = raggedShape(spec, like)
  if (!shape) return false
  // Products of gate and up must stay within f32, operands of a rounding variant within f16.
  const large = spec.tolerance ? 200 : like.epilogue === 'swiglu' ? 1e6 : 1e15
  for (const scale of [1, large]) if (!(await agrees(gpu, spec, variant, shape, scale))) return false
  return true
}

async function agrees(
  gpu: GpuContext,
  spec: MatmulVariantSpec,
  variant: MatmulVariant,
  shape: MatmulShape,
  scale: number,
): Promise<boolean> {
  const { m, n, k, epilogue } = shape
  const [a, b, start] = [values(m * k, 1, scale), values(k * n, 2, scale), values(m * n, 3, scale * scale)]
  const buffers = [a, b, start, start, new Float32Array(m * n)].map((data) => gpu.pool.upload(data, 'verify'))
  const [bufferA, bufferB, c, residual, gated] = buffers
  const tensors = { a: bufferA!, b: bufferB!, c: c!, residual: residual!, gated: gated! }
  const recorder = new Recorder(gpu)
  variant.record(recorder, shape, tensors, false)
  if (!epilogue) variant.record(recorder, shape, tensors, true)
  const results = Promise.all([recorder.readF32(tensors.c), recorder.readF32(tensors.gated)])
  recorder.submit()
  const [sums, products] = await results
  for (const buffer of buffers) gpu.pool.release(buffer)

  const tolerance = spec.tolerance ?? F32_TOLERANCE
  const exact = reference(shape, a, b)
  // Twice, where the second product was added to the first.
  const times = epilogue ? 1 : 2
  for (let i = 0; i < m * n; i++) {
    const added = epilogue === 'residual' ? start[i]! : 0
    const bound = tolerance * (times * exact.absolute[i]! + Math.abs(added))
    if (!(Math.abs(sums[i]! - times * exact.sums[i]! - added) <= bound)) return false
  }
  return epilogue !== 'swiglu' || gatedAgree(shape, exact, products, tolerance)
}

interface Exact {
  readonly sums: Float64Array
  /** Σ |a·b| of an element, by which its error is judged. */
  readonly absolute: Float64Array
}

function reference({ form, m, n, k }: MatmulShape, a: Float32Array, b: Float32Array): Exact {
  const [sums, absolute] = [new Float64Array(m * n), new Float64Array(m * n)]
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) {
        const x = form === 'tn' ? a[l * m + i]! : a[i * k + l]!
        const y = form === 'nt' ? b[j * k + l]! : b[l * n + j]!
        sums[i * n + j]! += x * y
        absolute[i * n + j]! += Math.abs(x * y)
      }
    }
  }
  return { sums, absolute }
}

function gatedAgree({ m, n }: MatmulShape, exact: Exact, products: Float32Array, tolerance: number): boolean {
  const f = n / 2
  for (let i = 0; i < m * f; i++) {
    const at = Math.floor(i / f) * n + (i % f)
    const [gate, up] = [exact.sums[at]!, exact.sums[at + f]!]
    const expected = (gate / (1 + Math.exp(-gate))) * up
    // The errors of gate (silu's slope is below 1.1) and of up, each times the other, and a few roundings.
    const carried = 1.1 * exact.absolute[at]! * Math.abs(up) + exact.absolute[at + f]! * Math.abs(gate)
    if (!(Math.abs(products[i]! - expected) <= tolerance * (carried + Math.abs(expected)) + 1e-30)) return false
  }
  return true
}
