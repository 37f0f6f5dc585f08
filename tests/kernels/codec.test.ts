/** Proves the boundary codecs: their sizes, their error bounds, and what they do at the edges of their range. */
import { afterAll, describe, expect, it } from 'vitest'
import { decodeBoundary } from '../../src/audit/decode.ts'
import { codecKernels } from '../../src/codec/codec.ts'
import { roundingCounter } from '../../src/codec/roundingCounter.ts'
import { encodedBytes, encodedRows, INT4_GROUP } from '../../src/codec/size.ts'
import type { NumberCodec } from '../../src/codec/size.ts'
import type { GpuContext } from '../../src/gpu/device.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import { noise, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())
/** The same device, told to take the other way of sharing rows. */
const other: GpuContext = { ...gpu, adapter: { ...gpu.adapter, software: !gpu.adapter.software } }

const shapes = [
  [1, 1],
  [3, 5],
  [7, 30],
  [64, 128],
  [5, 257],
] as const

/** Through the codec, the encoded bytes taken out and put in again as the network does. */
async function roundTrip(
  name: NumberCodec,
  values: Float32Array,
  rows: number,
  columns: number,
  lift = 1,
  { context = gpu, counter = 0 } = {},
) {
  const codec = await codecKernels(context, name)
  const shape = { rows, columns }
  const bytes = codec.bytes(shape)
  const sender = new Recorder(context)
  const encoded = gpu.pool.allocate(bytes)
  codec.encode(sender, gpu.pool.upload(values), encoded, shape, { lift, counter })
  const sent = sender.read({ ...encoded, size: bytes })
  sender.submit()
  const payload = new Uint8Array(await sent)
  expect(payload.length).toBe(encodedBytes(name, rows, columns))
  const receiver = new Recorder(context)
  const decoded = gpu.pool.allocate(rows * columns * 4)
  codec.decode(receiver, gpu.pool.upload(payload), decoded, shape, lift)
  const result = receiver.readF32({ ...decoded, size: rows * columns * 4 })
  receiver.submit()
  return { values: await result, payload }
}

describe.each(shapes)('[%i, %i]', (rows, columns) => {
  const values = noise(rows * columns, 1, 3)

  it('f32 is exact', async () => {
    expect((await roundTrip('f32', values, rows, columns)).values).toEqual(values)
  })

  it.each(['f32', 'f16', 'int8', 'int4'] as const)('%s bytes are read alike without a GPU', async (name) => {
    const tiny = values.map((x) => x * 1e-6)
    const { values: decoded, payload } = await roundTrip(name, tiny, rows, columns, 512)
    expect(decodeBoundary(name, payload, { rows, columns }, 512)).toEqual(decoded)
  })

  it('f16 errs by at most one part in 2048', async () => {
    const { values: got } = await roundTrip('f16', values, rows, columns)
    // Round to nearest is 2^-11; WGSL allows truncation, 2^-10.
    values.forEach((x, i) => expect(Math.abs(got[i]! - x)).toBeLessThanOrEqual(Math.abs(x) * 2 ** -10 + 6e-8))
  })

  it.each([
    ['own', gpu],
    ['other', other],
  ])('int8 errs by at most half a unit of its row (%s row sharing)', async (_, context) => {
    const { values: got } = await roundTrip('int8', values, rows, columns, 1, { context })
    for (let row = 0; row < rows; row++) {
      const own = values.subarray(row * columns, (row + 1) * columns)
      const unit = own.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127
      own.forEach((x, c) => expect(Math.abs(got[row * columns + c]! - x)).toBeLessThanOrEqual(unit * 0.5001))
    }
  })
})

/** The unit of each value's group, as a half holds it. */
function int4Units(values: Float32Array, columns: number): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns]
    const first = row * columns + Math.floor(column / INT4_GROUP) * INT4_GROUP
    const group = values.subarray(first, Math.min(first + INT4_GROUP, (row + 1) * columns))
    return group.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 7
  })
}

describe.each([...shapes, [1, 33] as const, [96, 256] as const])('int4 of [%i, %i]', (rows, columns) => {
  // Halves round the unit by up to a part in 1024, which moves its ends by seven times that.
  const slack = 0.01

  it.each([1, 1e3, 1e-2])('errs by at most half a unit of its group, values up to %f', async (size) => {
    const values = noise(rows * columns, 1, size)
    const { values: got } = await roundTrip('int4', values, rows, columns)
    const units = int4Units(values, columns)
    values.forEach((x, i) => expect(Math.abs(got[i]! - x)).toBeLessThanOrEqual(units[i]! * (0.5 + slack)))
  })

  it('errs by less than a unit where it is rounded stochastically, and gives the same for the same counter', async () => {
    const values = noise(rows * columns, 2, 1e-5)
    const [once, again, other_] = await Promise.all(
      [5, 5, 6].map((counter) => roundTrip('int4', values, rows, columns, 2 ** 10, { counter })),
    )
    const units = int4Units(values, columns)
    values.forEach((x, i) => expect(Math.abs(once!.values[i]! - x)).toBeLessThanOrEqual(units[i]! * (1 + slack)))
    expect(again!.payload).toEqual(once!.payload)
    if (rows * columns > 30) expect(other_!.payload).not.toEqual(once!.payload)
  })
})

it('int4 keeps groups apart, zero groups zero, and the signs at both ends', async () => {
  const groups = [[7, -7, 1, -1, 0, 3], [0], [7e4, -7e4, 1e4], [1e-12, -1e-12]]
  const values = new Float32Array(
    groups.flatMap((group) => [...group, ...new Array<number>(32 - group.length).fill(0)]),
  )
  const { values: got } = await roundTrip('int4', values, 2, 64)
  expect(Array.from(got.subarray(0, 6))).toEqual([7, -7, 1, -1, 0, 3])
  expect(got.subarray(32, 64).every((x) => x === 0)).toBe(true)
  expect(Array.from(got.subarray(64, 67), (x) => Math.round(x / 1e2))).toEqual([700, -700, 100])
  expect(got.subarray(96).every((x) => x === 0)).toBe(true)
  // What a half cannot hold seven times is clamped.
  expect((await roundTrip('int4', new Float32Array([1e6, -1e30]), 1, 2)).values[1]).toBeCloseTo(-7 * 65504, -1)
})

it.each(['int8', 'int4'] as const)('%s: the mean of many stochastic roundings is the value', async (name) => {
  const [rows, columns, tries] = [2, 32, 256]
  const values = noise(rows * columns, 4)
  const sum = new Float64Array(values.length)
  for (let microbatch = 0; microbatch < tries; microbatch++) {
    const counter = roundingCounter(1, 3, microbatch, 0)
    const { values: got } = await roundTrip(name, values, rows, columns, 1, { counter })
    got.forEach((x, i) => (sum[i]! += x / tries))
  }
  const unit = 1 / (name === 'int8' ? 127 : 7)
  // Half a unit is the most that the deviation of one rounding can be; five deviations of the mean.
  values.forEach((x, i) => expect(Math.abs(sum[i]! - x)).toBeLessThan((5 * 0.5 * unit) / Math.sqrt(tries)))
})

it('counts roundings apart by seed, step, microbatch and boundary', () => {
  const of = [
    [1, 1, 0, 0],
    [2, 1, 0, 0],
    [1, 2, 0, 0],
    [1, 1, 1, 0],
    [1, 1, 0, 1],
  ].map(([seed, step, microbatch, boundary]) => roundingCounter(seed!, step!, microbatch!, boundary!))
  expect(new Set(of).size).toBe(of.length)
  expect(of.every((counter) => counter > 0 && counter < 2 ** 32)).toBe(true)
})

it('f16 clamps what a half cannot hold, to finite values', async () => {
  const { values } = await roundTrip('f16', new Float32Array([1e5, -1e30, 65504, 70000, -65520, 1]), 1, 6)
  expect(Array.from(values)).toEqual([65504, -65504, 65504, 65504, -65504, 1])
})

it('f16 keeps tiny gradients when they are lifted', async () => {
  const tiny = noise(256, 2, 1e-7)
  const error = (got: Float32Array) => Math.max(...got.map((x, i) => Math.abs(x - tiny[i]!))) / 1e-7
  expect(error((await roundTrip('f16', tiny, 2, 128)).values)).toBeGreaterThan(0.05)
  expect(error((await roundTrip('f16', tiny, 2, 128, 2 ** 14)).values)).toBeLessThan(0.002)
})

it('int8 keeps rows apart, zero rows zero, and the signs at both ends', async () => {
  const rows = [
    [0, 0, 0, 0, 0],
    [1e-20, -1e-20, 0, 5e-21, 1e-22],
    [127, -127, 1, -1, 64],
    [1e30, -3e29, 0, 0, -1e30],
    [1e-38, 0, 0, 0, 0],
  ]
  const { values } = await roundTrip('int8', new Float32Array(rows.flat()), 5, 5)
  expect(Array.from(values.subarray(0, 5))).toEqual([0, 0, 0, 0, 0])
  expect(values[5]! / 1e-20).toBeCloseTo(1, 5)
  expect(Array.from(values.subarray(10, 15))).toEqual([127, -127, 1, -1, 64])
  expect(values[19]! / -1e30).toBeCloseTo(1, 5)
  expect(values[20]).toBe(0)
})

it('sizes say how many rows there are, and refuse bytes of no whole row', () => {
  for (const codec of ['f32', 'f16', 'int8', 'int4'] as const) {
    for (const [rows, columns] of [...shapes, [640, 4096] as const]) {
      if (codec === 'f16' && columns % 2 === 1) continue // Two ragged shapes may share a size; models have even widths.
      const bytes = encodedBytes(codec, rows, columns)
      expect(bytes % 4).toBe(0)
      expect(encodedRows(codec, bytes, columns)).toBe(rows)
      expect(encodedRows(codec, bytes - 1, columns)).toBeNull()
    }
    expect(encodedRows(codec, 0, 128)).toBeNull()
  }
})
