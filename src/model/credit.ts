/** Owns what a microbatch's work is worth: its model FLOPs at one stage, counted from the shape of the model alone. */
import { type Numbering, stepMicrobatches } from '../protocol/lanes.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import { runLayouts } from './layout.ts'
import type { LayoutConfig } from './layout.ts'

/** The backward of a product is two products of the same size: one for its input, one for its weights. */
const FORWARD_AND_BACKWARD = 3n

/**
 * Model FLOPs of one microbatch at a stage, forward and backward together; a multiply-add is two. Counted after Chowdhery et
 * al. 2022 (PaLM, appendix B): six for each token and parameter that is multiplied, and 12·d·block for each token and layer
 * of attention, causal or not. The embedding is looked up, norms and pointwise work do not count, and neither does anything
 * computed twice to save memory: what a device earns depends on the model, the cut and the tokens alone.
 */
export function microbatchCredit(config: LayoutConfig & Pick<RunConfig, 'microbatch'>, stage: number): bigint {
  const { model, microbatch } = config
  const { tensors, layerCount, hasHead } = runLayouts(config)[stage]!
  let multiplied = 0n
  for (const { name, shape, length } of tensors) {
    const lookedUp = name === 'model.embed_tokens.weight' && !(hasHead && model.tieEmbeddings)
    if (shape.length === 2 && !lookedUp) multiplied += BigInt(length)
  }
  const attention = 2n * BigInt(layerCount) * BigInt(model.dModel) * BigInt(model.blockSize)
  const tokens = BigInt(microbatch) * BigInt(model.blockSize)
  return FORWARD_AND_BACKWARD * 2n * (multiplied + attention) * tokens
}

/** Model FLOPs of a whole step, the same however the layers are cut: what its work earns together when all of it is accepted. */
export function stepCredit(config: LayoutConfig & Numbering): bigint {
  let each = 0n
  for (let stage = 0; stage < config.stages; stage++) each += microbatchCredit(config, stage)
  return each * BigInt(stepMicrobatches(config))
}
