/** Proves that a step's time is parted without a rest, and each moment of it given to one share. */
import { describe, expect, it } from 'vitest'
import { timeShares, type Span } from '../../../src/protocol/timeline.ts'

describe('the shares of a step', () => {
  it('are all waiting where nothing was done', () => {
    expect(timeShares([], 80)).toEqual({ compute: 0, merge: 0, send: 0, wait: 80 })
  })

  it('count each moment once: what is sent while something is computed costs nothing', () => {
    const spans: Span[] = [
      ['forward', 10, 20, 0],
      ['send', 25, 15, -1],
      ['backward', 50, 10, 0],
      ['merge', 55, 15, 0],
      ['send', 65, 10, -1],
    ]
    // 10 waited, 20 forward, 10 sent alone, 10 waited, 10 backward, 10 merged, 5 sent, 5 waited.
    expect(timeShares(spans, 80)).toEqual({ compute: 30, merge: 10, send: 15, wait: 25 })
  })

  it('add up to the step, whatever is claimed', () => {
    const kinds = ['forward', 'backward', 'forwardBackward', 'merge', 'send'] as const
    let seed = 7
    const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647
    for (let round = 0; round < 50; round++) {
      const spans = Array.from({ length: 40 }, (_, i): Span => [kinds[i % 5]!, 200 * random(), 50 * random(), i])
      const shares = timeShares(spans, 100)
      expect(shares.compute + shares.merge + shares.send + shares.wait).toBeCloseTo(100, 9)
      expect(Math.min(...Object.values(shares))).toBeGreaterThanOrEqual(0)
    }
  })
})
