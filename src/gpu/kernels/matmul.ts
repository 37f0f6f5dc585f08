/** Owns the list of matmul variants that the autotuner chooses among. */
import { REGISTER_TEXTS, quads, registers, strided } from './matmulRegisters.ts'
import { SUBGROUP_TEXTS, subgroupMatrix } from './matmulSubgroup.ts'
import { TILED_TEXTS, tiled } from './matmulTiled.ts'
import { STORE_TEXTS } from './matmulVariant.ts'
import type { MatmulVariantSpec } from './matmulVariant.ts'

export * from './matmulVariant.ts'

/** Every variant that computes in f32 throughout, the safe choice for an unmeasured adapter first. */
export const MATMUL_VARIANTS: readonly MatmulVariantSpec[] = [
  registers({ quads: 2, vectors: 2, wx: 8, wy: 2 }),
  registers({ quads: 1, vectors: 1, wx: 8, wy: 8 }),
  quads(1, 2),
  strided,
  tiled({ depth: 8, quads: 1, vectors: 1, wx: 8, wy: 8 }),
  tiled({ depth: 16, quads: 1, vectors: 1, wx: 16, wy: 16 }),
  tiled({ depth: 16, quads: 2, vectors: 2, wx: 16, wy: 8 }),
  tiled({ depth: 8, quads: 2, vectors: 2, wx: 16, wy: 16 }),
  tiled({ depth: 16, quads: 1, vectors: 1, wx: 16, wy: 16, parts: 8 }),
  subgroupMatrix(2),
  subgroupMatrix(4),
]

/** Variants that round A and B on the way, each within its `tolerance`: only for who asks for them. */
export const HALF_MATMUL_VARIANTS: readonly MatmulVariantSpec[] = [
  tiled({ depth: 16, quads: 2, vectors: 2, wx: 16, wy: 8, half: true }),
  tiled({ depth: 16, quads: 2, vectors: 2, wx: 16, wy: 16, half: true }),
]

/** Every text a variant is made of and every name it has: a choice that was stored holds only while these do. */
export const MATMUL_TEXTS: readonly string[] = [
  ...[...REGISTER_TEXTS, ...TILED_TEXTS, ...SUBGROUP_TEXTS, ...STORE_TEXTS],
  ...[...MATMUL_VARIANTS, ...HALF_MATMUL_VARIANTS].map(({ name }) => name),
]
