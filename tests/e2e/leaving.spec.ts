/** Proves what happens when volunteers go, and when one browser opens the page twice. */
import { expect, headline, test, tinyConfig, volunteerPath } from './skein.ts'

test('a closed tab: the console says which stage waits, a stranger takes over, the run ends well', async ({
  skein,
  page,
}) => {
  const volunteers = [await skein.volunteer(), await skein.volunteer()]
  const steps = 40
  const runId = await skein.launch('interrupted', { ...tinyConfig, steps, checkpointEvery: 5 })
  await page.goto(`${skein.origin}/console/runs/${runId}`)
  await skein.follow(runId, ({ metrics }) => metrics.length >= 8)

  await volunteers[0]!.context().close()
  const waits = /Stage [12] of 2 waits for a volunteer/
  await expect(page.getByRole('status').filter({ hasText: waits })).toBeVisible({ timeout: 10_000 })
  const { state, detail, step, grid } = await skein.api.run(runId)
  expect(state).toBe('waiting')
  expect(detail).toMatch(waits)
  // The seat that is empty is the one that the sentence names.
  const empty = grid.findIndex((replicas) => replicas.includes(null))
  expect(detail).toContain(`Stage ${empty + 1} of 2`)
  expect(step).toBeLessThan(steps)

  await skein.volunteer()
  const ended = await skein.follow(runId)
  expect(ended.detail.state).toBe('finished')
  expect(ended.metrics.map((metric) => metric.step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1))
  expect(ended.detail.valLoss).toBeLessThan(ended.metrics[0]!.loss)
  await expect(page.getByRole('status').filter({ hasText: 'Finished after' })).toBeVisible()
})

test('two tabs of one profile: one trains, the other says so and takes over', async ({ skein }) => {
  const profile = await skein.profile()
  const [first, second] = [await profile.newPage(), await profile.newPage()]
  await first.goto(skein.origin + volunteerPath)
  await expect(headline(first)).toHaveText('Waiting for a run')
  await second.goto(skein.origin + volunteerPath)
  await expect(headline(second)).toHaveText('Another tab of this browser is contributing')
  const runId = await skein.launch('one tab', { ...tinyConfig, stages: 1, steps: 200, checkpointEvery: 10 })
  const { holders } = await skein.follow(runId, ({ metrics }) => metrics.length >= 12)
  expect(holders.size).toBe(1)
  await expect(headline(first)).toHaveText('Training stage 1 of 1 of “one tab”')
  await expect(headline(second)).toHaveText('Another tab of this browser is contributing')

  await first.close()
  await expect(headline(second)).toHaveText('Training stage 1 of 1 of “one tab”', { timeout: 30_000 })
  expect((await skein.api.run(runId)).nodes).toHaveLength(1)
})
