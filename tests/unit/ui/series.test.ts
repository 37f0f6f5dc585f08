/** Owns the proof that the loss chart draws what was measured, on each axis, and says the same in words. */
import { describe, expect, test } from 'vitest'
import { lossSeries, lossSummary, MAX_POINTS, tableRows } from '../../../src/ui/charts/series.ts'
import { metricOf } from './fixtures.ts'

const metrics = Array.from({ length: 40 }, (_, i) => metricOf(i + 1))

describe('axes', () => {
  test('step, cumulative tokens, seconds since the first step began', () => {
    expect(lossSeries(metrics, 'step').x.slice(0, 2)).toEqual([1, 2])
    expect(lossSeries(metrics, 'tokens').x.slice(0, 2)).toEqual([768, 1536])
    expect(lossSeries(metrics, 'time').x.slice(0, 2)).toEqual([0.5, 1.5])
  })

  test('nothing committed gives nothing to draw', () => {
    expect(lossSeries([], 'time')).toEqual({ x: [], raw: [], smooth: [] })
  })
})

describe('smoothing', () => {
  test('keeps a straight line straight and both ends where they are', () => {
    const { raw, smooth } = lossSeries(metrics, 'step')
    smooth.forEach((value, i) => expect(value).toBeCloseTo(raw[i]!, 9))
  })

  test('takes most of a spike away', () => {
    const spiked = metrics.map((m) => (m.step === 20 ? { ...m, loss: m.loss + 11 } : m))
    expect(lossSeries(spiked, 'step').smooth[19]! - metrics[19]!.loss).toBeCloseTo(1, 6)
  })
})

test('a long run is thinned, its mean kept and its last step shown', () => {
  const long = Array.from({ length: 10_001 }, (_, i) => metricOf(i + 1, { loss: i % 2 === 0 ? 1 : 3 }))
  const { x, raw } = lossSeries(long, 'step')
  expect(x.length).toBeLessThanOrEqual(MAX_POINTS)
  expect(x.at(-1)).toBe(10_001)
  expect(Math.max(...raw)).toBeLessThan(2.6)
})

test('the sentence names first, last and lowest', () => {
  const best = metrics[29]!
  expect(lossSummary([], null)).toBe('No step has been committed yet.')
  expect(lossSummary(metrics, best)).toBe(
    'Loss went from 5.9000 at step 1 to 2.0000 nats at step 40; the lowest was 3.0000 at step 30.',
  )
})

test('the table has the first and the last step', () => {
  const rows = tableRows(metrics, 7)
  expect(rows).toHaveLength(7)
  expect(rows[0]!.step).toBe(1)
  expect(rows.at(-1)!.step).toBe(40)
  expect(tableRows(metrics.slice(0, 3), 7)).toHaveLength(3)
})
