/** Owns what a node knows of its speed without a lease: one microbatch of nothing, there and back, timed. */
import { boundaryBytes } from '../codec/boundary.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { StageModel } from './model.ts'

/** The first run records and warms up what the second one shows; on a device that takes so long it shows enough itself. */
const LONG_MS = 1000

/**
 * Milliseconds that one microbatch, forward and backward together, keeps the device busy. Weights do not matter to it, and may
 * come meanwhile. Leaves the gradient sum at zero and nothing stored, as at the beginning of `step`.
 */
export async function warmUp(model: StageModel, config: RunConfig, step: number): Promise<number> {
  const first = await timeMicrobatch(model, config)
  const ms = first < LONG_MS ? await timeMicrobatch(model, config) : first
  model.beginStep(step)
  return ms
}

async function timeMicrobatch(model: StageModel, config: RunConfig) {
  const { hasEmbedding, hasHead } = model.layout
  const rows = config.microbatch * config.model.blockSize
  const ids = new Uint32Array(rows)
  const input = hasEmbedding
    ? { tokens: ids }
    : { boundary: new Uint8Array(boundaryBytes(config, rows)), tokenIds: ids }
  const from = performance.now()
  if (hasHead) await model.forwardBackward(0, input, ids)
  else await model.backward(0, await model.forward(0, input))
  return performance.now() - from
}
