/** Owns the typed call of matrix multiplication and the variants of it that the autotuner chooses among. */
import nnLanes from '../../../shaders/matmul/nn_lanes.wgsl?raw'
import nnRegisters from '../../../shaders/matmul/nn_registers.wgsl?raw'
import ntLanes from '../../../shaders/matmul/nt_lanes.wgsl?raw'
import ntRegisters from '../../../shaders/matmul/nt_registers.wgsl?raw'
import storePlain from '../../../shaders/matmul/store_plain.wgsl?raw'
import storeResidual from '../../../shaders/matmul/store_residual.wgsl?raw'
import storeSwiglu from '../../../shaders/matmul/store_swiglu.wgsl?raw'
import stridedRegisters from '../../../shaders/matmul/strided_registers.wgsl?raw'
import tiled from '../../../shaders/matmul/tiled.wgsl?raw'
import tnLanes from '../../../shaders/matmul/tn_lanes.wgsl?raw'
import tnRegisters from '../../../shaders/matmul/tn_registers.wgsl?raw'
import type { BufferView } from '../buffers.ts'
import type { GpuContext } from '../device.ts'
import { createKernel } from '../kernel.ts'
import type { Recording, UniformWord } from '../kernel.ts'
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

/** One compiled kernel, good for every size of the form it was made for, within `accepts`. */
export interface MatmulVariant {
  readonly name: string
  /** c = a·b, or c += a·b with `accumulate`, which no epilogue takes. Sums in f32, in the order of k. */
  record(recorder: Recording, shape: MatmulShape, tensors: MatmulTensors, accumulate: boolean): void
}

interface VariantSpec {
  readonly name: string
  /** Whether the adapter can run it at all. */
  suits(gpu: GpuContext): boolean
  /** Whether it is right for the shape. */
  accepts(shape: MatmulShape): boolean
  create(gpu: GpuContext, form: MatmulForm, epilogue?: MatmulEpilogue): Promise<MatmulVariant>
}

const registerSources = { nt: ntRegisters, nn: nnRegisters, tn: tnRegisters }
const laneSources = { nt: ntLanes, nn: nnLanes, tn: tnLanes }

const stores = { none: storePlain, residual: storeResidual, swiglu: storeSwiglu }

/** The tensors in the order of the bindings. Throws a RangeError where the epilogue misses one. */
function buffersOf({ epilogue }: MatmulShape, tensors: MatmulTensors, accumulate: boolean): BufferView[] {
  const { a, b, c, residual, gated } = tensors
  if (!epilogue) return [a, b, c]
  const more = epilogue === 'residual' ? residual : gated
  if (!more || accumulate) throw new RangeError(`The epilogue ${epilogue} needs its tensor, and does not accumulate.`)
  return [a, b, c, more]
}

/** The sides that vec4 loads run along are whole vec4s. */
function wholeVectors({ form, m, n, k, epilogue }: MatmulShape): boolean {
  if (epilogue && form !== 'nt') return false
  if (form === 'nt') return k % 4 === 0
  if (form === 'nn') return k % 4 === 0 && n % 4 === 0
  return m % 4 === 0 && n % 4 === 0
}

/** `tm` × `tn` sums an invocation, vec4 loads; `wx` × `wy` invocations a workgroup. */
function registers(tm: number, tn: number, wx: number, wy: number): VariantSpec {
  const name = `registers ${tm}x${tn}`
  return {
    name,
    suits: () => true,
    accepts: wholeVectors,
    async create(gpu, form, epilogue) {
      const STORE = template(stores[epilogue ?? 'none'], { TN: tn })
      const constants = { TM: tm, TN: tn, TU: tm / 4, TV: tn / 4, WX: wx, WY: wy, STORE }
      const kernel = await createKernel(gpu, `matmul ${form} ${name}`, registerSources[form], constants)
      return {
        name,
        record(recorder, shape, tensors, accumulate) {
          const { m, n, k } = shape
          const grid = [Math.ceil(n / (tn * wx)), Math.ceil(m / (tm * wy))] as const
          recorder.dispatch(kernel, [m, n, k, accumulate ? 1 : 0], buffersOf(shape, tensors, accumulate), grid)
        },
      }
    },
  }
}

/** As {@link registers}, for subgroups of four that share the loads of A: twice as fast where loads are the cost. */
function lanes(tm: number, tn: number): VariantSpec {
  const name = `lanes ${tm}x${tn}`
  return {
    name,
    suits: ({ subgroupSize }) => subgroupSize === 4,
    accepts: wholeVectors,
    async create(gpu, form, epilogue) {
      const STORE = template(stores[epilogue ?? 'none'], { TN: tn })
      const constants = { TM: tm, TN: tn, TQ: tm / 4, TV: tn / 4, STORE }
      const kernel = await createKernel(gpu, `matmul ${form} ${name}`, laneSources[form], constants)
      return {
        name,
        record(recorder, shape, tensors, accumulate) {
          const { m, n, k } = shape
          const grid = [Math.ceil(n / (4 * tn)), Math.ceil(m / tm)] as const
          recorder.dispatch(kernel, [m, n, k, accumulate ? 1 : 0], buffersOf(shape, tensors, accumulate), grid)
        },
      }
    },
  }
}

function strideWords({ form, m, n, k }: MatmulShape, accumulate: boolean): UniformWord[] {
  const [aRow, aStep] = form === 'tn' ? [1, m] : [k, 1]
  const [bColumn, bStep] = form === 'nt' ? [k, 1] : [1, n]
  return [m, n, k, accumulate ? 1 : 0, aRow, aStep, bColumn, bStep]
}

const strided: VariantSpec = {
  name: 'strided 4x4',
  suits: () => true,
  accepts: ({ form, epilogue }) => !epilogue || form === 'nt',
  async create(gpu, _, epilogue) {
    const STORE = template(stores[epilogue ?? 'none'], { TN: 4 })
    const constants = { TM: 4, TN: 4, WX: 8, WY: 8, STORE }
    const kernel = await createKernel(gpu, 'matmul strided 4x4', stridedRegisters, constants)
    return {
      name: 'strided 4x4',
      record(recorder, shape, tensors, accumulate) {
        const grid = [Math.ceil(shape.n / 32), Math.ceil(shape.m / 32)] as const
        recorder.dispatch(kernel, strideWords(shape, accumulate), buffersOf(shape, tensors, accumulate), grid)
      },
    }
  },
}

/** `tm` × `tn` sums for each of 16 × 16 invocations, `depth` columns of k at a time in workgroup memory. */
function workgroupTiled(tm: number, tn: number, depth: number): VariantSpec {
  const [bm, bn] = [tm * 16, tn * 16]
  const name = `tiled ${bm}x${bn}`
  return {
    name,
    suits: () => true,
    accepts: ({ epilogue }) => !epilogue,
    async create(gpu, form) {
      const constants = {
        ...{ TM: tm, TN: tn, BM: bm, BN: bn, BK: depth },
        ...{ A_ALONG_K: String(form !== 'tn'), B_ALONG_K: String(form === 'nt') },
      }
      const kernel = await createKernel(gpu, `matmul ${form} ${name}`, tiled, constants)
      return {
        name,
        record(recorder, shape, { a, b, c }, accumulate) {
          const grid = [Math.ceil(shape.n / bn), Math.ceil(shape.m / bm)] as const
          recorder.dispatch(kernel, strideWords(shape, accumulate), [a, b, c], grid)
        },
      }
    },
  }
}

/** Every variant there is, the safe choice for an unmeasured adapter first. */
export const MATMUL_VARIANTS: readonly VariantSpec[] = [
  registers(8, 8, 8, 2),
  registers(4, 4, 8, 8),
  registers(16, 8, 8, 2),
  lanes(16, 8),
  lanes(16, 16),
  strided,
  workgroupTiled(4, 4, 16),
  workgroupTiled(8, 8, 8),
]

export type { VariantSpec as MatmulVariantSpec }
