/** Owns the proof that safetensors files are written as specified and that damaged ones are refused. */
import { describe, expect, it } from 'vitest'
import { readSafetensors, writeSafetensors } from '../../../src/formats/safetensors.ts'

const tensors = [
  { name: 'a.weight', shape: [2, 3], data: Float32Array.from([1, -2, 3.5, 0, 1e-30, 6]) },
  { name: 'norm', shape: [3], data: Float32Array.from([1, 1, 0.25]) },
]

/** A file with this header text and this many bytes of data. */
function file(header: string, dataBytes: number, declared = header.length): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + dataBytes)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(declared), true)
  bytes.set(new TextEncoder().encode(header), 8)
  return bytes
}

const codeOf = (bytes: Uint8Array) => {
  try {
    readSafetensors(bytes)
  } catch (caught) {
    return (caught as { code?: string }).code
  }
  return 'accepted'
}

describe('safetensors', () => {
  it('is laid out byte for byte as the format says', () => {
    const bytes = writeSafetensors(tensors)
    const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true))
    expect(headerBytes % 8).toBe(0)
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes)))
    expect(header).toEqual({
      __metadata__: { format: 'pt' },
      'a.weight': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
      norm: { dtype: 'F32', shape: [3], data_offsets: [24, 36] },
    })
    expect(new DataView(bytes.buffer).getFloat32(8 + headerBytes + 8, true)).toBe(3.5)
    expect(bytes.byteLength).toBe(8 + headerBytes + 36)
  })

  it('brings back what was written, also from an odd place in memory', () => {
    const bytes = writeSafetensors(tensors)
    const shifted = new Uint8Array(bytes.byteLength + 3)
    shifted.set(bytes, 3)
    const read = readSafetensors(shifted.subarray(3))
    expect([...read.tensors.values()]).toEqual(tensors)
    expect(read.metadata).toEqual({ format: 'pt' })
    const pooled = readSafetensors(Buffer.from(shifted).subarray(3)).tensors.get('norm')!.data
    expect(pooled).toEqual(tensors[1]!.data)
    expect(pooled.buffer.byteLength).toBe(12)
  })

  it('refuses values that do not fill their shape', () => {
    expect(() => writeSafetensors([{ name: 'x', shape: [4], data: new Float32Array(3) }])).toThrow(RangeError)
  })

  it('refuses damaged files, each with its own code', () => {
    const whole = writeSafetensors(tensors)
    expect(codeOf(new Uint8Array(4))).toBe('safetensors.short')
    expect(codeOf(whole.subarray(0, whole.byteLength - 4))).toBe('safetensors.bounds')
    expect(codeOf(file('{}', 8))).toBe('safetensors.layout')
    expect(codeOf(file('{}', 0, 2 ** 40))).toBe('safetensors.header_length')
    expect(codeOf(file('not json', 0))).toBe('safetensors.header_json')
    expect(codeOf(file('[]', 0))).toBe('safetensors.header_json')
    const entry = (dtype: string, shape: string, offsets: string) =>
      `{"x":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}}`
    expect(codeOf(file(entry('F16', '[2]', '[0,4]'), 4))).toBe('safetensors.dtype')
    expect(codeOf(file(entry('F32', '[2]', '[0,4]'), 4))).toBe('safetensors.shape')
    expect(codeOf(file(entry('F32', '[1]', '[4,8]'), 8))).toBe('safetensors.layout')
    expect(codeOf(file(entry('F32', '[1]', '[0,-4]'), 8))).toBe('safetensors.entry')
    expect(codeOf(file(entry('F32', '[1]', '[0,4]'), 4))).toBe('accepted')
  })
})
