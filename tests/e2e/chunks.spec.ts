/** Proves in a real browser that weights downloaded once outlive a reload, and that a download goes on where it was. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { expect, test as base, type Page } from '@playwright/test'
import { CHUNK_ELEMENTS, type Chunk } from '../../src/protocol/control.ts'
import { servePage, type ServedPage } from './servePage.ts'

/** A profile on the disk, as a volunteer's: a private window has its files in memory, with times that do not change. */
const test = base.extend({
  context: async ({ playwright, launchOptions, headless }, use) => {
    const profile = await mkdtemp(path.join(os.tmpdir(), 'skein-profile-'))
    const context = await playwright.chromium.launchPersistentContext(profile, { ...launchOptions, headless })
    await use(context)
    await context.close()
    await rm(profile, { recursive: true, force: true })
  },
})

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** Four full chunks and a short one: 16 MiB and a bit. */
const values = Float32Array.from({ length: 4 * CHUNK_ELEMENTS + 5 }, (_, i) => Math.sin(i))
const blobs = new Map<string, Uint8Array>()
const chunks: Chunk[] = []
for (let offset = 0; offset < values.length; offset += CHUNK_ELEMENTS) {
  const bytes = new Uint8Array(values.slice(offset, offset + CHUNK_ELEMENTS).buffer)
  const hash = sha256(bytes)
  blobs.set(hash, bytes)
  chunks.push({ kind: 'parameters', offset, length: bytes.length / 4, hash })
}
const loaded = { hash: sha256(new Uint8Array(values.buffer)), progress: 1 }

let served: ServedPage
let api: Server
let requested: string[] = []
/** Blobs that get no answer. */
let held = new Set<string>()

test.beforeAll(async () => {
  served = await servePage(path.join(import.meta.dirname, 'chunks'))
  api = createServer((request, response) => {
    const hash = request.url!.replace('/blobs/', '')
    requested.push(hash)
    // The browser's own cache keeps nothing: what is there again was kept by the Worker.
    response.setHeader('cache-control', 'no-store').setHeader('access-control-allow-origin', '*')
    if (!held.has(hash)) response.end(blobs.get(hash))
  })
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve))
})

test.afterAll(async () => {
  api.closeAllConnections()
  api.close()
  await served.close()
})

test.beforeEach(() => {
  requested = []
  held = new Set()
})

const apiUrl = () => `http://127.0.0.1:${(api.address() as AddressInfo).port}`
const load = (page: Page) =>
  page.evaluate(([url, list]) => window.chunkProbe.load(url, list), [apiUrl(), chunks] as const)

test('the second load makes no request', async ({ page }) => {
  await page.goto(served.origin)
  expect(await load(page)).toEqual(loaded)
  expect(requested.sort()).toEqual(chunks.map(({ hash }) => hash).sort())
  await expect.poll(() => page.evaluate(() => window.chunkProbe.kept())).toBe(chunks.length)
  await page.reload()
  requested = []
  expect(await load(page)).toEqual(loaded)
  expect(requested).toEqual([])
})

test('a reload in the middle of a download costs only what had not come', async ({ page }) => {
  const missing = [chunks[1]!.hash, chunks[3]!.hash]
  held = new Set(missing)
  await page.goto(served.origin)
  const interrupted = load(page).catch(() => 'reloaded')
  await expect.poll(() => page.evaluate(() => window.chunkProbe.kept())).toBe(chunks.length - 2)
  await page.reload()
  expect(await interrupted).toBe('reloaded')
  requested = []
  held.clear()
  expect(await load(page)).toEqual(loaded)
  expect(requested.sort()).toEqual(missing.sort())
})

test('the browser’s files do what every cache of chunks must do', async ({ page }) => {
  await page.goto(served.origin)
  const { ran, failures } = await page.evaluate(() => window.chunkProbe.runCases())
  expect(failures).toEqual([])
  expect(ran).toBeGreaterThan(0)
})

test('a file that another Worker is just filling hides none of the others', async ({ page }) => {
  await page.goto(served.origin)
  expect(await page.evaluate(() => window.chunkProbe.keptBesideAnother())).toEqual([true, false, true])
})
