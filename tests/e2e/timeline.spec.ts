/** Proves that a run's page shows where a step's time went, measured by volunteers in real browsers, and saves it as a trace. */
import { readFile } from 'node:fs/promises'
import { runTimelineSchema, type StepTimeline } from '../../src/protocol/timeline.ts'
import { expect, test, tinyConfig } from './skein.ts'

const STAGES = 3
const MICROBATCHES = 4

test('a run under way shows the spans of every stage, shares that add up, and a trace that can be saved', async ({
  skein,
  page,
}) => {
  test.setTimeout(240_000)
  const shape = { stages: STAGES, model: { ...tinyConfig.model, layers: STAGES }, batch: MICROBATCHES, microbatch: 1 }
  const runId = await skein.launch('watched run', { ...tinyConfig, ...shape, steps: 100_000 })
  for (let i = 0; i < STAGES; i++) await skein.volunteer()
  await page.goto(`${skein.origin}/console/runs/${runId}`)
  const panel = page.getByRole('region', { name: 'Where a step’s time goes' })
  await expect(panel.getByText(/^Step [\d,]+ took .+ compute .+ merge .+ send .+ wait /)).toBeVisible({
    timeout: 180_000,
  })

  const answer = async () => {
    const response = await page.request.get(`${skein.origin}/api/v1/runs/${runId}/timeline`)
    return runTimelineSchema.parse(await response.json()).steps
  }
  const whole = ({ lanes, silent }: StepTimeline) => silent === 0 && lanes.length === STAGES
  await expect.poll(async () => (await answer()).filter(whole).length, { timeout: 60_000 }).toBeGreaterThan(1)
  const steps = (await answer()).filter(whole)
  for (const { durationMs, lanes } of steps)
    for (const { stage, microbatches, shares, spans } of lanes) {
      const last = stage === STAGES - 1
      const count = (kind: string) => spans.filter(([one]) => one === kind).length
      expect(microbatches).toBe(MICROBATCHES)
      expect([count('forward'), count('backward'), count('forwardBackward')]).toEqual(
        last ? [0, 0, MICROBATCHES] : [MICROBATCHES, MICROBATCHES, 0],
      )
      expect(count('merge')).toBeGreaterThan(0)
      const { compute, merge, send, wait } = shares
      expect(compute + merge + send + wait).toBeCloseTo(durationMs, 3)
      expect(Math.min(compute, merge)).toBeGreaterThan(0)
      // The device does one thing at a time: what it computed is what its spans last, to within what is cut off at the ends.
      const computed = spans.reduce((sum, [kind, , ms]) => (kind === 'merge' || kind === 'send' ? sum : sum + ms), 0)
      expect(Math.abs(computed - compute)).toBeLessThan(0.02 * durationMs)
    }
  // A stage's first forward comes before the next one's, whatever the three clocks count from.
  const begins = steps.map(({ lanes }) => lanes.map(({ spans }) => Math.min(...spans.map(([, start]) => start))))
  const inOrder = begins.filter((starts) => starts.every((start, i) => i === 0 || start > starts[i - 1]!))
  expect(inOrder.length).toBeGreaterThan(0)

  await panel.getByRole('combobox', { name: 'Step' }).selectOption({ index: 1 })
  const summary = await panel.getByText(/^Step [\d,]+ took/).textContent()
  await panel.getByText('Show as a table').click()
  const rows = panel.getByRole('table').getByRole('row')
  await expect(rows).toHaveCount(STAGES + 1)
  for (let stage = 1; stage <= STAGES; stage++) {
    const row = panel.getByRole('row', { name: `Stage ${stage}, replica 1` })
    const percents = (await row.getByRole('cell').allTextContents()).slice(2).map(parseFloat)
    expect(percents).toHaveLength(4)
    expect(percents.reduce((sum, value) => sum + value, 0)).toBeCloseTo(100, 0)
  }
  // On a phone tables scroll in their own places, and the page does not.
  await page.getByText('Show as a table').first().click()
  await expect(page.getByRole('region', { name: 'Loss by step' }).getByRole('row').first()).toBeVisible()
  await page.setViewportSize({ width: 390, height: 844 })
  // The charts follow what is around them a frame later.
  await expect.poll(() => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
  // Who looks at one step goes on looking at it.
  await page.waitForTimeout(3500)
  expect(await panel.getByText(/^Step [\d,]+ took/).textContent()).toBe(summary)

  const [download] = await Promise.all([
    page.waitForEvent('download'),
    panel.getByRole('button', { name: 'Save as a Chrome trace' }).click(),
  ])
  expect(download.suggestedFilename()).toBe('watched-run.trace.json')
  const trace = JSON.parse(await readFile(await download.path(), 'utf8')) as {
    traceEvents: { ph: string; name: string; pid: number; ts?: number; dur?: number }[]
  }
  const complete = trace.traceEvents.filter(({ ph }) => ph === 'X')
  for (let pid = 1; pid <= STAGES; pid++)
    expect(complete.some((event) => event.pid === pid && /^(forward|backward)/.test(event.name))).toBe(true)
  expect(complete.every(({ ts, dur }) => Number.isFinite(ts) && dur! >= 0)).toBe(true)
})
