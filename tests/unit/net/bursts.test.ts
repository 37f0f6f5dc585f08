/** Proves that a connection is given no more at once than a browser’s socket takes, and goes on without being asked. */
import { describe, expect, it } from 'vitest'
import { BURST_BYTES, BURST_MS, SLICE_BYTES } from '../../../src/net/limits.ts'
import { cutFrame } from '../../../src/net/slicing.ts'
import { listening } from './page.ts'
import { playedStrand } from './playedStrand.ts'

/** A connection that is given whatever it has room for, over a line that answers each slice after `rttMs`. */
function sender(rttMs: number) {
  const sends: { at: number; bytes: number }[] = []
  const { time, strand, hear } = playedStrand({
    send: (data) => {
      if (typeof data === 'string') return
      sends.push({ at: time.now, bytes: data.byteLength })
      const count = Uint32Array.of(sends.length)
      time.at(time.now + rttMs, () => hear(count.buffer))
    },
    roomAgain: () => fill(),
  })
  const parcels = cutFrame(1, new Uint8Array(8_000_000))
  const fill = () => {
    while (strand.room > 0 && parcels.length > 0) strand.send(parcels.shift()!, parcels.length === 0)
  }
  time.at(1_000, () => {
    hear(listening())
    fill()
  })
  time.run()
  return { sends, left: parcels.length }
}

/** The most that was sent in any so many milliseconds. */
function largestBurst(sends: { at: number; bytes: number }[], milliseconds: number): number {
  return Math.max(
    ...sends.map(({ at: from }) =>
      sends.filter(({ at }) => at >= from && at < from + milliseconds).reduce((sum, { bytes }) => sum + bytes, 0),
    ),
  )
}

describe('bursts', () => {
  it('on a long line with a wide window hold what a socket takes, and follow each other at once', () => {
    const { sends, left } = sender(50)
    expect(left).toBe(0)
    expect(largestBurst(sends, BURST_MS)).toBeLessThanOrEqual(BURST_BYTES + SLICE_BYTES)
    // All of it is there before the window closes: bursts are what holds the sender up.
    const late = sends.filter(({ at }) => at >= 1_000 + 8 * 50)
    const bytes = late.reduce((sum, slice) => sum + slice.bytes, 0)
    expect(bytes / (late.at(-1)!.at - late[0]!.at)).toBeGreaterThan(0.9 * (BURST_BYTES / BURST_MS))
  })

  it('are not waited for where what was sent has come', () => {
    const { sends, left } = sender(1)
    expect(left).toBe(0)
    expect(largestBurst(sends, BURST_MS)).toBeGreaterThan(2 * BURST_BYTES)
  })
})
