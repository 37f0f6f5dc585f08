/** Owns the judgement of losses: engines that did the same work from the same weights must have found the same ones. */
import { COMPARED_STEPS } from './works.ts'

/** Largest relative difference over the first ten steps that both have done, and how many these are. */
export function compareLosses(
  losses: readonly number[],
  reference: readonly number[],
): { steps: number; difference: number } {
  const steps = Math.min(COMPARED_STEPS, losses.length, reference.length)
  let difference = 0
  for (let i = 0; i < steps; i++) {
    const one = Math.abs(losses[i]! / reference[i]! - 1)
    difference = Math.max(difference, Number.isNaN(one) ? Infinity : one)
  }
  return { steps, difference }
}

/** A record counts only within this. */
export const LOSS_TOLERANCE = 1e-4

/** A kernel whose sampled results are further off f64 than this is broken. */
export const KERNEL_TOLERANCE = 1e-4
