import { describe, expect, it } from 'vitest'
import { bar, clock, createProgress } from '../../../server/cli/demo/progress.ts'
import type { RunDetail, StepMetric } from '../../../src/protocol/api.ts'

const metric = (step: number): StepMetric => ({
  step,
  loss: 2,
  gradNorm: 1,
  lr: 1e-3,
  tokens: 500,
  durationMs: 500,
  at: 500 * step,
})

function terminal(isTTY: boolean, columns = 80) {
  let text = ''
  return { isTTY, columns, write: (piece: string) => void (text += piece), text: () => text }
}

describe('createProgress', () => {
  it('writes some plain lines, the first and the last among them, where there is no terminal', () => {
    const out = terminal(false)
    const progress = createProgress(100, out)
    for (let step = 1; step <= 100; step++) progress.step(metric(step))
    progress.end()
    const lines = out.text().trimEnd().split('\n')
    expect(lines.length).toBeLessThanOrEqual(27)
    expect(lines[0]).toBe('  step   1/100  loss 2.0000  1000 tokens/s  ETA 0:50')
    expect(lines.at(-1)).toBe('  step 100/100  loss 2.0000  1000 tokens/s  ETA 0:00')
    expect(out.text()).not.toContain('\u001b')
  })

  it('redraws one line within the terminal’s width, and leaves it before it says something else', () => {
    const out = terminal(true, 60)
    const progress = createProgress(10, out)
    progress.step(metric(5))
    const clear = '\r\u001b[K'
    const drawn = out.text().slice(clear.length)
    expect(out.text().startsWith(clear)).toBe(true)
    expect(drawn).toMatch(/^ {2}▕.*▏ step {2}5\/10 {2}loss 2\.0000/)
    expect(drawn.length).toBeLessThanOrEqual(60)
    progress.detail({ state: 'evaluating', detail: 'Scoring.' } as RunDetail)
    progress.detail({ state: 'evaluating', detail: 'Scoring.' } as RunDetail)
    expect(out.text().match(/evaluating: Scoring\.\n/g)).toHaveLength(1)
  })
})

it('draws eighths of a character', () => {
  expect(bar(0, 4)).toBe('    ')
  expect(bar(0.5, 4)).toBe('██  ')
  expect(bar(0.53, 4)).toBe('██▏ ')
  expect(bar(2, 4)).toBe('████')
})

it.each([
  [0, '0:00'],
  [59.6, '1:00'],
  [95, '1:35'],
  [3725, '1:02:05'],
])('writes %d seconds as %s', (seconds, text) => {
  expect(clock(seconds)).toBe(text)
})
