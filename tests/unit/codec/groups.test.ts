/** Proves that merges in few bits lose no more than their step, lose nothing in the mean, and are the same bytes everywhere. */
import { describe, expect, it } from 'vitest'
import { counterDither, decodeGroups, type Dither, encodeGroups, groupedBytes } from '../../../src/codec/groups.ts'
import { noise } from '../../kernels/gpu.ts'

const codecs = [
  ['int8', 64, 127],
  ['int4', 32, 7],
] as const

/** Adds no more than what rounding down takes off. */
const nearest: Dither = () => 0.5

/** A step of the group's scale, which is a bf16: up to 1/128 larger than absmax / most. */
function stepOf(values: Float32Array, i: number, size: number, most: number): number {
  const start = i - (i % size)
  const group = values.subarray(start, start + size)
  return (Math.max(...group.map(Math.abs)) / most) * (1 + 1 / 128)
}

describe.each(codecs)('%s', (codec, size, most) => {
  it.each([
    [1, 1],
    [31, 1e-7],
    [64, 1],
    [65, 1e30],
    [1000, 3e-5],
  ])('%i values of up to %f lose half a step at most', (length, scale) => {
    const values = noise(length, 7, scale)
    const [rounded, dithered] = [nearest, counterDither(1)].map((d) =>
      decodeGroups(codec, encodeGroups(codec, values, d), length, d),
    )
    for (let i = 0; i < length; i++) {
      const step = stepOf(values, i, size, most)
      expect(Math.abs(rounded![i]! - values[i]!)).toBeLessThanOrEqual(0.5001 * step)
      expect(Math.abs(dithered![i]! - values[i]!)).toBeLessThanOrEqual(0.5001 * step)
    }
  })

  it('takes a scale of two bytes a group and its bits a value, in whole words', () => {
    expect(groupedBytes(codec, 0)).toBe(0)
    expect(groupedBytes(codec, 1)).toBe(8)
    const bits = codec === 'int8' ? 8 : 4
    expect(groupedBytes(codec, 640)).toBe((640 / size) * 2 + (640 * bits) / 8)
  })

  it('is right in the mean where it is dithered', () => {
    const values = Float32Array.of(1, 0.01, -0.013, 0.2, 0)
    const sum = new Float64Array(values.length)
    const rounds = 4000
    for (let n = 0; n < rounds; n++) {
      const dither = counterDither(3, n)
      const decoded = decodeGroups(codec, encodeGroups(codec, values, dither), values.length, dither)
      decoded.forEach((value, i) => (sum[i]! += value / rounds))
    }
    // Five deviations of a mean whose single rounding is off by half a step at most.
    const tolerance = (5 * 0.5 * stepOf(values, 0, size, most)) / Math.sqrt(rounds)
    values.forEach((value, i) => expect(Math.abs(sum[i]! - value)).toBeLessThan(tolerance))
  })

  it('errs by a twelfth of a squared step where the dither is taken off, and by twice that where it is not', () => {
    const values = noise(100 * size, 5)
    const dither = counterDither(9)
    const bytes = encodeGroups(codec, values, dither)
    const scales = new Uint16Array(bytes.buffer, 0, 100)
    const squares = (known: Dither) =>
      decodeGroups(codec, bytes, values.length, known).reduce((sum, value, i) => {
        const step = new Float32Array(Uint32Array.of(scales[Math.floor(i / size)]! << 16).buffer)[0]!
        return sum + ((value - values[i]!) / step) ** 2 / values.length
      }, 0)
    expect(squares(dither) * 12).toBeCloseTo(1, 1)
    expect(squares(nearest) * 6).toBeCloseTo(1, 1)
  })

  it('keeps zeros, and says of a group that diverged that it did', () => {
    const values = new Float32Array(2 * size)
    values[size + 3] = Infinity
    values[size + 4] = 1
    for (const dither of [nearest, counterDither(2)]) {
      const decoded = decodeGroups(codec, encodeGroups(codec, values, dither), values.length, dither)
      expect(decoded.subarray(0, size).every((value) => value === 0)).toBe(true)
      expect(decoded.subarray(size).every(Number.isNaN)).toBe(true)
    }
  })

  it('reads any bytes as some values', () => {
    const bytes = Uint8Array.from({ length: groupedBytes(codec, 100) }, (_, i) => 37 * i + 11)
    expect(decodeGroups(codec, bytes, 100, counterDither(1))).toHaveLength(100)
  })
})

it('keeps f32 as it is, and reads it from wherever it lies', () => {
  const values = noise(33, 2)
  const bytes = encodeGroups('f32', values, counterDither(1))
  const shifted = new Uint8Array(bytes.length + 1)
  shifted.set(bytes, 1)
  expect(decodeGroups('f32', shifted.subarray(1), 33, counterDither(1))).toEqual(values)
})

it('gives the bytes that it has always given', () => {
  const values = Float32Array.of(0.5, -1, 0.25, 0.1, 3e-9)
  expect([...encodeGroups('int4', values, nearest)]).toEqual([0x13, 0x3e, 0, 0, 0x93, 0x12, 0, 0])
  expect([...encodeGroups('int8', values, nearest)]).toEqual([0x02, 0x3c, 0, 0, 63, 130, 32, 13, 0, 0, 0, 0])
})

it('draws another number for each place and for whatever it is for', () => {
  const [a, b] = [counterDither(1, 2, 3), counterDither(1, 2, 4)]
  const drawn = Array.from({ length: 20_000 }, (_, i) => a(i))
  const mean = drawn.reduce((sum, x) => sum + x, 0) / drawn.length
  expect(Math.abs(mean - 0.5)).toBeLessThan(0.01)
  expect(drawn.every((x) => x >= 0 && x < 1)).toBe(true)
  const apart = drawn.reduce((sum, x, i) => sum + (x - 0.5) * (b(i) - 0.5), 0) / drawn.length
  expect(Math.abs(apart)).toBeLessThan(0.003)
  expect(a(5)).toBe(counterDither(1, 2, 3)(5))
})
