/** Owns the estimate of what one stage takes on a device: a pure formula, which server and nodes evaluate alike. */
import type { RunConfig } from '../protocol/runConfig.ts'
import { stageLayouts } from './layout.ts'
import type { StageLayout } from './layout.ts'

/** All in bytes. */
export interface StageMemory {
  readonly weights: number
  readonly gradients: number
  readonly moments: number
  /** Everything backward needs of one microbatch, when nothing is recomputed. */
  readonly activationsPerMicrobatch: number
  /** Scratch of the backward pass, logits, encoded boundaries and staging. */
  readonly workspace: number
  /**
   * The least that training needs: one microbatch's activations, and for every further microbatch in flight only the
   * stage's input, from which backward recomputes the rest.
   */
  readonly total: number
}

/** Logits are made for so many rows at a time that they stay below this. */
export const LOGITS_BYTES = 32 * 1024 * 1024

/** Tokens of one microbatch, which are the rows of every activation. */
export function microbatchRows(config: RunConfig): number {
  return config.microbatch * config.model.blockSize
}

/** Rows of `rows` whose logits are held at once: all, or a multiple of 64, so that a block starts where a binding may. */
export function logitRows(config: RunConfig, rows: number): number {
  const most = Math.floor(LOGITS_BYTES / (4 * config.model.vocabSize) / 64) * 64
  return Math.min(rows, Math.max(64, most))
}

/** f32 values a layer keeps for backward, per row: `LayerActivations`. */
export function layerActivationsPerRow(config: RunConfig): number {
  const { dModel: d, ffn, heads, kvHeads } = config.model
  const kv = (d / heads) * kvHeads
  // Residual in, after attention; both normalised; q, attention out; k, v; gate, up, product; two norm scales; row sums.
  return 6 * d + 2 * kv + 3 * ffn + 2 + heads
}

/** f32 values of scratch a layer's backward takes, per row. */
export function layerScratchPerRow(config: RunConfig): number {
  const { dModel: d, ffn, heads, kvHeads } = config.model
  const kv = (d / heads) * kvHeads
  return 7 * d + 4 * kv + 3 * ffn + heads
}

export function stageInputBytes(config: RunConfig, layout: StageLayout): number {
  return microbatchRows(config) * (layout.hasEmbedding ? 1 : config.model.dModel) * 4
}

/** Activations of a whole stage for one microbatch, in bytes. */
export function activationBytes(config: RunConfig, layout: StageLayout): number {
  const { dModel: d } = config.model
  const rows = microbatchRows(config)
  const head = layout.hasHead ? 2 * d + 1 : d
  return 4 * rows * (layout.layerCount * layerActivationsPerRow(config) + head) + stageInputBytes(config, layout)
}

/** What stage `stage` needs, by formula. A config that passed `validateRunConfig`'s checks of shape cannot make it throw. */
export function estimateStageMemory(config: RunConfig, stage: number): StageMemory {
  const layout = stageLayouts(config.model, config.stages)[stage]
  if (!layout) throw new RangeError(`No stage ${stage} among ${config.stages}.`)
  const { dModel: d, vocabSize } = config.model
  const rows = microbatchRows(config)
  const flat = layout.length * 4
  const activationsPerMicrobatch = activationBytes(config, layout)
  const logits = layout.hasHead ? 2 * logitRows(config, rows) * vocabSize * 4 : 0
  const boundaries = 4 * rows * d * 4
  const largestTensor = Math.max(...layout.tensors.map((tensor) => tensor.length * 4))
  const workspace = 4 * rows * layerScratchPerRow(config) + logits + boundaries + largestTensor
  // 1F1B holds one microbatch for every stage from here to the last, and one more to hide the links' latency.
  const waiting = layout.hasHead ? 0 : Math.min(config.batch / config.microbatch, config.stages - stage + 1) - 1
  const inputs = waiting * stageInputBytes(config, layout)
  const total = 4 * flat + activationsPerMicrobatch + inputs + workspace
  return { weights: flat, gradients: flat, moments: 2 * flat, activationsPerMicrobatch, workspace, total }
}
