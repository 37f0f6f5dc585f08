/** Proves that the window finds what a line holds, fills it, and leaves no long queue on it. */
import { describe, expect, it } from 'vitest'
import { FIRST_WINDOW_BYTES, LEAST_WINDOW_BYTES, SLICE_BYTES } from '../../../src/net/limits.ts'
import { Pace, type Sent } from '../../../src/net/pace.ts'
import { Line, Timeline } from './wire.ts'

/** Sends whenever there is room, over `paces.length` connections that share a line. */
function flow(line: Line, connections: number, milliseconds: number, watchFrom: number) {
  const time = new Timeline()
  const paces = Array.from({ length: connections }, () => new Pace())
  let bytesBefore = 0
  const fill = (pace: Pace) => {
    while (pace.room(time.now) > 0 && time.now < milliseconds) {
      const sent: Sent = pace.send(SLICE_BYTES, false, time.now)
      time.at(line.arrival(time.now, SLICE_BYTES) + line.delayMs, () => {
        pace.acknowledge(sent, time.now)
        fill(pace)
      })
    }
  }
  time.at(watchFrom, () => {
    bytesBefore = line.bytes
    line.longestWaitMs = 0
  })
  for (const pace of paces) time.at(0, () => fill(pace))
  time.run(milliseconds)
  return { share: (line.bytes - bytesBefore) / ((milliseconds - watchFrom) * line.bytesPerMs), paces }
}

describe('pace', () => {
  it.each([
    ['100 Mbit/s, 50 ms', 12_500, 50, 1],
    ['100 Mbit/s, 50 ms', 12_500, 50, 4],
    ['80 Mbit/s, 100 ms', 10_000, 100, 4],
    ['20 Mbit/s, 100 ms', 2_500, 100, 4],
    ['1 Gbit/s, 10 ms', 125_000, 10, 4],
    ['2 Mbit/s, 40 ms', 250, 40, 1],
  ])('fills %s, over several connections or one', (_, bytesPerMs, rttMs, connections) => {
    const line = new Line(bytesPerMs, rttMs / 2)
    const { share, paces } = flow(line, connections, 30_000, 5_000)
    expect(share).toBeGreaterThan(0.9)
    const known = paces.reduce((sum, pace) => sum + pace.bytesPerMs!, 0) / bytesPerMs
    expect(known).toBeGreaterThan(0.8)
    expect(known).toBeLessThan(1.6)
    // A quarter of a round trip that looks for a faster line, and the slices that are not acknowledged yet.
    const slices = (connections * 2 * LEAST_WINDOW_BYTES) / bytesPerMs
    expect(line.longestWaitMs).toBeLessThan(0.8 * rttMs + slices)
  })

  it('has filled the line within ten round trips', () => {
    const { share } = flow(new Line(12_500, 25), 4, 2_000, 500)
    expect(share).toBeGreaterThan(0.9)
  })

  it('learns nothing of the line from what was too little to fill it', () => {
    const pace = new Pace()
    let now = 0
    for (let i = 0; i < 150; i++) {
      const sent = pace.send(1_000, true, now)
      pace.acknowledge(sent, now + 50)
      now += 100
    }
    expect(pace.rttMs).toBe(50)
    expect(pace.bytesPerMs).toBeNull()
    expect(pace.room(now)).toBeGreaterThanOrEqual(FIRST_WINDOW_BYTES)
  })

  it('follows a round trip that has become longer', () => {
    const pace = new Pace()
    let now = 0
    for (let i = 0; i < 400; i++) {
      const rtt = i < 100 ? 20 : 120
      const sent = pace.send(SLICE_BYTES, false, now)
      pace.acknowledge(sent, now + rtt)
      now += rtt
    }
    expect(pace.rttMs).toBe(120)
  })
})
