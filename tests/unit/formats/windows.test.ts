/** Owns the proof that token windows are pure, uniform and never leave their part of the dataset. */
import { describe, expect, it } from 'vitest'
import { evalWindowStarts, trainWindowStart } from '../../../src/formats/windows.ts'

describe('trainWindowStart', () => {
  it('gives these values for ever: nodes of different ages must agree', () => {
    const starts = [0, 1, 2, 3].map((sequence) => trainWindowStart(1, 1, sequence, 1_000_000, 64))
    expect(starts).toEqual([135549, 461732, 582454, 709467])
  })

  it('stays within [0, trainTokens − block − 1] and reaches both ends', () => {
    const starts = Array.from({ length: 2000 }, (_, i) => trainWindowStart(7, i, i % 5, 20, 8))
    expect(Math.min(...starts)).toBe(0)
    expect(Math.max(...starts)).toBe(11)
  })

  it('is uniform over the windows and independent of its neighbours (chi-square, 63 degrees of freedom)', () => {
    for (const vary of ['seed', 'step', 'sequence'] as const) {
      const counts = new Array<number>(64).fill(0)
      const draws = 64_000
      for (let i = 0; i < draws; i++) {
        const at = { seed: 3, step: 5, sequence: 2, [vary]: i }
        counts[trainWindowStart(at.seed, at.step, at.sequence, 64 * 1000 + 64, 64) % 64]!++
      }
      const expected = draws / 64
      const chi2 = counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0)
      expect(chi2).toBeGreaterThan(30)
      expect(chi2).toBeLessThan(120)
    }
  })

  it('changes with each argument, the largest seeds included', () => {
    const base = trainWindowStart(0xffff_ffff, 1, 0, 4_000_000_000, 64)
    expect(base).toBeGreaterThanOrEqual(0)
    expect(trainWindowStart(0xffff_fffe, 1, 0, 4_000_000_000, 64)).not.toBe(base)
    expect(trainWindowStart(0xffff_ffff, 2, 0, 4_000_000_000, 64)).not.toBe(base)
    expect(trainWindowStart(0xffff_ffff, 1, 1, 4_000_000_000, 64)).not.toBe(base)
  })

  it('refuses a dataset that holds no window', () => {
    expect(() => trainWindowStart(1, 1, 0, 64, 64)).toThrowError(/does not fit/)
    expect(trainWindowStart(1, 1, 0, 65, 64)).toBe(0)
  })
})

describe('evalWindowStarts', () => {
  it('takes every window of a short tail, none reaching beyond the last token', () => {
    expect(evalWindowStarts({ tokens: 1000, trainTokens: 900 }, 10, 1e6)).toEqual([
      900, 910, 920, 930, 940, 950, 960, 970, 980,
    ])
    expect(evalWindowStarts({ tokens: 1001, trainTokens: 900 }, 10, 1e6).at(-1)).toBe(990)
  })

  it('spreads a limited number evenly and keeps them apart', () => {
    const starts = evalWindowStarts({ tokens: 100_001, trainTokens: 90_000 }, 10, 370)
    expect(starts).toHaveLength(37)
    expect(starts[0]).toBe(90_000)
    expect(starts.at(-1)).toBeGreaterThan(99_500)
    const gaps = starts.slice(1).map((start, i) => start - starts[i]!)
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(10)
    expect(Math.max(...gaps) - Math.min(...gaps)).toBeLessThanOrEqual(10)
  })

  it('gives at least one window when one fits, and none when none does', () => {
    expect(evalWindowStarts({ tokens: 100, trainTokens: 80 }, 10, 1)).toEqual([80])
    expect(evalWindowStarts({ tokens: 90, trainTokens: 80 }, 10, 100)).toEqual([])
  })
})
