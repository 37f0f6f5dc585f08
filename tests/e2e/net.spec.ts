/** Proves in real browsers that Workers exchange frames intact, by transferred and by forwarded channels, and redial. */
import path from 'node:path'
import { expect, test, type Page } from '@playwright/test'
import { createTokens } from '../../server/control/tokens.ts'
import { attachBroker, type Broker } from '../../server/signalling/broker.ts'
import { cutFrame, SLICE_HEADER_BYTES } from '../../src/net/slicing.ts'
import { servePage, type ServedPage } from './servePage.ts'

const tokens = createTokens(new Uint8Array(32).fill(3))
/** 20 MB in frames that are small, odd and large. */
const sizes = [1, 57, 100_000, 1_048_577, 6_000_000, 12_851_365]
let served: ServedPage
let broker: Broker

test.beforeAll(async () => {
  served = await servePage(path.join(import.meta.dirname, 'net'))
  broker = attachBroker(served.server, tokens)
})

test.afterAll(async () => {
  broker.close()
  await served.close()
})

async function join(page: Page, nodeId: string, forward: boolean) {
  await page.goto(served.origin)
  const identity = { nodeId, token: tokens.issue(nodeId, 'device', 'session'), iceServers: [] }
  await page.evaluate(([id, f]) => window.begin(id, f), [identity, forward] as const)
}

const setPartners = (page: Page, ids: string[]) => page.evaluate((p) => window.probe.setPartners(p), ids)
const opened = (page: Page, nodeId: string) =>
  expect.poll(() => page.evaluate((id) => window.probe.isOpen(id), nodeId), { timeout: 30_000 }).toBe(true)
const sendByte = (page: Page, nodeId: string) => page.evaluate((id) => window.probe.sendByte(id), nodeId)
const arrived = (page: Page) => page.evaluate(() => window.probe.arrived())

for (const [name, forwardA, forwardB] of [
  ['transferred channels', false, false],
  ['a channel the page forwards, at both ends', true, true],
  ['one end transferred, the other forwarded', false, true],
] as const) {
  test(`20 MB go both ways between Workers: ${name}`, async ({ browser }) => {
    const [a, b] = [await (await browser.newContext()).newPage(), await (await browser.newContext()).newPage()]
    await Promise.all([join(a, 'node-a', forwardA), join(b, 'node-b', forwardB)])
    await Promise.all([setPartners(a, ['node-b']), setPartners(b, ['node-a'])])
    await Promise.all([opened(a, 'node-b'), opened(b, 'node-a')])

    const [fromA, fromB] = await Promise.all([
      a.evaluate((s) => window.probe.sendRandom('node-b', s), sizes),
      b.evaluate((s) => window.probe.sendRandom('node-a', s), sizes),
    ])
    await expect.poll(async () => (await arrived(a)).length).toBe(sizes.length)
    await expect.poll(async () => (await arrived(b)).length).toBe(sizes.length)
    // Whole and unbent; over several connections a small frame may overtake a large one.
    const bySize = (frames: { bytes: number }[]) => frames.toSorted((x, y) => x.bytes - y.bytes)
    expect(bySize(await arrived(b))).toEqual(sizes.map((bytes, i) => ({ from: 'node-a', bytes, hash: fromA[i] })))
    expect(bySize(await arrived(a))).toEqual(sizes.map((bytes, i) => ({ from: 'node-b', bytes, hash: fromB[i] })))

    // Each slice has its header, and next to nothing is sent twice.
    const sliced = sizes.reduce((sum, n) => sum + n + SLICE_HEADER_BYTES * cutFrame(0, new Uint8Array(n)).length, 0)
    for (const page of [a, b]) {
      await expect.poll(() => page.evaluate(() => window.probe.totals().then((t) => t.link))).toBe('direct')
      const totals = await page.evaluate(() => window.probe.totals())
      expect(totals.upBytes).toBeGreaterThanOrEqual(sliced)
      expect(totals.upBytes).toBeLessThan(sliced * 1.0005)
      expect(totals.downBytes).toBe(totals.upBytes)
      await page.context().close()
    }
  })
}

test('a lost link is told, and dialled again when the partner comes back', async ({ browser }) => {
  const [a, b] = [await (await browser.newContext()).newPage(), await (await browser.newContext()).newPage()]
  await Promise.all([join(a, 'node-a', false), join(b, 'node-b', false)])
  await Promise.all([setPartners(a, ['node-b']), setPartners(b, ['node-a'])])
  await Promise.all([opened(a, 'node-b'), opened(b, 'node-a')])

  await b.close()
  await expect.poll(() => a.evaluate(() => window.probe.lost()), { timeout: 20_000 }).toEqual(['node-b'])
  expect(await a.evaluate(() => window.probe.isOpen('node-b'))).toBe(false)

  const again = await (await browser.newContext()).newPage()
  await join(again, 'node-b', false)
  await setPartners(again, ['node-a'])
  await Promise.all([opened(a, 'node-b'), opened(again, 'node-a')])
  const [hash] = await a.evaluate(() => window.probe.sendRandom('node-b', [300_000]))
  await expect.poll(() => arrived(again)).toEqual([{ from: 'node-a', bytes: 300_000, hash }])
  for (const page of [a, again]) await page.context().close()
})

test('links outlive the broker, and its return lets new ones be made', async ({ browser }) => {
  const [a, b] = [await (await browser.newContext()).newPage(), await (await browser.newContext()).newPage()]
  await Promise.all([join(a, 'node-a', false), join(b, 'node-b', false)])
  await Promise.all([setPartners(a, ['node-b']), setPartners(b, ['node-a'])])
  await Promise.all([opened(a, 'node-b'), opened(b, 'node-a')])
  broker.close()
  const [hash] = await b.evaluate(() => window.probe.sendRandom('node-a', [300_000]))
  await expect.poll(() => arrived(a)).toEqual([{ from: 'node-b', bytes: 300_000, hash }])
  expect(await a.evaluate(() => window.probe.lost())).toEqual([])

  broker = attachBroker(served.server, tokens)
  const c = await (await browser.newContext()).newPage()
  await join(c, 'node-c', false)
  await Promise.all([setPartners(a, ['node-b', 'node-c']), setPartners(c, ['node-a'])])
  await Promise.all([opened(a, 'node-c'), opened(c, 'node-a')])
  for (const page of [a, b, c]) await page.context().close()
})

test('two nodes with something to say to each other dial at once, without a hint, and nothing is lost', async ({
  browser,
}) => {
  const [a, b] = [await (await browser.newContext()).newPage(), await (await browser.newContext()).newPage()]
  await Promise.all([join(a, 'node-a', false), join(b, 'node-b', false)])
  const some = [300_000, 1, 57, 2_000_000]
  // The greater id lets the other dial first: both dials cross when that one begins about so much later.
  const fromB = b.evaluate((s) => window.probe.sendRandom('node-a', s), some)
  await a.waitForTimeout(1_000)
  const fromA = a.evaluate((s) => window.probe.sendRandom('node-b', s), some)
  const [hashesA, hashesB] = await Promise.all([fromA, fromB])
  await expect.poll(async () => (await arrived(a)).map(({ hash }) => hash).sort()).toEqual(hashesB.sort())
  await expect.poll(async () => (await arrived(b)).map(({ hash }) => hash).sort()).toEqual(hashesA.sort())
  for (const page of [a, b]) {
    expect(await page.evaluate(() => window.probe.lost())).toEqual([])
    await page.context().close()
  }
})

test('a partner that never comes ends in net.no_route, a broker that refuses in net.broker_unreachable', async ({
  browser,
}) => {
  const a = await (await browser.newContext()).newPage()
  await join(a, 'node-a', false)
  expect(await sendByte(a, 'node-z')).toBe('net.no_route')

  await a.goto(served.origin)
  await a.evaluate((id) => window.begin(id, false), { nodeId: 'node-a', token: 'node-a.1.forged', iceServers: [] })
  expect(await sendByte(a, 'node-b')).toBe('net.broker_unreachable')
  await a.context().close()
})
