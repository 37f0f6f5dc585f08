/** Proves the kernels of learned boundaries: against f64 on ragged, large and tiny tensors, the table of tokens to the last bit. */
import { afterAll, describe, expect, it } from 'vitest'
import { tokenTableRow } from '../../src/codec/tokenTable.ts'
import { bottleneckKernels } from '../../src/gpu/kernels/bottleneck.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())
const kernels = await bottleneckKernels(gpu)

const shapes = [
  { rows: 1, columns: 1, size: 1 },
  { rows: 37, columns: 9, size: 1e-6 },
  { rows: 70, columns: 32, size: 4 },
  { rows: 5, columns: 257, size: 1e4 },
]

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

async function read(record: (recorder: Recorder) => { buffer: GPUBuffer; offset: number; size: number }) {
  const recorder = new Recorder(gpu)
  const result = recorder.readF32(record(recorder))
  recorder.submit()
  return result
}

describe.each(shapes)('[$rows, $columns] of size $size', ({ rows, columns, size }) => {
  const hidden = noise(rows * columns, 1, size)
  const given = noise(rows * columns, 2)

  it('silu and its gradient', async () => {
    const active = gpu.pool.allocate(hidden.byteLength)
    const forward = await read((recorder) => {
      kernels.silu(recorder, { hidden: gpu.pool.upload(hidden), active }, { rows, columns }, 0.5)
      return { ...active, size: hidden.byteLength }
    })
    expect(relativeError(forward, hidden.map((x) => 0.5 * x * sigmoid(x)))).toBeLessThan(2e-6) // prettier-ignore
    const gradient = gpu.pool.upload(given)
    const backward = await read((recorder) => {
      kernels.siluBackward(recorder, { hidden: gpu.pool.upload(hidden), gradient }, { rows, columns }, 0.5)
      return { ...gradient, size: given.byteLength }
    })
    const expected = given.map((d, i) => 0.5 * d * sigmoid(hidden[i]!) * (1 + hidden[i]! * (1 - sigmoid(hidden[i]!))))
    expect(relativeError(backward, expected)).toBeLessThan(5e-6)
  })

  it.each([
    [columns, columns + 3],
    [columns + 5, columns],
  ])('adds columns from rows of %i to rows of %i', async (from, to) => {
    const [source, start] = [noise(rows * from, 3, size), noise(rows * to, 4, size)]
    const target = gpu.pool.upload(start)
    const got = await read((recorder) => {
      const view = gpu.pool.upload(source)
      kernels.addColumns(recorder, { view, stride: from }, { view: target, stride: to }, { rows, columns }, 0.5)
      return { ...target, size: start.byteLength }
    })
    const expected = start.map((x, i) =>
      i % to < columns ? x + 0.5 * source[Math.floor(i / to) * from + (i % to)]! : x,
    )
    expect(got).toEqual(expected)
  })

  it.each([1, 3, 8])('mixes each row with those before it in sequences of %i, and back', async (sequence) => {
    const shape = { rows: rows * sequence, columns, sequence, taps: 3 }
    const length = shape.rows * columns
    const [x, dy, before] = [noise(length, 5, size), noise(length, 6), noise(3 * columns, 7)]
    const weights = noise(3 * columns, 8, 0.5)
    const taps = gpu.pool.upload(weights)
    const [y, dx] = [Float64Array.from(x), Float64Array.from(dy)]
    const dTaps = Float64Array.from(before)
    for (let to = 0; to < length; to++) {
      const place = Math.floor(to / columns) % sequence
      for (let j = 1; j <= Math.min(3, place); j++) {
        const [from, tap] = [to - j * columns, (j - 1) * columns + (to % columns)]
        y[to]! += weights[tap]! * x[from]!
        dx[from]! += weights[tap]! * dy[to]!
        dTaps[tap]! += dy[to]! * x[from]!
      }
    }
    const place = () => gpu.pool.allocate(4 * length)
    const forward = await read((recorder) => {
      const out = place()
      kernels.mixTaps(recorder, { x: gpu.pool.upload(x), taps, y: out }, shape)
      return { ...out, size: 4 * length }
    })
    expect(relativeError(forward, y)).toBeLessThan(1e-6)
    const backward = await read((recorder) => {
      const out = place()
      kernels.mixTapsBackward(recorder, { taps, dy: gpu.pool.upload(dy), dx: out }, shape)
      return { ...out, size: 4 * length }
    })
    expect(relativeError(backward, dx)).toBeLessThan(1e-6)
    const summed = await read((recorder) => {
      const out = gpu.pool.upload(before)
      kernels.mixTapsBackwardWeight(recorder, { x: gpu.pool.upload(x), dy: gpu.pool.upload(dy), dTaps: out }, shape)
      return { ...out, size: before.byteLength }
    })
    expect(relativeError(summed, dTaps)).toBeLessThan(5e-6)
  })

  it('injects the table of tokens exactly', async () => {
    const tokens = Uint32Array.from({ length: rows }, (_, row) => (row * 7919) % 65_536)
    const stream = gpu.pool.upload(new Float32Array(rows * columns))
    const got = await read((recorder) => {
      const view = gpu.pool.upload(tokens)
      kernels.inject(recorder, { tokens: view, stream }, { rows, columns }, 0xdeadbeef, 0.5)
      return { ...stream, size: 4 * rows * columns }
    })
    const expected = Array.from(tokens, (token) =>
      [...tokenTableRow(0xdeadbeef, token, columns)].map((x) => 0.5 * x),
    ).flat()
    expect(Array.from(got)).toEqual(expected)
  })
})
