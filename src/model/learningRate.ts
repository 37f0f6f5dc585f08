/** Owns the learning rate's schedule. */
import type { OptimizerConfig } from '../protocol/runConfig.ts'

/** The rate of step `step` (from 1) of `steps`: linear warm-up, then a half cosine from `lr` down to `minLr`. */
export function learningRate(optimizer: OptimizerConfig, step: number, steps: number): number {
  const { lr, minLr, warmupSteps } = optimizer
  if (step <= warmupSteps) return (lr * step) / warmupSteps
  const span = Math.max(1, steps - warmupSteps)
  const progress = Math.min(1, (step - warmupSteps) / span)
  return minLr + 0.5 * (1 + Math.cos(Math.PI * progress)) * (lr - minLr)
}
