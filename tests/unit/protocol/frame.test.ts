/** Proves that a frame says what was put in, and that nothing damaged, foreign or forged by accident is believed. */
import { describe, expect, it } from 'vitest'
import { SkeinError } from '../../../src/protocol/errors.ts'
import {
  crc32,
  decodeFrame,
  encodeFrame,
  FRAME_CODECS,
  FRAME_HEADER_BYTES,
  FRAME_KINDS,
  type FrameCodec,
  type FrameHeader,
  type FrameKind,
  MAX_FRAME_PAYLOAD_BYTES,
} from '../../../src/protocol/frame.ts'
import { Random } from '../../sim/clock.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'

const header: FrameHeader = {
  kind: 'gradient',
  codec: 'f16',
  generation: 4_000_000_000,
  step: 2,
  index: 3,
  boundary: 4,
  attempt: 5,
  rows: 6,
  columns: 7,
}
const payload = Uint8Array.from({ length: 84 }, (_, i) => i * 3)

function codeOf(bytes: Uint8Array): string {
  try {
    decodeFrame(bytes)
    return 'believed'
  } catch (caught) {
    expect(caught).toBeInstanceOf(SkeinError)
    return (caught as SkeinError).code
  }
}

/** A frame with some header bytes changed; `sealed` with the checksum that then fits. */
function changed(change: (view: DataView) => void, sealed = true): Uint8Array {
  const bytes = encodeFrame(header, payload)
  const view = new DataView(bytes.buffer)
  change(view)
  if (sealed) view.setUint32(44, crc32(bytes.subarray(0, 44)), true)
  return bytes
}

describe('a frame', () => {
  it('comes back as it went, for every kind and codec, its payload not copied', () => {
    for (const kind of Object.keys(FRAME_KINDS) as FrameKind[])
      for (const codec of Object.keys(FRAME_CODECS) as FrameCodec[]) {
        const bytes = encodeFrame({ ...header, kind, codec }, payload)
        const frame = decodeFrame(bytes)
        expect({ ...frame, payload: [...frame.payload] }).toEqual({ ...header, kind, codec, payload: [...payload] })
        expect(frame.payload.buffer).toBe(bytes.buffer)
      }
  })

  it('may be empty, and may lie anywhere in a buffer', () => {
    const bytes = encodeFrame(header, new Uint8Array(0))
    expect(decodeFrame(bytes).payload).toHaveLength(0)
    const room = new Uint8Array(bytes.length + 5)
    room.set(bytes, 3)
    expect(decodeFrame(room.subarray(3, 3 + bytes.length))).toMatchObject(header)
  })

  it('uses the checksum of IEEE 802.3', () => {
    expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926)
  })

  it.each([
    ['frame.short', encodeFrame(header, payload).subarray(0, FRAME_HEADER_BYTES - 1)],
    ['frame.short', new Uint8Array(0)],
    ['frame.magic', changed((view) => view.setUint8(0, 0))],
    ['frame.version', changed((view) => view.setUint16(4, PROTOCOL_VERSION + 1, true))],
    ['frame.header_checksum', changed((view) => view.setUint32(12, 9, true), false)],
    ['frame.header_checksum', changed((view) => view.setUint32(44, 9, true), false)],
    ['frame.kind', changed((view) => view.setUint8(6, 0))],
    ['frame.kind', changed((view) => view.setUint8(6, 200))],
    ['frame.codec', changed((view) => view.setUint8(7, 99))],
    ['frame.too_large', changed((view) => view.setUint32(36, MAX_FRAME_PAYLOAD_BYTES + 1, true))],
    ['frame.length', changed((view) => view.setUint32(36, 83, true))],
    ['frame.length', changed((view) => view.setUint32(36, 85, true))],
    ['frame.length', encodeFrame(header, payload).subarray(0, FRAME_HEADER_BYTES + 80)],
    ['frame.checksum', changed((view) => view.setUint8(FRAME_HEADER_BYTES + 10, 99), false)],
    ['frame.checksum', changed((view) => view.setUint32(40, 1, true))],
  ])('is refused with %s', (code, bytes) => {
    expect(codeOf(bytes)).toBe(code)
  })

  it('is refused whichever single bit is wrong, but for the reserved bytes', () => {
    const whole = encodeFrame(header, payload)
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const at = bit >> 3
      if (at >= 48 && at < FRAME_HEADER_BYTES) continue
      const bytes = whole.slice()
      bytes[at]! ^= 1 << (bit & 7)
      expect(codeOf(bytes), `bit ${bit}`).toMatch(/^frame\./)
    }
  })

  it('survives noise: nothing but a SkeinError ever comes out of bytes that are no frame', () => {
    const random = new Random(7)
    const byte = () => Math.floor(random.next() * 256)
    for (let round = 0; round < 3000; round++) {
      const noise = Uint8Array.from({ length: Math.floor(random.next() * 200) }, byte)
      expect(codeOf(noise)).toMatch(/^frame\./)
      const damaged = encodeFrame(header, payload)
      // Up to three bytes within 32 bits of each other: a burst that CRC-32 is sure to find.
      const at = Math.floor(random.next() * 44)
      const mask = 1 + Math.floor(random.next() * 255)
      for (let i = at; i < Math.min(44, at + 1 + Math.floor(random.next() * 3)); i++) damaged[i]! ^= mask
      expect(codeOf(damaged)).toMatch(/^frame\./)
      const cut = encodeFrame(header, payload).subarray(0, Math.floor(random.next() * (FRAME_HEADER_BYTES + 84)))
      expect(codeOf(cut)).toMatch(/^frame\./)
    }
  })
})
