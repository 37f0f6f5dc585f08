/** Proves the volunteer in real tabs: a software adapter is asked about, one tab works, the profile lasts. */
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { expect, test, type Page } from '@playwright/test'
import { WebSocketServer, type WebSocket } from 'ws'
import { createTokens } from '../../server/control/tokens.ts'
import { checkSessionProof } from '../../server/identity/session.ts'
import { attachBroker, type Broker } from '../../server/signalling/broker.ts'
import { clientMessageSchema, type ClientMessage, type ServerMessage } from '../../src/protocol/control.ts'
import { envelopeSchema, Mailbox } from '../../src/protocol/mailbox.ts'
import { servePage, type ServedPage } from './servePage.ts'

const tokens = createTokens(new Uint8Array(32).fill(4))
let served: ServedPage
let broker: Broker
let control: WebSocketServer
let heard: ClientMessage[] = []
let nodes = 0

test.beforeAll(async () => {
  served = await servePage(path.join(import.meta.dirname, 'volunteer'))
  broker = attachBroker(served.server, tokens)
  control = new WebSocketServer({ noServer: true })
  served.server.on('upgrade', (request, stream, head) => {
    if (request.url !== '/control') return
    control.handleUpgrade(request, stream, head, (socket) => greet(socket))
  })
})

test.afterAll(async () => {
  broker.close()
  for (const socket of control.clients) socket.terminate()
  control.close()
  await served.close()
})

test.beforeEach(() => {
  heard = []
})

/** A server that has no run: it welcomes a node and says why it waits. */
function greet(socket: WebSocket) {
  const mailbox = new Mailbox<ServerMessage, ClientMessage>({ wire: 'ordered' })
  const say = (message: ServerMessage) => socket.send(JSON.stringify(mailbox.post(message, performance.now())))
  const nonce = randomBytes(32).toString('hex')
  socket.send(JSON.stringify({ type: 'challenge', nonce } satisfies ServerMessage))
  socket.once('message', (first) => {
    const hello = clientMessageSchema.parse(JSON.parse(String(first)))
    if (hello.type !== 'hello') throw new Error(`Expected a hello, got ${hello.type}`)
    const asked = { nonce, audience: new URL(served.origin).host }
    expect(checkSessionProof(hello.deviceId, hello.proof, asked)).toBeNull()
    heard.push(hello)
    const nodeId = `n${(nodes += 1)}`
    const session = { resumed: false, received: 0, token: tokens.issue(nodeId, hello.deviceId, 'session') }
    const welcome = { type: 'welcome', nodeId, ...session, heartbeatMs: 1000, iceServers: [] } satisfies ServerMessage
    socket.send(JSON.stringify(welcome))
    say({ type: 'standby', reason: 'No run needs this device yet.' })
    socket.on('message', (data) => {
      for (const message of mailbox.receive(fromNode.parse(JSON.parse(String(data))), performance.now())) {
        heard.push(message)
        if (message.type === 'resume') say({ type: 'standby', reason: 'Welcome back.' })
      }
    })
  })
}
const fromNode = envelopeSchema(clientMessageSchema)

const phase = (page: Page) => page.evaluate(() => window.volunteer.snapshot().phase)
const start = (page: Page, allowSoftware: boolean) =>
  page.evaluate((allowed) => window.volunteer.start({ allowSoftware: allowed }), allowSoftware)
const hellos = () => heard.filter((message) => message.type === 'hello')

test('a software adapter is used only by the person’s word, and then it waits, pauses and leaves', async ({ page }) => {
  await page.goto(served.origin)
  expect(await phase(page)).toEqual({ name: 'idle' })
  await start(page, false)
  await expect.poll(() => phase(page).then((p) => p.name)).not.toBe('checking')
  const { adapter } = await page.evaluate(() => window.volunteer.snapshot())
  expect(adapter).not.toBeNull()
  if (adapter!.software) {
    expect(await phase(page)).toMatchObject({ name: 'blocked', error: { code: 'gpu.software_adapter' } })
    expect(hellos()).toHaveLength(0)
    await start(page, true)
  }
  await expect.poll(() => phase(page)).toEqual({ name: 'waiting', reason: 'No run needs this device yet.' })
  await expect.poll(() => broker.connections()).toBe(1)
  expect(hellos()[0]).toMatchObject({ kind: 'browser', adapter })

  await page.evaluate(() => window.volunteer.pause())
  await expect.poll(() => heard.map((m) => m.type)).toContain('pause')
  expect(await phase(page)).toEqual({ name: 'paused' })
  await page.evaluate(() => window.volunteer.resume())
  await expect.poll(() => phase(page)).toEqual({ name: 'waiting', reason: 'Welcome back.' })

  await page.evaluate(() => window.volunteer.stop())
  await expect.poll(() => heard.map((m) => m.type)).toContain('leaving')
  await expect.poll(() => broker.connections()).toBe(0)
  expect(await phase(page)).toEqual({ name: 'stopped' })
})

test('two tabs of a profile: one works, the other says so and takes over as the same device', async ({ browser }) => {
  const profile = await browser.newContext()
  const [first, second] = [await profile.newPage(), await profile.newPage()]
  for (const tab of [first, second]) await tab.goto(`${served.origin}/?adapter=software`)
  await first.evaluate(() => window.volunteer.start())
  await expect.poll(() => phase(first).then((p) => p.name)).toBe('waiting')
  await second.evaluate(() => window.volunteer.start())
  await expect.poll(() => phase(second).then((p) => p.name)).toBe('otherTab')
  expect(hellos()).toHaveLength(1)

  await first.close()
  await expect.poll(() => phase(second).then((p) => p.name), { timeout: 20_000 }).toBe('waiting')
  const devices = hellos().map((message) => message.type === 'hello' && message.deviceId)
  expect(devices).toHaveLength(2)
  expect(devices[1]).toBe(devices[0])

  const stranger = await (await browser.newContext()).newPage()
  await stranger.goto(`${served.origin}/?adapter=software`)
  await stranger.evaluate(() => window.volunteer.start())
  await expect.poll(() => hellos().length, { timeout: 20_000 }).toBe(3)
  expect(hellos().at(-1)).not.toMatchObject({ deviceId: devices[0] })
  await stranger.context().close()
  await profile.close()
})

test('a profile from before there were keys gets one, which no script can read', async ({ browser }) => {
  const profile = await browser.newContext()
  const page = await profile.newPage()
  // Asked for first, the database is as an older page would have left it.
  await page.addInitScript(() => {
    const opening = indexedDB.open('skein', 1)
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore('contribution')
      opening.result.createObjectStore('profile').put('0c1f…-a-random-name', 'deviceId')
    }
    opening.onsuccess = () => opening.result.close()
  })
  await page.goto(`${served.origin}/?adapter=software`)
  await page.evaluate(() => window.volunteer.start())
  await expect.poll(() => hellos().length, { timeout: 20_000 }).toBe(1)
  const kept = await page.evaluate(async () => {
    const opening = indexedDB.open('skein', 1)
    await new Promise((resolve) => (opening.onsuccess = resolve))
    const store = opening.result.transaction('profile').objectStore('profile')
    const [identity, old] = [store.get('identity'), store.get('deviceId')]
    await new Promise((resolve) => (old.onsuccess = resolve))
    const { id, privateKey } = identity.result as { id: string; privateKey: CryptoKey }
    const read = await crypto.subtle.exportKey('pkcs8', privateKey).then(
      () => true,
      () => false,
    )
    return { id, extractable: privateKey.extractable, read, old: (old.result as unknown) ?? null }
  })
  expect(kept).toMatchObject({ extractable: false, read: false, old: null })
  expect(hellos()[0]).toMatchObject({ deviceId: kept.id })
  await profile.close()
})

test('a lost control socket is said and redialled', async ({ browser }) => {
  const page = await (await browser.newContext()).newPage()
  await page.goto(`${served.origin}/?adapter=software`)
  await page.evaluate(() => window.volunteer.start())
  await expect.poll(() => phase(page).then((p) => p.name)).toBe('waiting')
  for (const socket of control.clients) socket.terminate()
  await expect.poll(() => page.evaluate(() => window.phases)).toContain('reconnecting')
  await expect.poll(() => phase(page).then((p) => p.name), { timeout: 20_000 }).toBe('waiting')
  expect(hellos()).toHaveLength(2)
  await page.context().close()
})

test('a stage Worker that fails is said, and started again', async ({ browser }) => {
  const page = await (await browser.newContext()).newPage()
  await page.goto(`${served.origin}/?adapter=software`)
  await page.context().route('**/assets/worker*', (route) => route.abort())
  await page.evaluate(() => window.volunteer.start())
  await expect.poll(() => phase(page)).toMatchObject({ name: 'lostDevice', error: { code: 'stage.crashed' } })
  await page.context().unroute('**/assets/worker*')
  await expect.poll(() => phase(page).then((p) => p.name), { timeout: 20_000 }).toBe('waiting')
  await page.context().close()
})
