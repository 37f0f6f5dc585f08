/** Owns the number codecs on the GPU: how a [rows, columns] tensor is compressed before JavaScript sees it. */
import f16DecodeSource from '../../shaders/codec/f16_decode.wgsl?raw'
import f16EncodeSource from '../../shaders/codec/f16_encode.wgsl?raw'
import int4DecodeSource from '../../shaders/codec/int4_decode.wgsl?raw'
import int4EncodeSource from '../../shaders/codec/int4_encode.wgsl?raw'
import int8DecodeSource from '../../shaders/codec/int8_decode.wgsl?raw'
import int8EncodeSource from '../../shaders/codec/int8_encode.wgsl?raw'
import roundingSource from '../../shaders/codec/rounding.wgsl?raw'
import type { BufferView } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import { createKernel, f32, spread } from '../gpu/kernel.ts'
import type { Recording, UniformWord } from '../gpu/kernel.ts'
import type { RowShape } from '../gpu/kernels/rmsNorm.ts'
import { rowConstants, rowGrid } from '../gpu/rows.ts'
import { encodedBytes, INT4_GROUP } from './size.ts'
import type { NumberCodec } from './size.ts'

/** What a gradient wants that an activation does not. */
export interface GradientCoding {
  /**
   * A power of two that multiplies the values where a half has to hold them or their scale: gradients of a mean over many
   * tokens are so small that they would fall among the half's subnormals.
   */
  readonly lift: number
  /** The u32 that stochastic rounding to integers runs on; 0 rounds to the nearest. */
  readonly counter: UniformWord
}

const ACTIVATION: GradientCoding = { lift: 1, counter: 0 }

export interface CodecKernels {
  readonly name: NumberCodec
  /** Bytes of an encoded [rows, columns] tensor. */
  bytes(shape: RowShape): number
  /** `values` f32 [rows, columns] → `encoded`, rounded to the nearest unless they are a gradient. */
  encode(recorder: Recording, values: BufferView, encoded: BufferView, shape: RowShape, gradient?: GradientCoding): void
  /** The reverse, with the same `lift`. */
  decode(recorder: Recording, encoded: BufferView, values: BufferView, shape: RowShape, lift?: number): void
}

/** Compiles the codec of that name. Throws `gpu.shader`. */
export async function codecKernels(gpu: GpuContext, name: NumberCodec): Promise<CodecKernels> {
  const bytes = ({ rows, columns }: RowShape) => encodedBytes(name, rows, columns)
  switch (name) {
    case 'f32':
      return {
        name,
        bytes,
        encode: (recorder, values, encoded, shape) => recorder.copy(values, encoded, bytes(shape)),
        decode: (recorder, encoded, values, shape) => recorder.copy(encoded, values, bytes(shape)),
      }
    case 'f16':
      return { name, bytes, ...(await f16Codec(gpu)) }
    case 'int8':
      return { name, bytes, ...(await int8Codec(gpu)) }
    case 'int4':
      return { name, bytes, ...(await int4Codec(gpu)) }
  }
}

type BothWays = Pick<CodecKernels, 'encode' | 'decode'>

async function f16Codec(gpu: GpuContext): Promise<BothWays> {
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
    encode(recorder, values, encoded, shape, { lift } = ACTIVATION) {
      const { words, length, grid } = sizes(shape)
      recorder.dispatch(encode, [words, length, f32(lift)], [values, encoded], grid)
    },
    decode(recorder, encoded, values, shape, lift = 1) {
      const { words, length, grid } = sizes(shape)
      recorder.dispatch(decode, [words, length, f32(1 / lift)], [encoded, values], grid)
    },
  }
}

async function int8Codec(gpu: GpuContext): Promise<BothWays> {
  const constants = rowConstants(gpu)
  const [encode, decode] = await Promise.all([
    createKernel(gpu, 'int8 encode', roundingSource + int8EncodeSource, constants),
    createKernel(gpu, 'int8 decode', int8DecodeSource),
  ])
  return {
    encode(recorder, values, encoded, { rows, columns }, { counter } = ACTIVATION) {
      recorder.dispatch(encode, [rows, columns, counter], [values, encoded], rowGrid(constants, rows))
    },
    decode(recorder, encoded, values, { rows, columns }) {
      const words = rows * Math.ceil(columns / 4)
      recorder.dispatch(decode, [rows, columns], [encoded, values], spread(Math.ceil(words / 64)))
    },
  }
}

async function int4Codec(gpu: GpuContext): Promise<BothWays> {
  const [encode, decode] = await Promise.all([
    createKernel(gpu, 'int4 encode', roundingSource + int4EncodeSource),
    createKernel(gpu, 'int4 decode', int4DecodeSource),
  ])
  return {
    encode(recorder, values, encoded, { rows, columns }, { lift, counter } = ACTIVATION) {
      const pairs = Math.ceil((rows * Math.ceil(columns / INT4_GROUP)) / 2)
      const uniforms = [rows, columns, f32(lift), counter]
      recorder.dispatch(encode, uniforms, [values, encoded], spread(Math.ceil(pairs / 64)))
    },
    decode(recorder, encoded, values, { rows, columns }, lift = 1) {
      const words = rows * Math.ceil(columns / 8)
      recorder.dispatch(decode, [rows, columns, f32(1 / lift)], [encoded, values], spread(Math.ceil(words / 64)))
    },
  }
}
