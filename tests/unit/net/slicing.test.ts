/** Proves that slices become the frame again in any order, and that no slice can make the reassembler misbehave. */
import { describe, expect, it } from 'vitest'
import { SkeinError } from '../../../src/protocol/errors.ts'
import { MAX_FRAME_BYTES, MAX_SLICE_BYTES, SLICE_BYTES } from '../../../src/net/limits.ts'
import { cutFrame, Reassembler, SLICE_HEADER_BYTES } from '../../../src/net/slicing.ts'
import { generator } from './random.ts'

const randomBytes = (random: () => number, length: number) =>
  Uint8Array.from({ length }, () => Math.floor(random() * 256))

function shuffle<T>(random: () => number, items: T[]): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[items[i], items[j]] = [items[j]!, items[i]!]
  }
  return items
}

const code = (run: () => unknown) => {
  try {
    run()
  } catch (caught) {
    return caught instanceof SkeinError ? caught.code : caught
  }
  return null
}

/** Of at most `bytes` each. */
const slicesOf = (id: number, frame: Uint8Array, bytes: number) =>
  cutFrame(id, frame, Math.ceil(frame.byteLength / bytes)).map((parcel) => parcel.encode())

/** A header with a payload of `payload` zero bytes. */
function slice(id: number, index: number, count: number, total: number, payload: number) {
  const bytes = new Uint8Array(SLICE_HEADER_BYTES + payload)
  const view = new DataView(bytes.buffer)
  ;[id, index, count, total].forEach((value, i) => view.setUint32(4 * i, value, true))
  return bytes
}

describe('slicing', () => {
  it('cuts a frame into slices of one size, each of which makes four packets at most in every SCTP', () => {
    for (const bytes of [1, 100, 4_608, 4_609, 12_289, 65_536, 1024 * 1024, 5_000_001]) {
      const parcels = cutFrame(1, new Uint8Array(bytes))
      const sizes = parcels.map((parcel) => parcel.bytes - SLICE_HEADER_BYTES)
      expect(Math.max(...parcels.map((parcel) => parcel.bytes))).toBeLessThanOrEqual(4 * 1156)
      if (sizes.length > 1) expect(sizes[0]).toBeGreaterThanOrEqual(SLICE_BYTES / 2 - SLICE_HEADER_BYTES)
      expect(sizes.reduce((sum, n) => sum + n, 0)).toBe(bytes)
    }
    expect(cutFrame(1, new Uint8Array(64 * 1024))).toHaveLength(15)
  })

  it('refuses a frame that is empty or too large', () => {
    expect(code(() => [...cutFrame(1, new Uint8Array(0))])).toBe('net.frame_size')
    const huge = { byteLength: MAX_FRAME_BYTES + 1 } as Uint8Array
    expect(code(() => [...cutFrame(1, huge)])).toBe('net.frame_size')
  })

  it('puts interleaved, shuffled and doubled slices of several frames together (fuzz, seeded)', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = generator(seed)
      const reassembler = new Reassembler({ leastSliceBytes: 1 })
      const frames = Array.from({ length: 1 + Math.floor(random() * 6) }, () =>
        randomBytes(random, 1 + Math.floor(random() * 3000)),
      )
      const slices = frames.flatMap((frame, id) => slicesOf(id, frame, 1 + Math.floor(random() * 200)))
      const sent = shuffle(random, [...slices, ...slices.filter(() => random() < 0.3)])
      const whole = new Map<number, Uint8Array>()
      for (const bytes of sent) {
        const frame = reassembler.accept(bytes, 0)
        const id = new DataView(bytes.buffer).getUint32(0, true)
        if (!frame) continue
        expect(whole.has(id), `seed ${seed}: frame ${id} came twice`).toBe(false)
        whole.set(id, frame)
      }
      frames.forEach((frame, id) => expect(whole.get(id), `seed ${seed}, frame ${id}`).toEqual(frame))
      expect(reassembler.heldBytes).toBe(0)
    }
  })

  it('answers noise and bent headers with its own error or nothing, within its caps (fuzz, seeded)', () => {
    const caps = { frameBytes: 100_000, partialFrames: 4, partialBytes: 150_000, leastSliceBytes: 1, staleMs: 1000 }
    let refused = 0
    for (let seed = 1; seed <= 300; seed++) {
      const random = generator(seed)
      const reassembler = new Reassembler(caps)
      const honest = slicesOf(seed, randomBytes(random, 5000), 700)
      for (let round = 0; round < 40; round++) {
        const bytes =
          random() < 0.5 ? randomBytes(random, Math.floor(random() * 64)) : honest[round % honest.length]!.slice()
        if (random() < 0.7 && bytes.length > 0)
          bytes[Math.floor(random() * Math.min(16, bytes.length))] = random() * 256
        const answer = code(() => reassembler.accept(bytes, round))
        if (answer !== null) refused += 1
        expect([null, 'net.slice', 'net.partials'], `seed ${seed}`).toContain(answer)
        expect(reassembler.heldBytes).toBeLessThanOrEqual(caps.partialBytes)
      }
    }
    expect(refused).toBeGreaterThan(1000)
  })

  it('refuses headers that contradict themselves', () => {
    const bad = [
      slice(1, 0, 1, 0, 1),
      slice(1, 0, 0, 5, 5),
      slice(1, 1, 1, 5, 5),
      slice(1, 0, 1, 5, 4),
      slice(1, 0, 6, 10, 2),
      slice(1, 0, 5, 4, 1),
      slice(1, 0, 1, 0xffff_ffff, 5),
      slice(1, 0, 1, 5, 0),
      new Uint8Array(3),
      slice(1, 0, 1, MAX_SLICE_BYTES, MAX_SLICE_BYTES),
    ]
    for (const bytes of bad) expect(code(() => new Reassembler().accept(bytes, 0))).toBe('net.slice')
    expect(code(() => new Reassembler().accept(slice(1, 0, 1000, 1000, 1), 0))).toBe('net.slice')
    const reassembler = new Reassembler({ leastSliceBytes: 1 })
    expect(reassembler.accept(slice(1, 0, 2, 10, 5), 0)).toBeNull()
    expect(code(() => reassembler.accept(slice(1, 1, 2, 9, 4), 0))).toBe('net.slice')
  })

  it('holds no more than has come, caps that, and gives up what is stale', () => {
    const reassembler = new Reassembler({ partialFrames: 2, partialBytes: 2_450, leastSliceBytes: 1, staleMs: 100 })
    reassembler.accept(slice(1, 0, 2, 2_000, 1_000), 0)
    reassembler.accept(slice(2, 0, 2, 2_000, 1_000), 50)
    // What they cost beside their bytes counts too.
    expect(reassembler.heldBytes).toBeGreaterThan(2_000)
    expect(reassembler.heldBytes).toBeLessThan(2_450)
    expect(code(() => reassembler.accept(slice(3, 0, 2, 2, 1), 60))).toBe('net.partials')
    expect(reassembler.evict(100)).toBe(1)
    expect(code(() => reassembler.accept(slice(4, 0, 2, 4_000, 2_000), 110))).toBe('net.partials')
    expect(reassembler.accept(slice(1, 1, 2, 2_000, 1_000), 110)).toBeNull()
    expect(reassembler.accept(slice(2, 1, 2, 2_000, 1_000), 110)?.byteLength).toBe(2_000)
    expect(reassembler.heldBytes).toBe(0)
  })
})
