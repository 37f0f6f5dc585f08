/** Owns the counter that the stochastic rounding of a gradient runs on: a pure function of what the gradient is. */
import { threefry2x32 } from '../model/init.ts'

/** Sets the rounding apart from every tensor's first weights and from the sampler. */
const ROUNDING_KEY = 0x726f756e

/**
 * A u32, never 0, for the gradient of `boundary` (that between this stage and the next) in one microbatch of one step:
 * whoever computes it again rounds it alike.
 */
export function roundingCounter(seed: number, step: number, microbatch: number, boundary: number): number {
  const words = new Uint32Array(2)
  threefry2x32(seed, ROUNDING_KEY ^ boundary, step, microbatch, words)
  return Math.max(1, words[0]!)
}
