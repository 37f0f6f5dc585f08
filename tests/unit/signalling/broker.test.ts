/** Proves the broker against real WebSockets: who may enter, what is relayed, and what a hostile peer cannot do. */
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { createTokens } from '../../../server/control/tokens.ts'
import { attachBroker, type Broker, type BrokerOptions } from '../../../server/signalling/broker.ts'
import { BROKER_CLOSE } from '../../../src/protocol/signalling.ts'

const tokens = createTokens(new Uint8Array(32).fill(1))
const offer = (dst: string, connectionId = 'dc_1') => ({
  type: 'OFFER',
  dst,
  payload: {
    sdp: { type: 'offer', sdp: 'v=0' },
    type: 'data',
    connectionId,
    label: 'skein',
    reliable: true,
    serialization: 'skein',
    extra: 'is stripped',
  },
})
const candidate = (dst: string) => ({
  type: 'CANDIDATE',
  dst,
  payload: {
    candidate: { candidate: 'candidate:1', sdpMid: '0', sdpMLineIndex: 0 },
    type: 'data',
    connectionId: 'dc_1',
  },
})

let server: Server
let broker: Broker
let origin: string
const opened: Client[] = []

interface Client {
  socket: WebSocket
  /** The next message, waiting for it. */
  next(): Promise<Record<string, unknown>>
  say(message: unknown): void
  closed: Promise<number>
}

async function serve(options: Partial<BrokerOptions> = {}) {
  server = createServer()
  broker = attachBroker(server, { nodeOf: tokens.nodeOf, ...options })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function connect(id: string, token = tokens.issue(id, 'd', 's'), key = 'skein'): Promise<Client> {
  const socket = new WebSocket(`${origin}/peer/peerjs?key=${key}&id=${id}&token=${token}&version=1.5.5`)
  const inbox: Record<string, unknown>[] = []
  const waiters: ((message: Record<string, unknown>) => void)[] = []
  socket.on('message', (data) => {
    const message = JSON.parse(String(data)) as Record<string, unknown>
    const waiter = waiters.shift()
    if (waiter) waiter(message)
    else inbox.push(message)
  })
  socket.on('error', () => {})
  const client: Client = {
    socket,
    next: () => new Promise((resolve) => (inbox.length > 0 ? resolve(inbox.shift()!) : waiters.push(resolve))),
    say: (message) => socket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    closed: new Promise((resolve) => socket.on('close', (code) => resolve(code))),
  }
  opened.push(client)
  await once(socket, 'open')
  return client
}

async function join(id: string): Promise<Client> {
  const client = await connect(id)
  expect(await client.next()).toEqual({ type: 'OPEN' })
  return client
}

beforeEach(() => serve())
afterEach(() => {
  for (const client of opened.splice(0)) client.socket.terminate()
  broker.close()
  server.close()
})

describe('the broker', () => {
  it('relays an offer, the answer and candidates, names the sender and strips what it does not know', async () => {
    const [a, b] = [await join('a'), await join('b')]
    expect(broker.connections()).toBe(2)
    a.say({ ...offer('b'), src: 'someone-else' })
    const received = await b.next()
    expect(received).toMatchObject({ type: 'OFFER', src: 'a', payload: { connectionId: 'dc_1', reliable: true } })
    expect(received.payload).not.toHaveProperty('extra')
    b.say({
      type: 'ANSWER',
      dst: 'a',
      payload: { sdp: { type: 'answer', sdp: 'v=0' }, type: 'data', connectionId: 'dc_1' },
    })
    expect(await a.next()).toMatchObject({ type: 'ANSWER', src: 'b' })
    a.say({ type: 'HEARTBEAT' })
    a.say(candidate('b'))
    expect(await b.next()).toMatchObject({ type: 'CANDIDATE', src: 'a', payload: { candidate: { sdpMid: '0' } } })
  })

  it('refuses a token of another node, a forged one and another key, and says so in PeerJS words', async () => {
    for (const client of [
      await connect('a', tokens.issue('b', 'd', 's')),
      await connect('a', 'a.b.c'),
      await connect('a', tokens.issue('a', 'd', 's'), 'peerjs'),
    ]) {
      expect(await client.next()).toMatchObject({ type: 'ERROR', payload: { msg: expect.stringContaining('token') } })
      expect(await client.closed).toBe(BROKER_CLOSE.refused)
    }
    expect(broker.connections()).toBe(0)
  })

  it('keeps an offer and its candidates for a peer that comes a moment later', async () => {
    const a = await join('a')
    a.say(offer('b'))
    a.say(candidate('b'))
    a.say({ type: 'HEARTBEAT' })
    const b = await join('b')
    expect(await b.next()).toMatchObject({ type: 'OFFER', src: 'a' })
    expect(await b.next()).toMatchObject({ type: 'CANDIDATE', src: 'a' })
  })

  it('tells EXPIRE when the peer does not come, once per offer', async () => {
    broker.close()
    server.close()
    await serve({ limits: { waitMs: 20 } })
    const a = await join('a')
    a.say(offer('nobody'))
    a.say(candidate('nobody'))
    expect(await a.next()).toEqual({ type: 'EXPIRE', src: 'nobody', dst: 'a' })
    const late = await join('nobody')
    a.say(offer('nobody', 'dc_2'))
    expect(await late.next()).toMatchObject({ payload: { connectionId: 'dc_2' } })
  })

  it('tells EXPIRE at once when no more can wait', async () => {
    broker.close()
    server.close()
    await serve({ limits: { waitingPerPeer: 2 } })
    const a = await join('a')
    for (let i = 0; i < 3; i++) a.say(offer('nobody', `dc_${i}`))
    expect(await a.next()).toMatchObject({ type: 'EXPIRE', src: 'nobody' })
  })

  it('lets a newer socket of the same node take over', async () => {
    const [older, b] = [await join('a'), await join('b')]
    const newer = await join('a')
    expect(await older.closed).toBe(BROKER_CLOSE.replaced)
    b.say(offer('a'))
    expect(await newer.next()).toMatchObject({ type: 'OFFER', src: 'b' })
    expect(broker.connections()).toBe(2)
  })

  it('closes on malformed, binary, oversized and too many messages, and the others go on', async () => {
    const b = await join('b')
    const hostile: [(client: Client) => void, number][] = [
      [(c) => c.say('{'), BROKER_CLOSE.malformed],
      [(c) => c.say({ type: 'OPEN' }), BROKER_CLOSE.malformed],
      [(c) => c.say({ ...offer('b'), dst: 'x'.repeat(65) }), BROKER_CLOSE.malformed],
      [(c) => c.socket.send(new Uint8Array(10)), BROKER_CLOSE.malformed],
      [(c) => c.say('x'.repeat(64 * 1024 + 1)), 1009],
      [(c) => Array.from({ length: 2100 }, () => c.say({ type: 'HEARTBEAT' })), BROKER_CLOSE.tooFast],
    ]
    for (const [attack, code] of hostile) {
      const client = await join('a')
      attack(client)
      expect(await client.closed).toBe(code)
    }
    const a = await join('a')
    a.say(offer('b'))
    expect(await b.next()).toMatchObject({ type: 'OFFER', src: 'a' })
  })

  it('cuts off a peer that stops reading', async () => {
    broker.close()
    server.close()
    await serve({ limits: { bufferedBytes: 256 * 1024, burst: 1e6 } })
    const [a, deaf] = [await join('a'), await join('deaf')]
    deaf.socket.pause()
    const big = { ...offer('deaf') }
    big.payload = { ...big.payload, sdp: { type: 'offer', sdp: 'x'.repeat(50_000) } }
    while (broker.connections() === 2) {
      for (let i = 0; i < 20; i++) a.say(big)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(broker.connections()).toBe(1)
  })

  it('refuses one peer more than it can hold, and cuts off silent ones', async () => {
    broker.close()
    server.close()
    let time = 0
    await serve({ limits: { connections: 1, waitMs: 10 }, now: () => time })
    const a = await join('a')
    const b = await connect('b')
    expect(await b.closed).toBe(BROKER_CLOSE.full)
    a.socket.pause()
    time += 80_000
    a.socket.resume()
    expect(await a.closed).toBe(1006)
  })

  it('leaves other WebSockets of the same server alone', async () => {
    const other = new WebSocketServer({ noServer: true })
    server.on('upgrade', (request, stream, head) => {
      if (request.url !== '/control') return
      other.handleUpgrade(request, stream, head, (socket) => socket.send('control'))
    })
    const socket = new WebSocket(`${origin}/control`)
    const [data] = (await once(socket, 'message')) as [Buffer]
    expect(String(data)).toBe('control')
    socket.terminate()
    const a = await join('a')
    expect(a.socket.extensions).toBe('')
  })
})
