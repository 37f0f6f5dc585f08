/** Proves the reading of encoded boundary tensors without a GPU. The kernels' own bytes are read in tests/kernels. */
import { describe, expect, it } from 'vitest'
import { decodeBoundary } from '../../../src/audit/decode.ts'

const shape = { rows: 2, columns: 3 }

describe('an encoded boundary', () => {
  it('is read as f32, wherever the bytes lie', () => {
    const values = Float32Array.of(1, -2, 3.5, 0, 1e-20, -1e20)
    const bytes = new Uint8Array(25)
    bytes.set(new Uint8Array(values.buffer), 1)
    expect(decodeBoundary('f32', bytes.subarray(1), shape)).toEqual(values)
  })

  it('is read as halves, subnormals, infinities and the lift included', () => {
    const bits = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff, 0xfc00, 0x8000)
    const read = (scale?: number) => [...decodeBoundary('f16', new Uint8Array(bits.buffer), shape, scale)]
    expect(read()).toEqual([1, -2, 2 ** -24, 65_504, -Infinity, -0])
    expect(read(256)).toEqual([1 / 256, -2 / 256, 2 ** -32, 65_504 / 256, -Infinity, -0])
  })

  it('is read as bytes of each row’s unit, padding left out', () => {
    const bytes = new Uint8Array(16)
    new DataView(bytes.buffer).setFloat32(0, 0.5, true)
    new DataView(bytes.buffer).setFloat32(4, 2, true)
    bytes.set([127, 0x81, 0, 99, 1, 0xff, 2, 99], 8)
    expect([...decodeBoundary('int8', bytes, shape)]).toEqual([63.5, -63.5, 0, 2, -2, 4])
  })

  it('is refused in any other size', () => {
    for (const codec of ['f32', 'f16', 'int8'] as const)
      expect(() => decodeBoundary(codec, new Uint8Array(8), shape)).toThrow(RangeError)
  })
})
