/** Owns the matmul kernels that keep everything in registers: for any adapter, for software ones, and for any sizes. */
import registersText from '../../../shaders/matmul/registers.wgsl?raw'
import stridedText from '../../../shaders/matmul/strided_registers.wgsl?raw'
import { createKernel } from '../kernel.ts'
import type { UniformWord } from '../kernel.ts'
import { layoutConstants, matmulBuffers, storeText, wholeVectors } from './matmulVariant.ts'
import type { MatmulForm, MatmulShape, MatmulVariantSpec } from './matmulVariant.ts'

interface RegisterTile {
  /** Rows an invocation loads, in fours, and vec4 columns it owns. */
  readonly quads: number
  readonly vectors: number
  /** Invocations a workgroup. */
  readonly wx: number
  readonly wy: number
}

const SUM = '${s}${q}${l}_${u}'
const CHAIN = `fma(y_\${u}[0], vec4<f32>(x.x), fma(y_\${u}[1], vec4<f32>(x.y),
        fma(y_\${u}[2], vec4<f32>(x.z), fma(y_\${u}[3], vec4<f32>(x.w), c_${SUM}))))`
const DOTS = `vec4<f32>(dot(x, y_\${u}[0]), dot(x, y_\${u}[1]), dot(x, y_\${u}[2]), dot(x, y_\${u}[3])) + c_${SUM}`
const PRODUCT = `x * y_\${u} + c_${SUM}`

export const REGISTER_TEXTS = [registersText, stridedText, CHAIN, DOTS, PRODUCT]

/** 4·quads × 4·vectors sums an invocation, vec4 loads. */
export function registers(tile: RegisterTile): MatmulVariantSpec {
  return registerVariant(`registers ${4 * tile.quads}x${4 * tile.vectors}`, tile, 1, () => ({
    ...{ TURN_ALONG: 'transpose', TURN_ACROSS: '' },
    SUM: CHAIN,
  }))
}

/**
 * As {@link registers}, for subgroups of four, who share the loads of A: each keeps the sums of all sixteen·quads rows.
 * Which text of the same sums is the fastest there was found by measuring: its compiler spills what it could keep.
 */
export function quads(rows: number, vectors: number): MatmulVariantSpec {
  const tile = { quads: rows, vectors, wx: 4, wy: 1 }
  return registerVariant(`quads ${4 * rows}x${4 * vectors}`, tile, 4, (form) => ({
    ...{ TURN_ALONG: '', TURN_ACROSS: 'transpose' },
    SUM: form === 'nt' ? DOTS : PRODUCT,
  }))
}

function registerVariant(
  name: string,
  { quads, vectors, wx, wy }: RegisterTile,
  lanes: 1 | 4,
  sumOf: (form: MatmulForm) => { TURN_ALONG: string; TURN_ACROSS: string; SUM: string },
): MatmulVariantSpec {
  const shared = lanes === 4
  return {
    name,
    suits: ({ subgroupSize }) => !shared || subgroupSize === 4,
    accepts: (shape) => wholeVectors(shape, vectors),
    async create(gpu, form, epilogue) {
      const constants = {
        ...layoutConstants(form),
        ...sumOf(form),
        ...{ QUADS: quads, VECTORS: vectors, WX: wx, WY: wy },
        ...{ LANES: lanes, SHARES: lanes, SHARED: shared ? 1 : 0, ENABLE: shared ? 'enable subgroups;' : '' },
        STORE: storeText(epilogue ?? 'plain', { width: 4, count: vectors }),
      }
      const kernel = await createKernel(gpu, `matmul ${form} ${name}`, registersText, constants)
      return {
        name,
        record(recorder, shape, tensors, accumulate) {
          const { m, n, k } = shape
          const grid = [Math.ceil(n / (4 * vectors * wx)), Math.ceil(m / (4 * quads * lanes * wy))] as const
          const buffers = matmulBuffers(shape, tensors, accumulate)
          recorder.dispatch(kernel, [m, n, k, accumulate ? 1 : 0], buffers, grid)
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

/** The fallback that takes every shape. */
export const strided: MatmulVariantSpec = {
  name: 'strided 4x4',
  fallback: true,
  suits: () => true,
  accepts: ({ form, n, epilogue }) => !epilogue || (form === 'nt' && (epilogue !== 'swiglu' || n % 2 === 0)),
  async create(gpu, _, epilogue) {
    const STORE = storeText(epilogue ?? 'plain', { width: 1, count: 4 })
    const constants = { TM: 4, TN: 4, WX: 8, WY: 8, STORE }
    const kernel = await createKernel(gpu, 'matmul strided 4x4', stridedText, constants)
    return {
      name: 'strided 4x4',
      record(recorder, shape, tensors, accumulate) {
        const grid = [Math.ceil(shape.n / 32), Math.ceil(shape.m / 32)] as const
        recorder.dispatch(kernel, strideWords(shape, accumulate), matmulBuffers(shape, tensors, accumulate), grid)
      },
    }
  },
}
