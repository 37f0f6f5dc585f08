/** Proves the relay against real WebSockets: who may meet there, that bytes come whole, and that its caps hold. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { createTokens } from '../../../server/control/tokens.ts'
import { attachRelay, type Relay, type RelayOptions } from '../../../server/signalling/relay.ts'
import { RELAY_CLOSE } from '../../../src/protocol/signalling.ts'

const tokens = createTokens(new Uint8Array(32).fill(1))
const wide = { bytesPerSecond: 1e9, bytesPerDay: 1e12 }
let server: Server
let relay: Relay
let origin: string
const sockets: WebSocket[] = []

async function serve(limits: Partial<RelayOptions['limits']> = {}) {
  server = createServer()
  relay = attachRelay(server, { nodeOf: tokens.nodeOf, limits: { pair: wide, all: wide, ...limits } })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
}

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.terminate()
  relay.close()
  server.close()
})

async function come(id: string, to: string, token = tokens.issue(id, 'd', 's')) {
  const socket = new WebSocket(`${origin}/relay?id=${id}&to=${to}&token=${token}`)
  sockets.push(socket)
  const heard: (string | Buffer)[] = []
  socket.on('message', (data, binary) => heard.push(binary ? (data as Buffer) : String(data)))
  const closed = new Promise<number>((resolve) => socket.on('close', resolve))
  await once(socket, 'open')
  return { socket, heard, closed, bytes: () => heard.reduce((sum, data) => sum + data.length, 0) }
}

it('joins two nodes that name each other, and keeps what the first said before the other came', async () => {
  await serve()
  const a = await come('a', 'b')
  a.socket.send('early')
  const stranger = await come('c', 'b')
  stranger.socket.send('not for b')
  const b = await come('b', 'a')
  b.socket.send(Buffer.from([1, 2, 3]))
  await expect.poll(() => b.heard).toEqual(['early'])
  await expect.poll(() => a.heard).toEqual([Buffer.from([1, 2, 3])])
  expect(relay.counts()).toEqual({ pairs: 1, bytes: 8 })
  a.socket.close()
  expect(await b.closed).toBe(RELAY_CLOSE.gone)
})

it('lets nobody in under another’s name, and nobody wait for ever', async () => {
  await serve({ waitMs: 100 })
  expect(await (await come('a', 'b', tokens.issue('c', 'd', 's'))).closed).toBe(RELAY_CLOSE.refused)
  expect(await (await come('a', 'a')).closed).toBe(RELAY_CLOSE.refused)
  expect(await (await come('a', 'b', 'a.d.forged')).closed).toBe(RELAY_CLOSE.refused)
  expect(await (await come('a', 'b')).closed).toBe(RELAY_CLOSE.absent)
})

it('puts a newer connection of a pair in the place of the older one', async () => {
  await serve()
  const old = await come('a', 'b')
  const b = await come('b', 'a')
  const young = await come('a', 'b')
  expect(await old.closed).toBe(RELAY_CLOSE.replaced)
  expect(await b.closed).toBe(RELAY_CLOSE.gone)
  const again = await come('b', 'a')
  young.socket.send('x')
  await expect.poll(() => again.heard).toEqual(['x'])
})

it('passes on no more in a second than it may, and all of it', async () => {
  await serve({ pair: { bytesPerSecond: 100_000, bytesPerDay: 1e9 } })
  const [a, b] = [await come('a', 'b'), await come('b', 'a')]
  const start = performance.now()
  for (let i = 0; i < 30; i++) a.socket.send(Buffer.alloc(10_000, i))
  await expect.poll(() => b.bytes(), { timeout: 10_000 }).toBe(300_000)
  // A second's worth goes at once.
  expect(performance.now() - start).toBeGreaterThan(1_500)
  expect(b.heard.map((data) => (data as Buffer)[0])).toEqual(Array.from({ length: 30 }, (_, i) => i))
})

it('ends both when their day’s bytes are used up, also for who comes anew, and not others', async () => {
  await serve({ pair: { bytesPerSecond: 1e9, bytesPerDay: 50_000 } })
  const [a, b] = [await come('a', 'b'), await come('b', 'a')]
  for (let i = 0; i < 6; i++) a.socket.send(Buffer.alloc(10_000))
  expect(await Promise.all([a.closed, b.closed])).toEqual([RELAY_CLOSE.spent, RELAY_CLOSE.spent])
  expect(b.bytes()).toBe(50_000)
  expect(await (await come('b', 'a')).closed).toBe(RELAY_CLOSE.spent)
  const [c, d] = [await come('c', 'd'), await come('d', 'c')]
  c.socket.send('x')
  await expect.poll(() => d.heard).toEqual(['x'])
})

it('stops reading one end while the other takes nothing, so that nothing piles up here', async () => {
  await serve({ bufferedBytes: 100_000 })
  const [a, b] = [await come('a', 'b'), await come('b', 'a')]
  b.socket.pause()
  for (let i = 0; i < 400; i++) a.socket.send(Buffer.alloc(100_000))
  await new Promise((resolve) => setTimeout(resolve, 500))
  const stuck = relay.counts().bytes
  await new Promise((resolve) => setTimeout(resolve, 500))
  expect(relay.counts().bytes).toBe(stuck)
  // What the systems' own socket buffers hold, and no more.
  expect(stuck).toBeLessThan(20_000_000)
  expect(a.socket.bufferedAmount).toBeGreaterThan(10_000_000)
  b.socket.resume()
  await expect.poll(() => b.bytes(), { timeout: 20_000 }).toBe(40_000_000)
})

it('refuses a message that is no slice, by its size', async () => {
  await serve()
  const [a, b] = [await come('a', 'b'), await come('b', 'a')]
  a.socket.send(Buffer.alloc(300_000))
  expect(await a.closed).toBe(1009)
  expect(await b.closed).toBe(RELAY_CLOSE.gone)
})
