/** Proves that a page whose GPU has less memory than it offered lives on: told why, spared such stages, given smaller ones. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { Page } from '@playwright/test'
import { estimateStageMemory } from '../../src/model/memory.ts'
import { runConfigSchema, type RunConfigInput } from '../../src/protocol/runConfig.ts'
import { mebibytes } from '../../src/ui/words/quantities.ts'
import { expect, headline, test as base, tinyConfig } from './skein.ts'

const alone = { ...tinyConfig, stages: 1, replicas: 1 }
const large: RunConfigInput = { ...alone, model: { ...tinyConfig.model, dModel: 128, ffn: 512 } }
const small: RunConfigInput = { ...alone, model: { ...tinyConfig.model, layers: 2 } }
const needs = (config: RunConfigInput) => estimateStageMemory(runConfigSchema.parse(config), 0).total
const capacity = Math.floor(0.5 * needs(large))

/**
 * Every device of the Worker has `capacity` bytes from when the test says so: what goes beyond is asked for at a size that
 * no software adapter has, so that the browser itself runs out of memory.
 */
const limitMemory = `
  const requestDevice = GPUAdapter.prototype.requestDevice
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await requestDevice.apply(this, args)
    const createBuffer = device.createBuffer.bind(device)
    let held = 0
    device.createBuffer = (descriptor) => {
      const { size } = descriptor
      const tooMuch = held + size > (self.capacity ?? Infinity)
      if (tooMuch) return createBuffer({ ...descriptor, size: device.limits.maxBufferSize })
      held += size
      const buffer = createBuffer(descriptor)
      const destroy = buffer.destroy.bind(buffer)
      let gone = false
      buffer.destroy = () => {
        if (!gone) held -= size
        gone = true
        destroy()
      }
      return buffer
    }
    return device
  };
`

/** The page as it is built, but for that in its Worker. */
const test = base.extend({
  pageFolder: async ({ pageFolder }, use) => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-small-page-'))
    await cp(pageFolder, folder, { recursive: true })
    const workers = (await readdir(path.join(folder, 'assets'))).filter((name) => /^worker.*\.js$/.test(name))
    expect(workers).toHaveLength(1)
    const file = path.join(folder, 'assets', workers[0]!)
    await writeFile(file, limitMemory + (await readFile(file, 'utf8')))
    await use(folder)
    await rm(folder, { recursive: true })
  },
})

const limit = (page: Page, bytes: number) =>
  page.workers()[0]!.evaluate((most) => ((self as unknown as { capacity: number }).capacity = most), bytes)

test('a GPU that runs out of memory is given a smaller stage or none, and its tab lives on', async ({ skein }) => {
  expect(needs(small)).toBeLessThan(0.9 * capacity)
  const weak = await skein.volunteer()
  await expect(headline(weak)).toHaveText('Waiting for a run')
  const panel = weak.getByRole('region', { name: 'This device' })
  await expect(panel.getByRole('row', { name: /This device offers \(tried up to 64 MiB\) [\d,]+/ })).toBeVisible()
  await limit(weak, capacity)

  const runId = await skein.launch('too large', large)
  await expect(panel).toContainText('The graphics device has no room for this stage', { timeout: 60_000 })
  await expect(panel).toContainText('It is offered smaller stages from now on, or none')
  await expect(headline(weak)).toHaveText('Waiting for a run')
  const needed = `Stage 1 of 1 needs: too much for this device ${mebibytes(needs(large))}`
  await expect(panel.getByRole('row', { name: needed })).toBeVisible()
  await expect.poll(async () => (await skein.api.run(runId)).detail).toContain('Nobody here can hold it')

  const strong = await skein.volunteer()
  const { holders, detail } = await skein.follow(runId)
  expect(detail.state).toBe('finished')
  expect(holders.size).toBeLessThanOrEqual(2)
  await strong.context().close()

  const { detail: next } = await skein.follow(await skein.launch('small enough', small))
  expect(next.state).toBe('finished')
  await expect(headline(weak)).toHaveText('Waiting for a run')
})
