/** Proves that slices are acknowledged by few messages, none of them late: the first at once, then several together. */
import { describe, expect, it } from 'vitest'
import { ACKNOWLEDGED_MS, SLICE_BYTES } from '../../../src/net/limits.ts'
import { listening } from './page.ts'
import { playedStrand } from './playedStrand.ts'

/** A connection that has opened, and what it answers: `[when, how many slices]`. */
function receiver() {
  const answers: [number, number][] = []
  const { time, strand, hear } = playedStrand({
    send: (data) => {
      if (typeof data !== 'string') answers.push([time.now, new DataView(data.buffer).getUint32(0, true)])
    },
  })
  hear(listening())
  const slices = (at: number, count: number) =>
    time.at(at, () => {
      for (let i = 0; i < count; i++) hear(new ArrayBuffer(SLICE_BYTES))
    })
  return { time, strand, answers, slices }
}

describe('acknowledging', () => {
  it('answers the first slice after a silence at once, and what comes close behind together', () => {
    const { time, answers, slices } = receiver()
    slices(1_000, 9)
    time.run()
    const [first, ...others] = answers
    expect(first).toEqual([1_000, 1])
    expect(others).toEqual([
      [1_000, 4],
      [1_000, 7],
      [1_000 + ACKNOWLEDGED_MS, 9],
    ])
  })

  it('keeps no slice for longer than it may, whatever comes meanwhile', () => {
    const { time, answers, slices } = receiver()
    const times = Array.from({ length: 50 }, (_, i) => 1_000 + 2 * i)
    for (const at of times) slices(at, 1)
    time.run()
    expect(answers.length).toBeLessThan(30)
    for (const [i, at] of times.entries()) {
      const [answeredAt] = answers.find(([, count]) => count > i)!
      expect(answeredAt - at).toBeLessThanOrEqual(ACKNOWLEDGED_MS)
    }
  })

  it('answers nothing any more once it is closed', () => {
    const { time, strand, answers, slices } = receiver()
    slices(1_000, 2)
    time.at(1_001, () => strand.close())
    time.run()
    expect(answers).toEqual([[1_000, 1]])
  })
})
