/**
 * Owns attention without barriers or workgroup memory: an invocation keeps a few rows in registers and walks the others. For
 * software adapters, and for head dims that the tiled kernels do not take.
 */
import backwardKeySource from '../../../shaders/attention/rows_backward_key.wgsl?raw'
import backwardQuerySource from '../../../shaders/attention/rows_backward_query.wgsl?raw'
import forwardSource from '../../../shaders/attention/rows_forward.wgsl?raw'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Kernel } from '../kernel.ts'
import type { AttentionDims, AttentionKernels, AttentionShape } from './attention.ts'

/** The block of scores that an invocation makes at a time: rows are its own, columns those it walks. */
interface ScoreBlock {
  readonly rows: number
  readonly columns: number
}

/**
 * Everything about a block is unrolled, so its size is what compilation takes. More rows share a load, more columns a store,
 * yet SwiftShader keeps few vectors in registers: measured at head dims 16 to 128 and sequences of 64 and 256, two rows
 * and one column are as fast as any block or nearly so, and compile in a third of the time of four and four. A GPU wants
 * many invocations with few registers each.
 */
function blockFor(gpu: GpuContext): ScoreBlock {
  return gpu.adapter.software ? { rows: 2, columns: 1 } : { rows: 1, columns: 2 }
}

/** Compiles for heads of any even dim. Throws `gpu.shader`. */
export async function rowsAttention(gpu: GpuContext, dims: AttentionDims): Promise<AttentionKernels> {
  const { heads, kvHeads, headDim } = dims
  const width = headDim % 4 === 0 ? 4 : 2
  // A quad can share its loads where it is the whole subgroup and each of the four has as much to load.
  const shared = gpu.subgroupSize === 4 && headDim % 16 === 0
  const swaps = shared ? 4 : 1
  const parts = headDim / width / swaps
  const size = shared ? 4 : 32
  const { rows, columns } = blockFor(gpu)
  const constants = {
    ENABLE: shared ? 'enable subgroups;' : '',
    SHARED: shared ? 1 : 0,
    LANE: shared ? 'subgroup_invocation_id' : 'local_invocation_index',
    // One quad a workgroup is visibly uniform, which exchanges within a subgroup ask for.
    QUAD: shared ? 'group.x + group.y * count.x' : `(group.x + group.y * count.x) * ${size / 4}u + lane / 4u`,
    GROUP: size,
    VECTOR: `vec${width}<f32>`,
    SWAPS: swaps,
    PARTS: parts,
    NAMES: Array.from({ length: parts * swaps }, (_, n) => `${Math.floor(n / swaps)}_${n % swaps}`).join(' '),
    VECTOR_ENDS: ')'.repeat(parts * swaps),
    COLUMN_ENDS: ')'.repeat(columns),
    HEADS: heads,
    KV_HEADS: kvHeads,
    ROWS: rows,
    COLUMNS: columns,
  }
  const [forward, backwardQuery, backwardKey] = await Promise.all([
    createKernel(gpu, 'attention.forward', forwardSource, constants),
    createKernel(gpu, 'attention.backwardQuery', backwardQuerySource, constants),
    createKernel(gpu, 'attention.backwardKey', backwardKeySource, constants),
  ])
  const call = (kernel: Kernel, count: number, { batch, sequence }: AttentionShape) => {
    const quads = Math.ceil(sequence / (4 * rows))
    const uniforms = [batch, sequence, quads, f32(1 / Math.sqrt(headDim))]
    return [kernel, uniforms, spread(Math.ceil((batch * count * quads * 4) / size))] as const
  }
  return {
    forward(recorder, { qkv, out, logSumExp }, shape) {
      const [kernel, uniforms, grid] = call(forward, heads, shape)
      recorder.dispatch(kernel, uniforms, [qkv, out, logSumExp], grid)
    },
    backward(recorder, { qkv, out, logSumExp, dOut, rowDots, dqkv }, shape) {
      // The query pass leaves the row dots that the key pass reads.
      const [query, queryUniforms, queryGrid] = call(backwardQuery, heads, shape)
      recorder.dispatch(query, queryUniforms, [qkv, out, logSumExp, dOut, rowDots, dqkv], queryGrid)
      const [key, keyUniforms, keyGrid] = call(backwardKey, kvHeads, shape)
      recorder.dispatch(key, keyUniforms, [qkv, logSumExp, dOut, rowDots, dqkv], keyGrid)
    },
  }
}
