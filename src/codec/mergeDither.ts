/** Owns what merges in few bits are dithered by: the same for whoever encodes a change of a stage’s shard and whoever reads it. */
import { counterDither, type Dither } from './groups.ts'

/** Which shard of which step. */
export interface MergedAt {
  readonly seed: number
  readonly stage: number
  readonly step: number
  readonly shard: number
}

/** Apart from whatever else is drawn from the run's seed, and from each other. */
const [LANE_DITHER, MEAN_DITHER] = [0x6c616e65, 0x6d65616e]

/** For what a lane changed. */
export function laneDither({ seed, stage, step, shard }: MergedAt, lane: number): Dither {
  return counterDither(LANE_DITHER, seed, stage, step, lane, shard)
}

/** For the lanes' mean. */
export function meanDither({ seed, stage, step, shard }: MergedAt): Dither {
  return counterDither(MEAN_DITHER, seed, stage, step, shard)
}
