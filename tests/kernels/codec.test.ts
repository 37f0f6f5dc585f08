/** Proves the boundary codecs: their sizes, their error bounds, and what they do at the edges of their range. */
import { afterAll, describe, expect, it } from 'vitest'
import { decodeBoundary } from '../../src/audit/decode.ts'
import { codecKernels } from '../../src/codec/codec.ts'
import { encodedBytes, encodedRows } from '../../src/codec/size.ts'
import type { GpuContext } from '../../src/gpu/device.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import type { CodecName } from '../../src/protocol/runConfig.ts'
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
  name: CodecName,
  values: Float32Array,
  rows: number,
  columns: number,
  scale = 1,
  context = gpu,
) {
  const codec = await codecKernels(context, name)
  const shape = { rows, columns }
  const bytes = codec.bytes(shape)
  const sender = new Recorder(context)
  const encoded = gpu.pool.allocate(bytes)
  codec.encode(sender, gpu.pool.upload(values), encoded, shape, scale)
  const sent = sender.read({ ...encoded, size: bytes })
  sender.submit()
  const payload = new Uint8Array(await sent)
  expect(payload.length).toBe(encodedBytes(name, rows, columns))
  const receiver = new Recorder(context)
  const decoded = gpu.pool.allocate(rows * columns * 4)
  codec.decode(receiver, gpu.pool.upload(payload), decoded, shape, scale)
  const result = receiver.readF32({ ...decoded, size: rows * columns * 4 })
  receiver.submit()
  return { values: await result, payload }
}

describe.each(shapes)('[%i, %i]', (rows, columns) => {
  const values = noise(rows * columns, 1, 3)

  it('f32 is exact', async () => {
    expect((await roundTrip('f32', values, rows, columns)).values).toEqual(values)
  })

  it.each(['f32', 'f16', 'int8'] as const)('%s bytes are read alike without a GPU', async (name) => {
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
    const { values: got } = await roundTrip('int8', values, rows, columns, 1, context)
    for (let row = 0; row < rows; row++) {
      const own = values.subarray(row * columns, (row + 1) * columns)
      const unit = own.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127
      own.forEach((x, c) => expect(Math.abs(got[row * columns + c]! - x)).toBeLessThanOrEqual(unit * 0.5001))
    }
  })
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
  for (const codec of ['f32', 'f16', 'int8'] as const) {
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
