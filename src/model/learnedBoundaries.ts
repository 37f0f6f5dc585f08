/** Owns what of a run's learned boundaries is part of the trained model, where nothing crosses any more. */
import { carrierOf, codeWidthOf } from '../codec/boundary.ts'
import { runPartition } from './layout.ts'
import type { LayoutConfig } from './layout.ts'

export interface LearnedBoundaries {
  /** Layers of each stage: a boundary lies behind those of each but the last. */
  readonly partition: readonly number[]
  /** Numbers a token. */
  readonly codeWidth: number
  /** Whether codes are rounded to halves, as they were when the model was trained and scored. */
  readonly halves: boolean
}

/** The table E [vocab, d] among a trained model's tensors. */
export const TOKEN_TABLE = 'model.token_table.weight'

/** Null where the run's boundaries are none of the model's. */
export function learnedBoundaries(
  config: LayoutConfig,
  partition: readonly number[] = runPartition(config),
): LearnedBoundaries | null {
  const codeWidth = codeWidthOf(config)
  if (codeWidth === null || partition.length === 1) return null
  return { partition, codeWidth, halves: carrierOf(config.codec) === 'f16' }
}

/** The boundary behind each layer that is the last of its stage, by the layer's number. */
export function boundariesByLayer({ partition }: Pick<LearnedBoundaries, 'partition'>): Map<number, number> {
  let end = 0
  return new Map(partition.slice(0, -1).map((count, boundary) => [(end += count) - 1, boundary]))
}
