/** Proves that a page whose GPU is lost in the middle of a run takes a fresh one, reloads its stage and goes on. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { Page } from '@playwright/test'
import { expect, headline, test as base, tinyConfig, type Skein } from './skein.ts'

const config = { ...tinyConfig, steps: 14, checkpointEvery: 3, evalTokens: 1000, codec: 'f32', seed: 11 } as const

/** Keeps every device that a stage Worker acquires where the test can reach it. */
const keepDevices = `
  const requestDevice = GPUAdapter.prototype.requestDevice
  GPUAdapter.prototype.requestDevice = async function (...args) {
    return (self.devices = [...(self.devices ?? []), await requestDevice.apply(this, args)]).at(-1)
  };
`

/** The page as it is built, but for that in its Worker. */
const test = base.extend({
  pageFolder: async ({ pageFolder }, use) => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-losing-page-'))
    await cp(pageFolder, folder, { recursive: true })
    const workers = (await readdir(path.join(folder, 'assets'))).filter((name) => /^worker.*\.js$/.test(name))
    expect(workers).toHaveLength(1)
    const file = path.join(folder, 'assets', workers[0]!)
    await writeFile(file, keepDevices + (await readFile(file, 'utf8')))
    await use(folder)
    await rm(folder, { recursive: true })
  },
})

const destroyDevice = (page: Page) =>
  page.workers()[0]!.evaluate(() => (self as unknown as { devices: GPUDevice[] }).devices.at(-1)!.destroy())

/** It says so for a second only. */
const saysLost = (page: Page) =>
  expect.poll(() => headline(page).textContent(), { intervals: [50] }).toBe('GPU lost, restarting')

async function losses(skein: Skein, name: string, atStep5: () => Promise<unknown> = () => Promise.resolve()) {
  const runId = await skein.launch(name, config)
  await skein.follow(runId, ({ metrics }) => metrics.length >= 5)
  await atStep5()
  const { metrics, detail } = await skein.follow(runId)
  expect(metrics.map((metric) => metric.step)).toEqual(Array.from({ length: config.steps }, (_, i) => i + 1))
  return { losses: metrics.map((metric) => metric.loss), rollbacks: detail.rollbacks }
}

function expectAlike(actual: number[], expected: number[]) {
  actual.forEach((loss, step) => {
    expect(Math.abs(loss / expected[step]! - 1), `step ${step + 1}`).toBeLessThan(1e-4)
  })
}

test('a lost device, then a crashed GPU process: the run goes on to the same losses', async ({ skein, browser }) => {
  const pages = [await skein.volunteer(), await skein.volunteer()]
  const undisturbed = await losses(skein, 'undisturbed')
  expect(undisturbed.rollbacks).toBe(0)
  expect(undisturbed.losses.at(-1)!).toBeLessThan(undisturbed.losses[0]! - 0.01)

  const workers = new Set(pages[0]!.workers())
  const bereft = await losses(skein, 'a device destroyed', async () => {
    await destroyDevice(pages[0]!)
    await saysLost(pages[0]!)
  })
  expect(bereft.rollbacks).toBe(1)
  expectAlike(bereft.losses, undisturbed.losses)
  expect(pages[0]!.workers().some((worker) => workers.has(worker))).toBe(false)

  const crashed = await losses(skein, 'the GPU process crashed', async () => {
    await (await browser.newBrowserCDPSession()).send('Browser.crashGpuProcess')
    await Promise.all(pages.map(saysLost))
  })
  expectAlike(crashed.losses, undisturbed.losses)
})
