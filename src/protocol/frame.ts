/** Owns the binary frame in which a tensor travels between two nodes: a fixed 56-byte header, then the payload. */
import { fail } from './errors.ts'
import { PROTOCOL_VERSION } from './version.ts'

export const FRAME_HEADER_BYTES = 56
/** Largest payload of one frame; a shard or boundary above it needs a smaller microbatch or more stages. */
export const MAX_FRAME_PAYLOAD_BYTES = 256 * 1024 * 1024

const MAGIC = 0x4e494b53 // 'SKIN' in little endian

/** What a frame carries. The numbers are the wire's; they are never reused for another meaning. */
export const FRAME_KINDS = {
  activation: 1,
  gradient: 2,
  gradientShard: 3,
  parameterShard: 4,
  momentShard: 5,
  want: 6,
  relayedShard: 7,
  meanShard: 8,
} as const
export type FrameKind = keyof typeof FRAME_KINDS

/** How the payload's elements are encoded, and whether they are a bottleneck's code; numbers as for {@link FRAME_KINDS}. */
export const FRAME_CODECS = {
  f32: 1,
  f16: 2,
  int8: 3,
  int4: 4,
  'bottleneck-f32': 5,
  'bottleneck-f16': 6,
} as const
export type FrameCodec = keyof typeof FRAME_CODECS

/**
 * Addresses one tensor. `activation` and `gradient` use `index` as the microbatch and `boundary` as the boundary
 * between stage `boundary` and the next; the shard kinds use `index` as the shard and `boundary` as the stage. `step` is
 * the step that a boundary tensor or a gradient belongs to, and for parameters and moments the one after which they stand.
 * A `relayedShard` is another node's `gradientShard` that one owner of a shard passes to the other once its sender is gone:
 * `attempt` is that of `reduce`, and `boundary` the sender's place among its contributors.
 * With local steps a `gradientShard` has a row for each of the sender's lanes, a `meanShard` is the mean over all lanes, from
 * which everybody takes the outer step, both in the codec of merges (see `src/codec/groups.ts`), with the lanes'
 * moments behind what they changed where lanes share them (see `LaneMoments`); and a `parameterShard` has the outer momentum in its
 * second row, then the moments from which lanes begin.
 * A `want` has no payload: it asks for the tensor of its address, of the kind whose number is in `columns`.
 */
export interface FrameHeader {
  kind: FrameKind
  codec: FrameCodec
  generation: number
  step: number
  index: number
  boundary: number
  /** Of a `gradientShard`: the version of the sender's leases that it sums; of a `meanShard`: the attempt of `reduce`; 0 elsewhere. */
  attempt: number
  /** Shape of the decoded f32 tensor, row-major; of a bottleneck's code, tokens and its width. */
  rows: number
  columns: number
}

export interface Frame extends FrameHeader {
  /** A view into the received buffer; nothing was copied. */
  payload: Uint8Array
}

const kindByNumber = new Map<number, FrameKind>(Object.entries(FRAME_KINDS).map(([name, n]) => [n, name as FrameKind]))
const codecByNumber = new Map<number, FrameCodec>(
  Object.entries(FRAME_CODECS).map(([name, n]) => [n, name as FrameCodec]),
)

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1
  return c >>> 0
})

/** CRC-32 (IEEE 802.3) of `bytes`: finds accidents; forgery is for receipts and audits to find. */
export function crc32(bytes: Uint8Array): number {
  let c = 0xffff_ffff
  for (let i = 0; i < bytes.length; i++) c = crcTable[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8)
  return (c ^ 0xffff_ffff) >>> 0
}

/** Writes header and payload into one new buffer. */
export function encodeFrame(header: FrameHeader, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + payload.byteLength)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, MAGIC, true)
  view.setUint16(4, PROTOCOL_VERSION, true)
  view.setUint8(6, FRAME_KINDS[header.kind])
  view.setUint8(7, FRAME_CODECS[header.codec])
  const fields = [
    header.generation,
    header.step,
    header.index,
    header.boundary,
    header.attempt,
    header.rows,
    header.columns,
  ]
  fields.forEach((value, i) => view.setUint32(8 + 4 * i, value, true))
  view.setUint32(36, payload.byteLength, true)
  view.setUint32(40, crc32(payload), true)
  view.setUint32(44, crc32(bytes.subarray(0, 44)), true)
  bytes.set(payload, FRAME_HEADER_BYTES)
  return bytes
}

/**
 * Reads a frame without copying its payload; every field is checked before it is believed.
 * @throws SkeinError `frame.*` when the bytes are not a whole, intact frame of this protocol version.
 */
export function decodeFrame(bytes: Uint8Array): Frame {
  const refuse = (code: string, message: string) =>
    fail(
      `frame.${code}`,
      message,
      'Reload both pages so that they run the same version; if it persists the link is damaged.',
    )
  if (bytes.byteLength < FRAME_HEADER_BYTES)
    refuse('short', `A frame of ${bytes.byteLength} bytes has no whole header.`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(0, true) !== MAGIC) refuse('magic', 'These bytes are not a Skein frame.')
  const version = view.getUint16(4, true)
  if (version !== PROTOCOL_VERSION)
    refuse('version', `Frame of protocol ${version}; this side speaks ${PROTOCOL_VERSION}.`)
  if (view.getUint32(44, true) !== crc32(bytes.subarray(0, 44)))
    refuse('header_checksum', 'The frame header is damaged.')
  const kind = kindByNumber.get(view.getUint8(6)) ?? refuse('kind', `Unknown frame kind ${view.getUint8(6)}.`)
  const codec = codecByNumber.get(view.getUint8(7)) ?? refuse('codec', `Unknown codec ${view.getUint8(7)}.`)
  const field = (i: number) => view.getUint32(8 + 4 * i, true)
  const length = view.getUint32(36, true)
  if (length > MAX_FRAME_PAYLOAD_BYTES) refuse('too_large', `A payload of ${length} bytes is over the limit.`)
  if (length !== bytes.byteLength - FRAME_HEADER_BYTES) refuse('length', 'The frame is not as long as its header says.')
  const payload = bytes.subarray(FRAME_HEADER_BYTES)
  if (view.getUint32(40, true) !== crc32(payload)) refuse('checksum', 'The payload does not match its checksum.')
  return {
    kind,
    codec,
    generation: field(0),
    step: field(1),
    index: field(2),
    boundary: field(3),
    attempt: field(4),
    rows: field(5),
    columns: field(6),
    payload,
  }
}
