/** Owns the matmul kernel on subgroup matrices, for adapters that offer 8 × 8 of them in f32. */
import subgroupMatrixText from '../../../shaders/matmul/subgroup_matrix.wgsl?raw'
import type { GpuContext } from '../device.ts'
import { createKernel } from '../kernel.ts'
import { layoutConstants, matmulBuffers } from './matmulVariant.ts'
import type { MatmulVariantSpec } from './matmulVariant.ts'

export const SUBGROUP_TEXTS = [subgroupMatrixText]

/** Not in the type definitions yet: https://github.com/gpuweb/gpuweb/issues/4195. */
interface SubgroupMatrixConfig {
  readonly M: number
  readonly N: number
  readonly K: number
  readonly componentType: string
  readonly resultComponentType: string
}

const FEATURE = 'chromium-experimental-subgroup-matrix'

/** Whether the device has the feature and its adapter names the one configuration the kernel is written for. */
function offersF32({ device }: GpuContext): boolean {
  if (!device.features.has(FEATURE)) return false
  const { subgroupMatrixConfigs } = device.adapterInfo as { subgroupMatrixConfigs?: readonly SubgroupMatrixConfig[] }
  return [...(subgroupMatrixConfigs ?? [])].some(
    ({ M, N, K, componentType, resultComponentType }) =>
      [M, N, K].every((side) => side === 8) && componentType === 'f32' && resultComponentType === 'f32',
  )
}

/** Blocks of rows a workgroup owns: its subgroups share them, and there are at most as many. */
const PARTS = 4

/** 8·tiles × 8·tiles sums a subgroup, loaded straight from storage. */
export function subgroupMatrix(tiles: number): MatmulVariantSpec {
  const side = 8 * tiles
  const name = `subgroup matrix ${side}x${side}`
  return {
    name,
    suits: offersF32,
    accepts: ({ m, n, k, epilogue }) =>
      epilogue !== 'swiglu' && m % side === 0 && n % side === 0 && k % 8 === 0 && k > 0,
    async create(gpu, form, epilogue) {
      const constants = {
        ...layoutConstants(form),
        ...{
          TILES_M: tiles,
          TILES_N: tiles,
          PARTS,
          INVOCATIONS: gpu.device.adapterInfo.subgroupMaxSize,
          RESIDUAL: epilogue === 'residual' ? 1 : 0,
        },
      }
      const kernel = await createKernel(gpu, `matmul ${form} ${name}`, subgroupMatrixText, constants)
      return {
        name,
        record(recorder, shape, tensors, accumulate) {
          const { m, n, k } = shape
          const buffers = matmulBuffers(shape, tensors, accumulate)
          recorder.dispatch(kernel, [m, n, k, accumulate ? 1 : 0], buffers, [n / side, Math.ceil(m / side / PARTS)])
        },
      }
    },
  }
}
