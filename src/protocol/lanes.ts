/** Owns how the microbatches of a step are counted and numbered, and in a run with local steps which lane and inner step each is of. */
import type { RunConfig } from './runConfig.ts'

/** What the numbers of a step's microbatches follow from. */
export type Numbering = Pick<RunConfig, 'sync' | 'local' | 'batch' | 'microbatch' | 'replicas'>

/** Lanes of a step with inner steps of their own: one a replica unless the configuration says otherwise. */
export function laneCount({ local, replicas }: Pick<RunConfig, 'local' | 'replicas'>): number {
  return local.lanes ?? replicas
}

/** Inner steps of a step: one where replicas merge every step. */
export function innerSteps({ sync, local }: Pick<RunConfig, 'sync' | 'local'>): number {
  return sync === 'local' ? local.innerSteps : 1
}

/** Sequences that one update takes: the batch, or a lane's even part of it. */
export function updateBatch(config: Numbering): number {
  return config.sync === 'local' ? config.batch / laneCount(config) : config.batch
}

/** Microbatches that go into one update: of the batch, or of a lane's part of it. */
export function updateMicrobatches(config: Numbering): number {
  return updateBatch(config) / config.microbatch
}

/** Microbatches of a whole step, over all lanes and inner steps. */
export function stepMicrobatches(config: Numbering): number {
  return (config.batch / config.microbatch) * innerSteps(config)
}

/** Microbatches of a step at most, whether it trains or scores the held-out text: no honest number is as high. */
export function mostMicrobatches(config: Numbering & Pick<RunConfig, 'evalTokens' | 'model'>): number {
  const windows = Math.max(1, Math.floor(config.evalTokens / config.model.blockSize))
  return Math.max(stepMicrobatches(config), Math.ceil(windows / config.microbatch))
}

/** Tokens whose loss makes a step. */
export function stepTokens(
  config: Pick<RunConfig, 'sync' | 'local' | 'batch'> & { model: { blockSize: number } },
): number {
  return config.batch * innerSteps(config) * config.model.blockSize
}

/** Microbatches of one lane in a step: they are leased together. */
export function laneMicrobatches(config: Numbering): number {
  return updateMicrobatches(config) * innerSteps(config)
}

/** Whether lanes begin from the mean of their moments, which merge with what they changed. */
export function sharesMoments({ local }: Pick<RunConfig, 'local'>): boolean {
  return local.moments === 'mean'
}

/** Whether shards that are final merge while lanes go on with the others. */
export function overlaps({ sync, local }: Pick<RunConfig, 'sync' | 'local'>): boolean {
  return sync === 'local' && local.overlap > 0
}

/**
 * Updates of a lane after which a shard of its stage stays as it is and is sent, while the lane goes on with the others: the shards
 * become final one after another over the last `local.overlap` updates. Who is first changes with the step, so that none is trained
 * less than the others.
 * @param shards how many the stage is cut into
 */
export function finalUpdates(
  config: Pick<RunConfig, 'sync' | 'local'>,
  { step, shard, shards }: { readonly step: number; readonly shard: number; readonly shards: number },
): number {
  const behind = shards - 1 - ((shard + step) % shards)
  return innerSteps(config) - (shards > 1 ? Math.round((config.local.overlap * behind) / (shards - 1)) : 0)
}

export interface LanePlace {
  readonly lane: number
  /** From 0. */
  readonly inner: number
}

/** Microbatches are numbered lane by lane, and within a lane inner step by inner step. */
export function lanePlace(config: Numbering, microbatch: number): LanePlace {
  const each = laneMicrobatches(config)
  return {
    lane: Math.floor(microbatch / each),
    inner: Math.floor((microbatch % each) / updateMicrobatches(config)),
  }
}

/** The configuration as the passes of a stage see it: gradients are of the mean loss over what one update takes. */
export function updateConfig(config: RunConfig): RunConfig {
  return { ...config, batch: updateBatch(config) }
}
