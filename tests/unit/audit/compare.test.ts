/** Proves the comparison of tensors: what each quantile catches, what cannot be hidden, and what is no difference. */
import { describe, expect, it } from 'vitest'
import { beyond, distancesOf, rowRatios } from '../../../src/audit/compare.ts'
import { noise } from '../../kernels/gpu.ts'

const COLUMNS = 16
const ROWS = 40
const input = noise(ROWS * COLUMNS, 1)
const change = noise(ROWS * COLUMNS, 2, 0.3)
const output = input.map((x, i) => x + change[i]!)
const distances = (claimed: Float32Array) => distancesOf(rowRatios(claimed, output, input, COLUMNS))

describe('the ratio of a row', () => {
  it('is 1 for whoever hands the input on, and far from 0 for zeros', () => {
    expect(distances(input)).toEqual({ median: 1, upper: 1, largest: 1 })
    expect(distances(output.map(() => 0)).median).toBeGreaterThan(2)
  })

  it('is 2 for a gradient of the wrong sign', () => {
    const ratios = rowRatios(
      output.map((x) => -x),
      output,
      null,
      COLUMNS,
    )
    for (const ratio of ratios) expect(ratio).toBeCloseTo(2, 6)
  })

  it('measures from a tenth of the mean row where a row does not change', () => {
    const still = output.map((x, i) => (i < COLUMNS ? input[i]! : x))
    const claimed = still.map((x, i) => (i === 0 ? x + 1e-6 : x))
    const [first] = rowRatios(claimed, still, input, COLUMNS)
    expect(first).toBeLessThan(1e-4)
    expect(first).toBeGreaterThan(0)
  })

  it.each([NaN, Infinity])('is infinite for a %s that only one of them has, and nothing where both do', (value) => {
    const spoilt = output.map((x, i) => (i === 5 ? value : x))
    expect(distances(spoilt).largest).toBe(Infinity)
    expect(rowRatios(output, spoilt, input, COLUMNS)[0]).toBe(Infinity)
    expect(rowRatios(spoilt, spoilt, input, COLUMNS).every((ratio) => ratio === 0)).toBe(true)
  })

  it('is infinite for anything where nothing was to be', () => {
    const zeros = output.map(() => 0)
    expect(distancesOf(rowRatios(output, zeros, null, COLUMNS)).median).toBe(Infinity)
    expect(distancesOf(rowRatios(zeros, zeros, null, COLUMNS)).largest).toBe(0)
  })

  it('is refused for tensors of two lengths', () => {
    expect(() => rowRatios(output.subarray(1), output, input, COLUMNS)).toThrow(RangeError)
    expect(() => rowRatios(output, output, input, 7)).toThrow(RangeError)
  })
})

describe('the quantiles', () => {
  const tolerance = { median: 1e-3, upper: 1e-2, largest: 1e-1 }
  const meddled = (rows: number, by: number) => output.map((x, i) => (i < rows * COLUMNS ? x + by : x))

  it('show half of the tokens left out, and one token meddled with', () => {
    expect(beyond(distances(output), tolerance)).toBeNull()
    expect(beyond(distances(meddled(ROWS, 0.01)), tolerance)).toBe('median')
    const half = output.map((x, i) => (i < (ROWS / 2) * COLUMNS ? input[i]! : x))
    expect(beyond(distances(half), tolerance)).toBe('upper')
    expect(beyond(distances(meddled(6, 0.01)), tolerance)).toBe('upper')
    expect(beyond(distances(meddled(1, 1)), tolerance)).toBe('largest')
  })

  it('are beyond every tolerance when they are no numbers', () => {
    expect(beyond({ median: NaN, upper: 0, largest: 0 }, tolerance)).toBe('median')
  })
})
