/** Owns the comparison of two runs, step by step. */
import type { StepMetric } from '../../../../src/protocol/api.ts'

/** Largest relative difference of a step's loss at which two runs count as the same. */
export const SAME_LOSS = 1e-4

export interface TrajectoryDifference {
  /** |a − b| / |a| at the step where it is largest; NaN where a loss is not a number. */
  readonly largest: number
  readonly atStep: number
  /** Steps from 1 to the last that one of the two lacks. */
  readonly missing: readonly number[]
}

type Losses = readonly Pick<StepMetric, 'step' | 'loss'>[]

/** @param steps that both runs should have committed */
export function compareTrajectories(undisturbed: Losses, disturbed: Losses, steps: number): TrajectoryDifference {
  const expected = new Map(undisturbed.map(({ step, loss }) => [step, loss]))
  const actual = new Map(disturbed.map(({ step, loss }) => [step, loss]))
  const missing: number[] = []
  let largest = 0
  let atStep = 0
  for (let step = 1; step <= steps; step++) {
    const [a, b] = [expected.get(step), actual.get(step)]
    if (a === undefined || b === undefined) {
      missing.push(step)
      continue
    }
    const difference = a === b ? 0 : Math.abs(a - b) / Math.abs(a)
    if (Number.isNaN(largest) || difference <= largest) continue
    largest = difference
    atStep = step
  }
  return { largest, atStep, missing }
}

export const isSame = ({ largest, missing }: TrajectoryDifference): boolean =>
  largest <= SAME_LOSS && missing.length === 0
