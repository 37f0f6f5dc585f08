/** Proves that a run goes on as if nothing had happened while its browsers and its server are killed. */
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { test } from '@playwright/test'
import { chaosPlan } from '../../server/cli/demo/chaos/plan.ts'
import { demoSummarySchema } from '../../server/cli/demo/summary.ts'
import { runDemo } from './demoProcess.ts'
import { expect, tinyConfig } from './skein.ts'

const STEPS = 80

/** A seed whose first blows are a browser killed and a page closed, so that both have fallen long before the end. */
function seedOfKillAndClose(): number {
  for (let seed = 1; ; seed++) {
    const first = chaosPlan(seed, STEPS).filter(({ what }) => what !== 'server')
    const kinds = first.slice(0, 2).map(({ what }) => what)
    if (kinds[0] === 'kill' && kinds[1] === 'close') return seed
  }
}

let folder = ''
test.beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'skein-chaos-'))
  await mkdir(path.join(folder, 'tmp'))
})
test.afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test('browsers and the server are killed, and every step is the step of the run that nobody disturbed', async () => {
  test.setTimeout(600_000)
  // An epsilon above the gradients' rounding: AdamW makes a whole step of what nearly cancelled, and there even two runs that
  // nobody disturbs differ by the order of their sums.
  const optimizer = { warmupSteps: 10, eps: 1e-6 }
  const config = { ...tinyConfig, batch: 8, evalTokens: 500, checkpointEvery: 40, optimizer }
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config))
  const seed = seedOfKillAndClose()
  const flags = ['--chaos', String(seed), '--volunteers', '5', '--steps', String(STEPS), '--config', 'config.json']
  const { code, output } = await runDemo(folder, [...flags, '--out', 'result'])
  expect(code, output).toBe(0)
  const summary = demoSummarySchema.parse(JSON.parse(await readFile(path.join(folder, 'result/summary.json'), 'utf8')))
  const { chaos } = summary
  expect(chaos, output).toMatchObject({ seed, serverKills: 1, rollbacks: 0 })
  expect(chaos!.kills, output).toBeGreaterThanOrEqual(1)
  expect(chaos!.leaves, output).toBeGreaterThanOrEqual(1)
  expect(chaos!.recoveredLeases, output).toBeGreaterThan(0)
  expect(summary.recoveredLeases).toBe(chaos!.recoveredLeases)
  expect(chaos!.largestDifference, output).not.toBeNull()
  expect(chaos!.largestDifference!).toBeLessThanOrEqual(1e-4)
  expect(summary.trainLoss).toHaveLength(STEPS)
  expect(summary.trainLoss.at(-1)!).toBeLessThan(summary.trainLoss[0]! - 0.5)
  const { silence, pagehide } = chaos!.takeoverSeconds
  const moved = [silence, pagehide].filter((seconds) => seconds !== null)
  expect(moved.length + chaos!.finishedBefore, output).toBeGreaterThan(0)
  expect(await readdir(path.join(folder, 'tmp'))).toEqual([])
})
