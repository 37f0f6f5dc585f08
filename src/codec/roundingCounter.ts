/** Owns the randomness that gradients are rounded by: pure functions of what the gradient is, and of the element's place. */
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

/** PCG (O'Neill 2014), as `shaders/codec/rounding.wgsl` has it. */
function pcg(v: number): number {
  const state = (Math.imul(v, 747796405) + 2891336453) >>> 0
  const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277803737) >>> 0
  return ((word >>> 22) ^ word) >>> 0
}

/** What is added before an element is rounded down, in [0, 1). */
export function roundingNoise(element: number, counter: number): number {
  return (pcg(pcg(element) ^ counter) >>> 8) / 2 ** 24
}
