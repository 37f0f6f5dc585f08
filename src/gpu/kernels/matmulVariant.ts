/** Owns the words of matrix multiplication: shapes, tensors, epilogues, and what a variant of the kernel promises. */
import storePartial from '../../../shaders/matmul/store_partial.wgsl?raw'
import storePlain from '../../../shaders/matmul/store_plain.wgsl?raw'
import storeResidual from '../../../shaders/matmul/store_residual.wgsl?raw'
import storeSwiglu from '../../../shaders/matmul/store_swiglu.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import type { Recording } from '../kernel.ts'
import { template } from '../template.ts'

/**
 * How A and B lie in memory, row-major, for C [m,n] summed over k:
 * `nt` A [m,k] · B [n,k]ᵀ (y = x·Wᵀ), `nn` A [m,k] · B [k,n] (dx = dy·W), `tn` A [k,m]ᵀ · B [k,n] (dW = dyᵀ·x).
 */
export type MatmulForm = 'nt' | 'nn' | 'tn'

/**
 * What is done with the sums of form `nt` while they are in registers. `residual` c = residual + a·b; `swiglu`, where B
 * is [2f,k] with gate rows before up rows: c [m,2f] = a·b, and gated [m,f] = silu(gate) · up.
 */
export type MatmulEpilogue = 'residual' | 'swiglu'

export interface MatmulShape {
  readonly form: MatmulForm
  readonly m: number
  readonly n: number
  readonly k: number
  readonly epilogue?: MatmulEpilogue
}

export interface MatmulTensors {
  readonly a: BufferView
  readonly b: BufferView
  /** f32 [m,n], neither `a` nor `b`. */
  readonly c: BufferView
  /** f32 [m,n], read by the epilogue `residual`. */
  readonly residual?: BufferView
  /** f32 [m, n/2], written by the epilogue `swiglu`. */
  readonly gated?: BufferView
}

/** One compiled kernel, good for every size of the form and epilogue it was made for, within `accepts`. */
export interface MatmulVariant {
  readonly name: string
  /** c = a·b, or c += a·b with `accumulate`, which no epilogue takes. Sums in f32, in an order that is always the same. */
  record(recorder: Recording, shape: MatmulShape, tensors: MatmulTensors, accumulate: boolean): void
}

export interface MatmulVariantSpec {
  readonly name: string
  /** Where A and B are rounded on the way: the largest error allowed, over the largest sum of absolute products. */
  readonly tolerance?: number
  /** Takes what nothing else does, and is slow: never measured against others. */
  readonly fallback?: boolean
  /** Whether the adapter can run it at all. */
  suits(gpu: GpuContext): boolean
  /** Whether it is right for the shape. */
  accepts(shape: MatmulShape): boolean
  create(gpu: GpuContext, form: MatmulForm, epilogue?: MatmulEpilogue): Promise<MatmulVariant>
}

/** The tensors in the order of the bindings. Throws a RangeError where the epilogue misses one. */
export function matmulBuffers({ epilogue }: MatmulShape, tensors: MatmulTensors, accumulate: boolean): BufferView[] {
  const { a, b, c, residual, gated } = tensors
  if (!epilogue) return [a, b, c]
  const more = epilogue === 'residual' ? residual : gated
  if (!more || accumulate) throw new RangeError(`The epilogue ${epilogue} needs its tensor, and does not accumulate.`)
  return [a, b, c, more]
}

/** The texts that all kernels end in. */
export const STORE_TEXTS = [storePlain, storeResidual, storeSwiglu, storePartial]
const stores = { plain: storePlain, residual: storeResidual, swiglu: storeSwiglu, partial: storePartial }

export interface StoreLayout {
  /** Floats a column of C is stored by. */
  readonly width: 1 | 4
  /** Columns an invocation owns in a row, and how far apart they lie. */
  readonly count: number
  readonly apart?: number
}

/** The text that ends a kernel: C's binding, the columns an invocation owns, and how their sums are stored. */
export function storeText(store: keyof typeof stores, { width, count, apart = 1 }: StoreLayout): string {
  return template(stores[store], {
    ...(width === 4 ? { VECTOR: 'vec4<f32>', SHIFT: 2 } : { VECTOR: 'f32', SHIFT: 0 }),
    ...{ COUNT: count, PAIRS: count / 2, APART: apart },
    ...(apart === 1 ? { ADJACENT: 1, SPREAD: 0 } : { ADJACENT: 0, SPREAD: 1 }),
  })
}

/** How A and B lie, as switches of the kernel's text. */
export function layoutConstants(form: MatmulForm): Record<string, 0 | 1> {
  const [alongA, alongB] = [form !== 'tn', form === 'nt']
  return {
    A_ALONG: alongA ? 1 : 0,
    A_ACROSS: alongA ? 0 : 1,
    B_ALONG: alongB ? 1 : 0,
    B_ACROSS: alongB ? 0 : 1,
    A_ALONG_B_ACROSS: alongA && !alongB ? 1 : 0,
  }
}

/** The sides that vec4s run along are whole vec4s, and a pair of gate and up columns has one owner. */
export function wholeVectors({ form, m, n, k, epilogue }: MatmulShape, vectors: number): boolean {
  if (epilogue && form !== 'nt') return false
  if (epilogue === 'swiglu' && (vectors % 2 !== 0 || n % 8 !== 0)) return false
  return n % 4 === 0 && (form === 'tn' ? m : k) % 4 === 0
}
