/** Proves the schedule of the learning rate at its corners. */
import { describe, expect, it } from 'vitest'
import { learningRate } from '../../../src/model/learningRate.ts'
import { optimizerConfigSchema } from '../../../src/protocol/runConfig.ts'

const optimizer = optimizerConfigSchema.parse({ lr: 1, minLr: 0.1, warmupSteps: 10 })

describe('the learning rate', () => {
  it('rises in a line, peaks at the end of the warm-up, and falls as half a cosine to its floor', () => {
    expect(learningRate(optimizer, 1, 110)).toBeCloseTo(0.1, 12)
    expect(learningRate(optimizer, 5, 110)).toBeCloseTo(0.5, 12)
    expect(learningRate(optimizer, 10, 110)).toBe(1)
    expect(learningRate(optimizer, 60, 110)).toBeCloseTo(0.55, 12)
    expect(learningRate(optimizer, 110, 110)).toBeCloseTo(0.1, 12)
  })

  it('never rises after the warm-up', () => {
    const rates = Array.from({ length: 101 }, (_, i) => learningRate(optimizer, 10 + i, 110))
    for (let i = 1; i < rates.length; i++) expect(rates[i]!).toBeLessThanOrEqual(rates[i - 1]!)
  })

  it('is finite without a warm-up, with one as long as the run, and in a run of one step', () => {
    expect(learningRate({ ...optimizer, warmupSteps: 0 }, 1, 1)).toBeCloseTo(0.1, 12)
    expect(learningRate({ ...optimizer, warmupSteps: 0 }, 1, 100)).toBeLessThan(1)
    expect(learningRate({ ...optimizer, warmupSteps: 50 }, 50, 50)).toBe(1)
    expect(learningRate({ ...optimizer, warmupSteps: 100 }, 20, 50)).toBeCloseTo(0.2, 12)
  })
})
