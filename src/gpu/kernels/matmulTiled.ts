/** Owns the matmul kernels that pass tiles through workgroup memory, whole or with k in parts, in f32 or in halves. */
import sumPartsText from '../../../shaders/matmul/sum_parts.wgsl?raw'
import tiledText from '../../../shaders/matmul/tiled.wgsl?raw'
import type { GpuContext } from '../device.ts'
import { createKernel, spread } from '../kernel.ts'
import type { Kernel } from '../kernel.ts'
import { layoutConstants, matmulBuffers, storeText, wholeVectors } from './matmulVariant.ts'
import type { MatmulForm, MatmulShape, MatmulVariantSpec } from './matmulVariant.ts'

export const TILED_TEXTS = [tiledText, sumPartsText]

export interface Tile {
  readonly depth: number
  /** Rows an invocation owns, in fours, and vec4 columns. */
  readonly quads: number
  readonly vectors: number
  /** Invocations a workgroup. */
  readonly wx: number
  readonly wy: number
  /** Tiles hold f16: half the traffic of workgroup memory; A and B are rounded to 11 bits and must stay within ±65504. */
  readonly half?: boolean
  /** Parts of k, side by side on the GPU, then summed in order: for dW, a small C over many tokens. */
  readonly parts?: number
}

const size = ({ wx, wy, quads, vectors }: Tile) => ({ bm: wy * quads * 4, bn: wx * vectors * 4 })

function nameOf(tile: Tile): string {
  const { bm, bn } = size(tile)
  return `tiled ${bm}x${bn}x${tile.depth}${tile.half ? ' half' : ''}${tile.parts ? ` in ${tile.parts} parts` : ''}`
}

/** A part is worth a pass of its own only while C alone cannot fill a GPU. */
const FEW_SUMS = 512 * 512

function accepts(tile: Tile, shape: MatmulShape): boolean {
  const { m, n, k, epilogue } = shape
  if (!wholeVectors(shape, tile.vectors) || k % tile.depth !== 0) return false
  return !tile.parts || (!epilogue && m * n <= FEW_SUMS && k >= tile.parts * tile.depth * 4)
}

/** How many loads an invocation makes for one tile of `rows`, and how many there are in all. */
function loads(tile: Tile, rows: number, along: boolean): readonly [each: number, all: number] {
  const all = along ? (rows / 4) * (tile.depth / 4) : (rows / 4) * tile.depth
  return [Math.ceil(all / (tile.wx * tile.wy)), all]
}

async function compile(gpu: GpuContext, tile: Tile, form: MatmulForm, store: Parameters<typeof storeText>[0]) {
  const { bm, bn } = size(tile)
  const { depth, quads, vectors, wx, wy, half, parts } = tile
  const [aLoads, aItems] = loads(tile, bm, form !== 'tn')
  const [bLoads, bItems] = loads(tile, bn, form === 'nt')
  return createKernel(gpu, `matmul ${form} ${nameOf(tile)}`, tiledText, {
    ...layoutConstants(form),
    ...{ BM: bm, BN: bn, BK: depth, QUADS: quads, VECTORS: vectors, WX: wx, WY: wy },
    ...{ A_LOADS: aLoads, A_ITEMS: aItems, B_LOADS: bLoads, B_ITEMS: bItems },
    ...{ TILE: half ? 'f16' : 'f32', ENABLE: half ? 'enable f16;' : '', SPLIT: parts ? 1 : 0 },
    STORE: storeText(store, { width: 4, count: vectors, apart: wx }),
  })
}

/** Tiles of A and B in workgroup memory, vec4s in and out. */
export function tiled(tile: Tile): MatmulVariantSpec {
  const name = nameOf(tile)
  const { bm, bn } = size(tile)
  const gridOf = ({ m, n }: MatmulShape) => [Math.ceil(n / bn), Math.ceil(m / bm)] as const
  return {
    name,
    ...(tile.half ? { tolerance: 2 ** -9 } : {}),
    suits: ({ features }) => !tile.half || features.has('shader-f16'),
    accepts: (shape) => accepts(tile, shape),
    async create(gpu, form, epilogue) {
      const { parts, depth } = tile
      const kernel = await compile(gpu, tile, form, parts ? 'partial' : (epilogue ?? 'plain'))
      const sum: Kernel | null = parts ? await createKernel(gpu, 'matmul sum_parts', sumPartsText) : null
      return {
        name,
        record(recorder, shape, tensors, accumulate) {
          const { m, n, k } = shape
          const buffers = matmulBuffers(shape, tensors, accumulate)
          if (!parts || !sum) {
            recorder.dispatch(kernel, [m, n, k, accumulate ? 1 : 0, k], buffers, gridOf(shape))
            return
          }
          const span = Math.ceil(k / depth / parts) * depth
          const used = Math.ceil(k / span)
          const partial = recorder.scratch(used * m * n * 4, 'matmul parts')
          recorder.dispatch(kernel, [m, n, k, 0, span], [tensors.a, tensors.b, partial], [...gridOf(shape), used])
          const vectors = (m * n) / 4
          const words = [vectors, used, accumulate ? 1 : 0]
          recorder.dispatch(sum, words, [partial, tensors.c], spread(Math.ceil(vectors / 64)))
          recorder.release(partial)
        },
      }
    },
  }
}
