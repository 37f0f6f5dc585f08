/** Owns the proof that sessions survive their sockets, and that only those are admitted who speak the socket's language. */
import { iceSource } from '../../../server/signalling/iceServers.ts'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { attachControl, CONTROL_PATH, GATEWAY_LIMITS, type Gateway } from '../../../server/control/gateway.ts'
import { createTokens } from '../../../server/control/tokens.ts'
import { MAX_CONTROL_BYTES, serverMessageSchema, type ServerMessage } from '../../../src/protocol/control.ts'
import { envelopeSchema, Mailbox } from '../../../src/protocol/mailbox.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'
import { testDevice } from '../deviceKeys.ts'

const device = testDevice(1)
const hello = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  deviceId: device.id,
  kind: 'browser',
  adapter: {
    vendor: 'v',
    architecture: 'a',
    description: 'd',
    software: true,
    maxBufferSize: 1,
    maxStorageBufferBindingSize: 1,
  },
  memoryBytes: 1e9,
  session: null as { token: string; received: number } | null,
  holding: null,
}

const tokens = createTokens(new Uint8Array(32).fill(7))
let server: Server
let gateway: Gateway
let told: string[]
let hosts: string[]

const BARRED = testDevice(9)
const REVOKED = { code: 'identity.device_revoked', message: 'Revoked.', remedy: 'None.' }

async function open(names: string[] = []) {
  told = []
  hosts = names
  server = createServer()
  gateway = attachControl(server, {
    tokens,
    heartbeatMs: 2000,
    ice: iceSource([], null),
    audience: { hosts, trustProxy: false },
    barred: (id) => Promise.resolve(id === BARRED.id ? REVOKED : null),
    joined: (id, { deviceId }) => told.push(`joined ${id} ${deviceId}`),
    message: (id, { type }) => told.push(`${type} ${id}`),
    detached: (id) => told.push(`detached ${id}`),
    resumed: (id) => told.push(`resumed ${id}`),
    unresponsive: (id) => told.push(`unresponsive ${id}`),
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
}

async function shut() {
  gateway.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}

beforeEach(() => open())
afterEach(shut)

const envelope = envelopeSchema(serverMessageSchema)

type Box = Mailbox<unknown, ServerMessage>

/** A client that keeps what it was told, and how it ended; it acknowledges when it speaks, and otherwise only on `answer`. */
function dial(mailbox: Box = new Mailbox({ wire: 'ordered' }), headers: Record<string, string> = {}) {
  const { port } = server.address() as AddressInfo
  const socket = new WebSocket(`ws://127.0.0.1:${port}${CONTROL_PATH}`, { headers })
  const received: ServerMessage[] = []
  const { promise: challenged, resolve: challenge } = Promise.withResolvers<string>()
  const waiting: (() => void)[] = []
  socket.on('message', (data) => {
    const value: unknown = JSON.parse(String(data))
    const raw = serverMessageSchema.safeParse(value).data
    if (raw?.type === 'challenge') return challenge(raw.nonce)
    received.push(...(raw ? [raw] : mailbox.receive(envelope.parse(value), 0)))
    waiting.splice(0).forEach((wake) => wake())
  })
  socket.on('error', () => {})
  const closed = new Promise<number>((resolve) => socket.on('close', resolve))
  const opened = new Promise<void>((resolve) => socket.on('open', () => resolve()))
  return {
    socket,
    closed,
    mailbox,
    challenged,
    async raw(message: unknown) {
      await opened
      socket.send(typeof message === 'string' ? message : JSON.stringify(message))
    },
    /** The proof of `by` for this socket, unless it is made for another one. */
    async proof(by = device, nonce?: string, audience = `127.0.0.1:${port}`) {
      return by.prove(audience, nonce ?? (await challenged))
    },
    async say(message: unknown) {
      await this.raw(mailbox.post(message, 0))
    },
    async answer() {
      await this.raw({ a: mailbox.received })
    },
    async next(): Promise<ServerMessage> {
      while (received.length === 0) await new Promise<void>((resolve) => waiting.push(resolve))
      return received.shift()!
    },
  }
}

async function admitted(session: typeof hello.session = null, mailbox?: Box) {
  const client = dial(mailbox)
  await client.raw({ ...hello, proof: await client.proof(), session })
  const welcome = await client.next()
  if (welcome.type !== 'welcome') throw new Error(`Expected a welcome, got ${JSON.stringify(welcome)}`)
  return Object.assign(client, { nodeId: welcome.nodeId, token: welcome.token, welcome })
}

/** Ends the socket without a word, as a network does. */
async function cut(client: Awaited<ReturnType<typeof admitted>>) {
  client.socket.terminate()
  await expect.poll(() => told.at(-1)).toBe(`detached ${client.nodeId}`)
}

const standby = (reason: string): ServerMessage => ({ type: 'standby', reason })

async function rejection(message: unknown) {
  const client = dial()
  await client.raw(typeof message === 'object' ? { proof: await client.proof(), ...message } : message)
  const answer = await client.next()
  expect(answer.type).toBe('rejected')
  expect(await client.closed).toBe(1008)
  return answer.type === 'rejected' ? answer.error : null
}

test('a node is welcomed with an id of the server’s and a token that proves it', async () => {
  const client = await admitted()
  const { nodeId, token } = client
  expect(tokens.nodeOf(token)).toBe(nodeId)
  await client.say({ type: 'pause' })
  await expect.poll(() => told).toContain(`pause ${nodeId}`)
  client.socket.close()
  await client.closed
  await expect.poll(() => told.at(-1)).toBe(`detached ${nodeId}`)
  expect(told[0]).toBe(`joined ${nodeId} ${device.id}`)
})

test('what the server sends reaches its node and no other', async () => {
  const one = await admitted()
  const other = await admitted()
  gateway.send(other.nodeId, { type: 'standby', reason: 'for the other' })
  gateway.send(one.nodeId, { type: 'standby', reason: 'for the one' })
  expect(await one.next()).toEqual({ type: 'standby', reason: 'for the one' })
  expect(await other.next()).toEqual({ type: 'standby', reason: 'for the other' })
})

test('an old client reads that it is old and what to do', async () => {
  const error = await rejection({ type: 'hello', protocol: PROTOCOL_VERSION - 1 })
  expect(error).toMatchObject({ code: 'control.protocol' })
  expect(error!.remedy).toMatch(/reload/i)
})

test.each([
  ['text that is not JSON', '{'],
  ['a message of no known type', { type: 'sudo' }],
  ['a hello that lacks its adapter', { ...hello, adapter: undefined }],
  ['a number that is not finite', { ...hello, memoryBytes: 'Infinity' }],
  ['anything before hello', { type: 'pause' }],
])('%s is refused with a code', async (_name, message) => {
  expect(await rejection(message)).toMatchObject({ code: 'control.invalid' })
  expect(told).toEqual([])
})

type Client = ReturnType<typeof dial>

/** How the gateway answers a hello that `make` writes for a socket. */
async function answerTo(make: (client: Client) => Promise<object>): Promise<ServerMessage> {
  const client = dial()
  await client.raw({ ...hello, ...(await make(client)) })
  return client.next()
}
const other = testDevice(2)

/** The key whose point is the neutral one: a signature that holds for any text needs no secret. */
const NOBODYS = `01${'00'.repeat(31)}`

test.each<[string, string, (client: Client) => Promise<object>]>([
  ['a signature of another device', 'signature', async (c) => ({ proof: await c.proof(other) })],
  ['the name of another device', 'signature', async (c) => ({ deviceId: other.id, proof: await c.proof() })],
  ['an answer to the challenge of another socket', 'challenge', async () => ({ proof: await dial().proof() })],
  [
    'what was signed for another server',
    'audience',
    async (c) => ({ proof: await c.proof(device, undefined, 'evil.example') }),
  ],
  [
    'an answer that names this challenge and signs another',
    'signature',
    async (c) => ({ proof: { ...(await c.proof(device, 'ab'.repeat(32))), nonce: await c.challenged } }),
  ],
  [
    'a key that anybody can sign with',
    'device_key',
    async (c) => ({ deviceId: NOBODYS, proof: { ...(await c.proof()), signature: `${NOBODYS}${'00'.repeat(32)}` } }),
  ],
  ['a device that is barred', 'device_revoked', async (c) => ({ deviceId: BARRED.id, proof: await c.proof(BARRED) })],
])('%s is refused as such', async (_name, code, make) => {
  expect(await answerTo(make)).toMatchObject({ type: 'rejected', error: { code: `identity.${code}` } })
  expect(told).toEqual([])
})

test('a session is gone on with by its own device alone, token or not', async () => {
  const { nodeId, token } = await admitted()
  const session = { token, received: 0 }
  const thief = await answerTo(async (c) => ({ deviceId: other.id, proof: await c.proof(other), session }))
  expect(thief).toMatchObject({ type: 'rejected', error: { code: 'identity.session_device' } })
  expect(await answerTo(async () => ({ proof: other.prove('x', 'ab'.repeat(32)), session }))).toMatchObject({
    error: { code: 'identity.challenge' },
  })
  expect(told).toEqual([`joined ${nodeId} ${device.id}`])
})

test('a server that knows its names takes what is signed for one of them, whatever else it is called by', async () => {
  await shut()
  await open(['skein.example'])
  const answer = await answerTo(async (c) => ({ proof: await c.proof() }))
  expect(answer).toMatchObject({ type: 'rejected', error: { code: 'identity.audience' } })
  const called = dial(undefined, { host: 'Skein.Example:80' })
  await called.raw({ ...hello, proof: await called.proof(device, undefined, 'skein.example') })
  expect(await called.next()).toMatchObject({ type: 'welcome' })
})

test('a device that is expelled loses its sessions, with the reason, and its node counts as away', async () => {
  const one = await admitted()
  const two = await admitted()
  gateway.expel(other.id, REVOKED)
  gateway.expel(device.id, REVOKED)
  for (const client of [one, two]) {
    expect(await client.next()).toEqual({ type: 'rejected', error: REVOKED })
    expect(told).toContain(`detached ${client.nodeId}`)
    expect(await client.closed).toBe(1008)
  }
  expect((await admitted({ token: one.token, received: 0 })).welcome).toMatchObject({ resumed: false })
})

test('a session goes on over another socket: nothing is lost or repeated in either direction', async () => {
  const first = await admitted()
  const { nodeId, token, mailbox } = first
  gateway.send(nodeId, standby('one'))
  expect(await first.next()).toEqual(standby('one'))
  await first.say({ type: 'pause' })
  await expect.poll(() => told).toContain(`pause ${nodeId}`)
  await cut(first)
  // Said while the line is down: the server's, and the node's that was sent into the dead socket.
  gateway.send(nodeId, standby('two'))
  gateway.send(nodeId, standby('three'))
  mailbox.post({ type: 'resume' }, 0)
  const second = await admitted({ token, received: mailbox.received }, mailbox)
  expect(second.welcome).toMatchObject({ nodeId, resumed: true, received: 1 })
  for (const again of mailbox.resumeAt(1, 0)) await second.raw(again)
  expect([await second.next(), await second.next()]).toEqual([standby('two'), standby('three')])
  await expect.poll(() => told.at(-1)).toBe(`resume ${nodeId}`)
  const kinds = ['joined', 'pause', 'detached', 'resumed', 'resume']
  expect(told.map((line) => line.split(' ')[0])).toEqual(kinds)
})

test('a server that was started again knows the node by its token, and starts a new session with it', async () => {
  const { nodeId, token } = await admitted()
  await shut()
  await open()
  const again = await admitted({ token, received: 7 })
  expect(again.welcome).toMatchObject({ nodeId, resumed: false, received: 0 })
  expect(told).toEqual([`joined ${nodeId} ${device.id}`])
  gateway.send(nodeId, standby('anew'))
  expect(await again.next()).toEqual(standby('anew'))
  // Had none of that come: what the node counted in the session before says nothing of this one.
  await cut(again)
  gateway.send(nodeId, standby('never heard'))
  const third = await admitted({ token, received: 2 })
  expect(third.welcome).toMatchObject({ nodeId, resumed: false, received: 0 })
})

test('a token of another secret, or a session whose ends disagree, goes on with nothing', async () => {
  const forged = createTokens(new Uint8Array(32).fill(8)).issue('n0123', device.id, 'session')
  const stranger = await admitted({ token: forged, received: 0 })
  expect(stranger.welcome).toMatchObject({ resumed: false })
  expect(stranger.nodeId).not.toBe('n0123')
  await cut(stranger)
  const { nodeId, token } = stranger
  const again = await admitted({ token, received: 5 })
  expect(again.welcome).toMatchObject({ nodeId, resumed: false, received: 0 })
  expect(told.at(-1)).toBe(`joined ${nodeId} ${device.id}`)
})

test('of two sockets with one session the newer one has it', async () => {
  const first = await admitted()
  const { nodeId, token } = first
  const second = await admitted({ token, received: 0 })
  expect(second.welcome).toMatchObject({ nodeId, resumed: true })
  expect(await first.next()).toMatchObject({ type: 'rejected', error: { code: 'control.replaced' } })
  await first.closed
  gateway.send(nodeId, standby('here'))
  expect(await second.next()).toEqual(standby('here'))
  expect(told).toEqual([`joined ${nodeId} ${device.id}`, `resumed ${nodeId}`])
})

test('a session ends when the orchestrator says so, and when the node says that it leaves', async () => {
  const one = await admitted()
  await cut(one)
  gateway.disconnect(one.nodeId, { code: 'control.silent', message: 'Silent.', remedy: 'None.' })
  expect((await admitted({ token: one.token, received: 0 })).welcome).toMatchObject({ resumed: false })
  const other = await admitted()
  await other.say({ type: 'leaving' })
  await expect.poll(() => told.at(-1)).toBe(`leaving ${other.nodeId}`)
  other.socket.close()
  await other.closed
  expect((await admitted({ token: other.token, received: 0 })).welcome).toMatchObject({ resumed: false })
  expect(told).not.toContain(`detached ${other.nodeId}`)
})

test('what a node says is acknowledged although there is nothing to say to it', async () => {
  const client = await admitted()
  await client.say({ type: 'pause' })
  expect(client.mailbox.pending).toBe(1)
  await expect.poll(() => client.mailbox.pending).toBe(0)
})

test('a node that acknowledges nothing on an open socket is named, once, until it answers', async () => {
  const silent = await admitted()
  const well = await admitted()
  gateway.send(silent.nodeId, { type: 'ping' })
  gateway.send(well.nodeId, { type: 'ping' })
  await well.next()
  await well.answer()
  await expect.poll(() => told, { timeout: 6000 }).toContain(`unresponsive ${silent.nodeId}`)
  await silent.answer()
  expect(told.filter((line) => line.startsWith('unresponsive'))).toHaveLength(1)
})

test('a node that is away is kept so much and no more; then its session ends with a reason', async () => {
  const node = await admitted()
  const reason = 'x'.repeat(300)
  for (let i = 0; i < 4096; i++) gateway.send(node.nodeId, standby(reason))
  expect(told).toHaveLength(1)
  gateway.send(node.nodeId, standby('one too many'))
  expect(told.at(-1)).toBe(`detached ${node.nodeId}`)
  for (let i = 0; i < 4096; i++) await node.next()
  expect(await node.next()).toMatchObject({ type: 'rejected', error: { code: 'control.backlog' } })
  expect((await admitted({ token: node.token, received: 0 })).welcome).toMatchObject({ resumed: false })
})

test.each([
  ['a message outside an envelope', { type: 'pause' }, 'control.invalid'],
  ['an envelope around a message of no known type', { n: 1, a: 0, m: { type: 'sudo' } }, 'control.invalid'],
  ['a gap in the numbers', { n: 2, a: 0, m: { type: 'pause' } }, 'control.sequence'],
  ['an acknowledgement of what was never sent', { a: 3 }, 'control.sequence'],
])('%s ends the connection with a code', async (_name, text, code) => {
  const client = await admitted()
  await client.raw(text)
  expect(await client.next()).toMatchObject({ type: 'rejected', error: { code } })
  expect(await client.closed).toBe(1008)
  expect(told).toEqual([`joined ${client.nodeId} ${device.id}`, `detached ${client.nodeId}`])
})

test('a message over the size limit ends the connection', async () => {
  const client = await admitted()
  await client.raw(JSON.stringify({ type: 'pause', padding: 'x'.repeat(MAX_CONTROL_BYTES) }))
  expect(await client.closed).toBe(1009)
  await expect.poll(() => told.at(-1)).toBe(`detached ${client.nodeId}`)
})

test('a flood of messages is cut off', async () => {
  const client = await admitted()
  for (let i = 0; i < 2 * GATEWAY_LIMITS.messagesPerSecond; i++) await client.say({ type: 'pause' })
  expect(await client.next()).toMatchObject({ type: 'rejected', error: { code: 'control.too_fast' } })
  expect(await client.closed).toBe(1008)
})

test('other upgrades of the same server are left alone', async () => {
  const elsewhere = new Promise<string>((resolve) =>
    server.on('upgrade', (request, socket) => {
      if (request.url === CONTROL_PATH) return
      resolve(request.url!)
      socket.destroy()
    }),
  )
  const { port } = server.address() as AddressInfo
  new WebSocket(`ws://127.0.0.1:${port}/peer/peerjs`).on('error', () => {})
  expect(await elsewhere).toBe('/peer/peerjs')
})
