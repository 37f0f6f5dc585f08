/** Proves the sketches: they keep norms and differences, nobody can hide in them unseeded, and they say which tensor it is. */
import { describe, expect, it } from 'vitest'
import { distancesOf, rowRatios } from '../../../src/audit/compare.ts'
import { GRADIENT_WIDTH, ROW_WIDTH, sketchGradient, sketchRows, type SketchSeed } from '../../../src/audit/sketch.ts'
import { noise } from '../../kernels/gpu.ts'

const seeds = Array.from({ length: 40 }, (_, i): SketchSeed => [i * 0x9e37 + 1, i * 0x79b9 + 7])
const squares = (values: Float32Array) => values.reduce((sum, x) => sum + x * x, 0)

describe('a sketch of rows', () => {
  const columns = 96
  const rows = 32
  const output = noise(rows * columns, 1)
  const input = noise(rows * columns, 2)

  it('keeps the norms of rows, on the mean over seeds', () => {
    const norm = seeds.reduce((sum, seed) => sum + squares(sketchRows(output, columns, seed)), 0) / seeds.length
    expect(norm / squares(output)).toBeGreaterThan(0.95)
    expect(norm / squares(output)).toBeLessThan(1.05)
  })

  it('is linear: the sketch of a difference is the difference of sketches', () => {
    const difference = output.map((x, i) => x - input[i]!)
    const [a, b] = [sketchRows(output, columns, [3, 4]), sketchRows(input, columns, [3, 4])]
    sketchRows(difference, columns, [3, 4]).forEach((x, i) => expect(x).toBeCloseTo(a[i]! - b[i]!, 4))
  })

  it('shows about the distance that the tensors have', () => {
    const error = noise(output.length, 9, 1e-3)
    const claimed = output.map((x, i) => x + error[i]!)
    const exact = distancesOf(rowRatios(claimed, output, input, columns)).median
    for (const seed of seeds) {
      const [y, expected, x] = [claimed, output, input].map((tensor) => sketchRows(tensor, columns, seed))
      const { median } = distancesOf(rowRatios(y!, expected!, x!, ROW_WIDTH))
      expect(median / exact).toBeGreaterThan(0.6)
      expect(median / exact).toBeLessThan(1.6)
    }
  })

  it('shows under another seed what was hidden from one', () => {
    // Two places that fall into one bucket under the first seed, signs alike: what one gets, the other loses.
    const known = seeds[0]!
    const unit = (at: number) => sketchRows(new Float32Array(columns).fill(1, at, at + 1), columns, known)
    const twin = Array.from({ length: columns - 1 }, (_, i) => i + 1).find((at) => unit(at).join() === unit(0).join())!
    const hidden = output.map((x, i) => x + (i % columns === 0 ? 5 : i % columns === twin ? -5 : 0))
    const apart = (seed: SketchSeed) => {
      const [y, expected] = [sketchRows(hidden, columns, seed), sketchRows(output, columns, seed)]
      return distancesOf(rowRatios(y, expected, null, ROW_WIDTH)).median
    }
    expect(apart(known)).toBeLessThan(1e-6)
    expect(seeds.slice(1).filter((seed) => apart(seed) > 0.1).length).toBeGreaterThan(30)
  })

  it('takes whole rows only', () => {
    expect(() => sketchRows(output.subarray(1), columns, [1, 2])).toThrow(RangeError)
  })
})

describe('a sketch of a gradient', () => {
  const ranges = [
    { offset: 0, length: 5000 },
    { offset: 5056, length: 64 },
  ]
  const gradient = noise(5120, 5, 1e-3)

  it('has a row for each tensor, so that a small one counts', () => {
    const flipped = gradient.map((x, i) => (i >= 5056 ? -x : x))
    const [a, b] = [sketchGradient(flipped, ranges, [1, 2]), sketchGradient(gradient, ranges, [1, 2])]
    const ratios = rowRatios(a, b, null, GRADIENT_WIDTH)
    expect(ratios[0]).toBe(0)
    expect(ratios[1]).toBeGreaterThan(0.5)
  })

  it('shows a gradient of half the tokens', () => {
    const [first, second] = [noise(5120, 6, 1e-3), noise(5120, 7, 1e-3)]
    const whole = first.map((x, i) => x + second[i]!)
    const [a, b] = [sketchGradient(first, ranges, [5, 6]), sketchGradient(whole, ranges, [5, 6])]
    for (const ratio of rowRatios(a, b, null, GRADIENT_WIDTH)) expect(ratio).toBeGreaterThan(0.4)
  })

  it('refuses a range beyond the gradient', () => {
    expect(() => sketchGradient(gradient, [{ offset: 5100, length: 64 }], [1, 2])).toThrow(RangeError)
  })
})
