/** Owns how many invocations share a row in kernels that reduce row by row, and how many rows a partial sum over rows. */
import type { GpuContext } from './device.ts'
import { spread } from './kernel.ts'
import type { Grid } from './kernel.ts'

/**
 * Constants for row kernels: `SIZE` invocations a workgroup, `LANES` of them a row. A software adapter runs one row an
 * invocation (barriers are its slowest instruction), a GPU lets 32 read neighbouring words.
 */
export interface RowConstants extends Record<string, number> {
  readonly SIZE: number
  readonly LANES: number
}

export function rowConstants(gpu: GpuContext): RowConstants {
  return gpu.adapter.software ? { SIZE: 16, LANES: 1 } : { SIZE: 64, LANES: 32 }
}

/** Rows whose sum is one partial sum, in sums over rows that are taken in two passes. */
export const CHUNK_ROWS = 32

/** Workgroups for `rows` rows. */
export function rowGrid({ SIZE, LANES }: RowConstants, rows: number): Grid {
  return spread(Math.ceil((rows * LANES) / SIZE))
}
