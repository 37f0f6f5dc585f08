/** Owns the boundary codecs: how a [tokens, d] tensor is compressed on the GPU before JavaScript sees it. */
import f16DecodeSource from '../../shaders/codec/f16_decode.wgsl?raw'
import f16EncodeSource from '../../shaders/codec/f16_encode.wgsl?raw'
import int8DecodeSource from '../../shaders/codec/int8_decode.wgsl?raw'
import int8EncodeSource from '../../shaders/codec/int8_encode.wgsl?raw'
import type { BufferView } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import { createKernel, f32, spread } from '../gpu/kernel.ts'
import type { Recording } from '../gpu/kernel.ts'
import type { RowShape } from '../gpu/kernels/rmsNorm.ts'
import { rowConstants, rowGrid } from '../gpu/rows.ts'
import type { CodecName } from '../protocol/runConfig.ts'
import { encodedBytes } from './size.ts'

export interface CodecKernels {
  readonly name: CodecName
  /** Bytes of an encoded [rows, columns] tensor. */
  bytes(shape: RowShape): number
  /**
   * `values` f32 [rows, columns] → `encoded`. `scale`, a power of two, multiplies the values where the codec has a fixed
   * range (f16): gradients of a mean over many tokens are so small that they would fall among the half's subnormals.
   */
  encode(recorder: Recording, values: BufferView, encoded: BufferView, shape: RowShape, scale?: number): void
  /** The reverse, with the same `scale`. */
  decode(recorder: Recording, encoded: BufferView, values: BufferView, shape: RowShape, scale?: number): void
}

/** Compiles the codec of that name. Throws `gpu.shader`. */
export async function codecKernels(gpu: GpuContext, name: CodecName): Promise<CodecKernels> {
  const bytes = ({ rows, columns }: RowShape) => encodedBytes(name, rows, columns)
  if (name === 'f32') {
    return {
      name,
      bytes,
      encode: (recorder, values, encoded, shape) => recorder.copy(values, encoded, bytes(shape)),
      decode: (recorder, encoded, values, shape) => recorder.copy(encoded, values, bytes(shape)),
    }
  }
  return name === 'f16' ? f16Codec(gpu, bytes) : int8Codec(gpu, bytes)
}

async function f16Codec(gpu: GpuContext, bytes: CodecKernels['bytes']): Promise<CodecKernels> {
  const [encode, decode] = await Promise.all([
    createKernel(gpu, 'f16 encode', f16EncodeSource),
    createKernel(gpu, 'f16 decode', f16DecodeSource),
  ])
  const sizes = ({ rows, columns }: RowShape) => {
    const length = rows * columns
    const words = Math.ceil(length / 2)
    return { length, words, grid: spread(Math.ceil(words / 64)) }
  }
  return {
    name: 'f16',
    bytes,
    encode(recorder, values, encoded, shape, scale = 1) {
      const { words, length, grid } = sizes(shape)
      recorder.dispatch(encode, [words, length, f32(scale)], [values, encoded], grid)
    },
    decode(recorder, encoded, values, shape, scale = 1) {
      const { words, length, grid } = sizes(shape)
      recorder.dispatch(decode, [words, length, f32(1 / scale)], [encoded, values], grid)
    },
  }
}

async function int8Codec(gpu: GpuContext, bytes: CodecKernels['bytes']): Promise<CodecKernels> {
  const constants = rowConstants(gpu)
  const [encode, decode] = await Promise.all([
    createKernel(gpu, 'int8 encode', int8EncodeSource, constants),
    createKernel(gpu, 'int8 decode', int8DecodeSource),
  ])
  return {
    name: 'int8',
    bytes,
    encode(recorder, values, encoded, { rows, columns }) {
      recorder.dispatch(encode, [rows, columns], [values, encoded], rowGrid(constants, rows))
    },
    decode(recorder, encoded, values, { rows, columns }) {
      const words = rows * Math.ceil(columns / 4)
      recorder.dispatch(decode, [rows, columns], [encoded, values], spread(Math.ceil(words / 64)))
    },
  }
}
