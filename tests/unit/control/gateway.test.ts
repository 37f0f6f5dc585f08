/** Owns the proof that the control socket admits only those who speak its language, and says to others what is wrong. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { attachControl, CONTROL_PATH, GATEWAY_LIMITS, type Gateway } from '../../../server/control/gateway.ts'
import { createTokens } from '../../../server/control/tokens.ts'
import { MAX_CONTROL_BYTES, serverMessageSchema, type ServerMessage } from '../../../src/protocol/control.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'

const hello = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  deviceId: 'device-1',
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
}

const tokens = createTokens(new Uint8Array(32).fill(7))
let server: Server
let gateway: Gateway
let told: string[]

beforeEach(async () => {
  told = []
  server = createServer()
  gateway = attachControl(server, {
    tokens,
    heartbeatMs: 2000,
    iceServers: [],
    joined: (id, { deviceId }) => told.push(`joined ${id} ${deviceId}`),
    message: (id, { type }) => told.push(`${type} ${id}`),
    left: (id) => told.push(`left ${id}`),
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})

afterEach(async () => {
  gateway.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

/** A client that keeps what it was told, and how it ended. */
function dial() {
  const { port } = server.address() as AddressInfo
  const socket = new WebSocket(`ws://127.0.0.1:${port}${CONTROL_PATH}`)
  const received: ServerMessage[] = []
  const waiting: (() => void)[] = []
  socket.on('message', (data) => {
    received.push(serverMessageSchema.parse(JSON.parse(String(data))))
    waiting.splice(0).forEach((wake) => wake())
  })
  socket.on('error', () => {})
  const closed = new Promise<number>((resolve) => socket.on('close', resolve))
  const opened = new Promise<void>((resolve) => socket.on('open', () => resolve()))
  return {
    socket,
    closed,
    async say(message: unknown) {
      await opened
      socket.send(typeof message === 'string' ? message : JSON.stringify(message))
    },
    async next(): Promise<ServerMessage> {
      while (received.length === 0) await new Promise<void>((resolve) => waiting.push(resolve))
      return received.shift()!
    },
  }
}

async function admitted() {
  const client = dial()
  await client.say(hello)
  const welcome = await client.next()
  if (welcome.type !== 'welcome') throw new Error(`Expected a welcome, got ${JSON.stringify(welcome)}`)
  return { ...client, nodeId: welcome.nodeId, token: welcome.token }
}

async function rejection(message: unknown) {
  const client = dial()
  await client.say(message)
  const answer = await client.next()
  expect(answer.type).toBe('rejected')
  expect(await client.closed).toBe(1008)
  return answer.type === 'rejected' ? answer.error : null
}

test('a node is welcomed with an id of the server’s and a token that proves it', async () => {
  const { nodeId, token, say, socket, closed } = await admitted()
  expect(tokens.nodeOf(token)).toBe(nodeId)
  await say({ type: 'pause' })
  await expect.poll(() => told).toContain(`pause ${nodeId}`)
  socket.close()
  await closed
  await expect.poll(() => told.at(-1)).toBe(`left ${nodeId}`)
  expect(told[0]).toBe(`joined ${nodeId} device-1`)
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

test('a message over the size limit ends the connection', async () => {
  const { say, closed, nodeId } = await admitted()
  await say(JSON.stringify({ type: 'pause', padding: 'x'.repeat(MAX_CONTROL_BYTES) }))
  expect(await closed).toBe(1009)
  await expect.poll(() => told.at(-1)).toBe(`left ${nodeId}`)
})

test('a flood of messages is cut off', async () => {
  const { say, closed, next } = await admitted()
  for (let i = 0; i < 2 * GATEWAY_LIMITS.messagesPerSecond; i++) await say({ type: 'pause' })
  expect(await next()).toMatchObject({ type: 'rejected', error: { code: 'control.too_fast' } })
  expect(await closed).toBe(1008)
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
