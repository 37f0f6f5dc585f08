/**
 * Owns attention in tiles through workgroup memory, after FlashAttention-2 (Dao 2023): for GPUs. Needs neither subgroups nor
 * more than 15 KiB of workgroup memory, whatever the head dim.
 */
import backwardKeySource from '../../../shaders/attention/flash_backward_key.wgsl?raw'
import backwardQuerySource from '../../../shaders/attention/flash_backward_query.wgsl?raw'
import forwardSource from '../../../shaders/attention/flash_forward.wgsl?raw'
import type { GpuContext } from '../device.ts'
import { createKernel, f32, spread } from '../kernel.ts'
import type { Kernel } from '../kernel.ts'
import type { AttentionDims, AttentionKernels, AttentionShape } from './attention.ts'

/** Whether the tiled kernels take heads of this dim: they load whole vec4s and keep sums in registers. */
export function flashTakes({ headDim }: AttentionDims): boolean {
  return headDim % 4 === 0 && headDim <= 128
}

/** Columns of a tile: keys of a query's tile, queries of a key's. Fixed by the layout of the kernels. */
const COLUMNS = 32

/**
 * Constants for tiles of `16·perInvocation` rows. Longer heads get fewer rows, so that the sums stay in registers: at
 * most 64 a product.
 */
function constantsFor({ heads, kvHeads, headDim }: AttentionDims, perInvocation: number) {
  const vectors = headDim / 4
  const scores = 4 * (16 * perInvocation + 2) + 4 * (COLUMNS + 2)
  // As many columns at a time for the sums as lie where the slices of both sides lay for the scores, a power of two.
  const part = Math.min(COLUMNS, 2 ** Math.floor(Math.log2(scores / vectors)))
  return {
    R: perInvocation,
    VECTORS: vectors,
    SLICES: Math.ceil(vectors / 8),
    HEADS: heads,
    KV_HEADS: kvHeads,
    PART: part,
    STAGED: Math.max(scores, part * vectors),
  }
}

/** Compiles for heads that {@link flashTakes}. Throws `gpu.shader`. */
export async function flashAttention(gpu: GpuContext, dims: AttentionDims): Promise<AttentionKernels> {
  const { heads, kvHeads, headDim } = dims
  // The key pass keeps two products.
  const perInvocation = { query: 4, key: headDim <= 64 ? 4 : 2 } as const
  const [query, key] = [constantsFor(dims, perInvocation.query), constantsFor(dims, perInvocation.key)]
  const [forward, backwardQuery, backwardKey] = await Promise.all([
    createKernel(gpu, 'attention.forward', forwardSource, query),
    createKernel(gpu, 'attention.backwardQuery', backwardQuerySource, query),
    createKernel(gpu, 'attention.backwardKey', backwardKeySource, key),
  ])
  const call = (kernel: Kernel, rows: number, count: number, { batch, sequence }: AttentionShape) => {
    const tiles = Math.ceil(sequence / (16 * rows))
    return [kernel, [batch, sequence, tiles, f32(1 / Math.sqrt(headDim))], spread(batch * count * tiles)] as const
  }
  return {
    forward(recorder, { qkv, out, logSumExp }, shape) {
      const [kernel, uniforms, grid] = call(forward, perInvocation.query, heads, shape)
      recorder.dispatch(kernel, uniforms, [qkv, out, logSumExp], grid)
    },
    backward(recorder, { qkv, out, logSumExp, dOut, rowDots, dqkv }, shape) {
      // The query pass leaves the row dots that the key pass reads.
      const [queryPass, queryUniforms, queryGrid] = call(backwardQuery, perInvocation.query, heads, shape)
      recorder.dispatch(queryPass, queryUniforms, [qkv, out, logSumExp, dOut, rowDots, dqkv], queryGrid)
      const [keyPass, keyUniforms, keyGrid] = call(backwardKey, perInvocation.key, kvHeads, shape)
      recorder.dispatch(keyPass, keyUniforms, [qkv, logSumExp, dOut, rowDots, dqkv], keyGrid)
    },
  }
}
