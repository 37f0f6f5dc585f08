/**
 * Owns the safetensors container (github.com/huggingface/safetensors): eight bytes of header length, a JSON header padded
 * with spaces to a multiple of eight, then the tensors one after the other, little endian. Only F32 is spoken here.
 */
import { z } from 'zod'
import { fail } from '../protocol/errors.ts'

/** The format's own limit on its header. */
const MAX_HEADER_BYTES = 100_000_000
const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1

export interface TensorShape {
  readonly name: string
  readonly shape: readonly number[]
}

export interface Tensor extends TensorShape {
  /** Row-major; `shape`'s product of elements. */
  readonly data: Float32Array
}

const entrySchema = z.object({
  dtype: z.string(),
  shape: z.array(z.int().min(0)).max(16),
  data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
})
const headerSchema = z.record(z.string(), z.unknown())

const elements = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1)

/** Length prefix and header of a file that holds these F32 tensors in this order; the data follows it directly. */
export function safetensorsHeader(
  tensors: readonly TensorShape[],
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: metadata }
  let offset = 0
  for (const { name, shape } of tensors) {
    const end = offset + 4 * elements(shape)
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = new TextEncoder().encode(JSON.stringify(header))
  const length = Math.ceil(json.byteLength / 8) * 8
  const bytes = new Uint8Array(8 + length).fill(0x20, 8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true)
  bytes.set(json, 8)
  return bytes
}

/** Little-endian bytes of `values`, without a copy where the machine is little endian (every one that has WebGPU). */
export function floatBytes(values: Float32Array): Uint8Array {
  if (littleEndian) return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  const view = new DataView(new ArrayBuffer(values.byteLength))
  values.forEach((value, i) => view.setFloat32(4 * i, value, true))
  return new Uint8Array(view.buffer)
}

/** f32 values of little-endian bytes, in memory of their own. */
export function floatsOf(bytes: Uint8Array): Float32Array<ArrayBuffer> {
  // Not slice(): that of Node's Buffer does not copy.
  const copy = new Uint8Array(bytes.subarray(0, bytes.byteLength - (bytes.byteLength % 4)))
  if (littleEndian) return new Float32Array(copy.buffer)
  const view = new DataView(copy.buffer)
  return Float32Array.from({ length: copy.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true))
}

/** A whole file in memory. */
export function writeSafetensors(
  tensors: readonly Tensor[],
  metadata?: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  const header = safetensorsHeader(tensors, metadata)
  const bytes = new Uint8Array(header.byteLength + tensors.reduce((n, t) => n + t.data.byteLength, 0))
  bytes.set(header)
  let offset = header.byteLength
  for (const { name, shape, data } of tensors) {
    if (data.length !== elements(shape))
      throw new RangeError(`${name}: ${data.length} values for shape [${shape.join(', ')}].`)
    bytes.set(floatBytes(data), offset)
    offset += data.byteLength
  }
  return bytes
}

/**
 * Reads a file; the tensors come in the order of their bytes.
 * @throws SkeinError `safetensors.*` when the file is cut short, has holes or overlaps, or holds anything but F32
 */
export function readSafetensors(bytes: Uint8Array): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  const refuse = (code: string, message: string) =>
    fail(`safetensors.${code}`, message, 'Export the file again; it was cut short or written by something else.')
  if (bytes.byteLength < 8) refuse('short', `A safetensors file of ${bytes.byteLength} bytes has no header.`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const declared = view.getBigUint64(0, true)
  if (declared > BigInt(Math.min(MAX_HEADER_BYTES, bytes.byteLength - 8)))
    refuse('header_length', `The header claims ${declared} bytes of a file of ${bytes.byteLength}.`)
  const dataStart = 8 + Number(declared)
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, dataStart)))
  } catch {
    refuse('header_json', 'The header is not JSON.')
  }
  const header = headerSchema.safeParse(parsed)
  if (!header.success) return refuse('header_json', 'The header is not a JSON object.')
  const { __metadata__: rawMetadata = {}, ...entries } = header.data
  const metadata = z.record(z.string(), z.string()).safeParse(rawMetadata)
  if (!metadata.success) return refuse('metadata', 'The metadata is not a map of strings.')

  const specs = Object.entries(entries).map(([name, value]) => {
    const entry = entrySchema.safeParse(value)
    return { name, ...(entry.success ? entry.data : refuse('entry', `The header entry of ${name} is malformed.`)) }
  })
  specs.sort((a, b) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1])
  const tensors = new Map<string, Tensor>()
  let position = 0
  for (const {
    name,
    dtype,
    shape,
    data_offsets: [begin, end],
  } of specs) {
    if (dtype !== 'F32') refuse('dtype', `${name} is ${dtype}; only F32 is read here.`)
    if (begin !== position) refuse('layout', `${name} begins at byte ${begin} where ${position} was due.`)
    if (end < begin || dataStart + end > bytes.byteLength)
      refuse('bounds', `${name} reaches beyond the end of the file.`)
    if (end - begin !== 4 * elements(shape))
      refuse('shape', `${name} has ${end - begin} bytes for shape [${shape.join(', ')}].`)
    tensors.set(name, { name, shape, data: floatsOf(bytes.subarray(dataStart + begin, dataStart + end)) })
    position = end
  }
  if (dataStart + position !== bytes.byteLength)
    refuse('layout', `${bytes.byteLength - dataStart - position} bytes belong to no tensor.`)
  return { tensors, metadata: metadata.data }
}
