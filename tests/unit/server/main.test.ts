/** Owns the proof that the whole server starts, serves its sockets, refuses what it must, and closes in order. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { startServer } from '../../../server/main.ts'
import type { RunningServer } from '../../../server/main.ts'
import { generateCorpus } from '../../../src/formats/corpus.ts'
import { serverMessageSchema } from '../../../src/protocol/control.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import { envelopeSchema, Mailbox } from '../../../src/protocol/mailbox.ts'
import { BROKER_KEY, BROKER_PATH } from '../../../src/protocol/signalling.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'
import { testDevice } from '../deviceKeys.ts'
import { agree, testWallet } from '../identity/wallets.ts'

let folder: string
const running: RunningServer[] = []
const start = async (change: Parameters<typeof startServer>[0] = {}) => {
  const options = { host: '127.0.0.1', port: 0, dataFolder: join(folder, 'data'), logLevel: 'silent' } as const
  const server = await startServer({ ...options, adminToken: null, ...change })
  running.push(server)
  return server
}
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-main-'))
})
afterEach(async () => {
  for (const server of running.splice(0)) await server.close()
  await rm(folder, { recursive: true })
})

async function upload(url: string): Promise<{ id: string }> {
  const headers = { 'content-type': 'text/plain' }
  const body = generateCorpus(1, 50_000)
  return (await fetch(`${url}/api/v1/datasets?name=Stories`, { method: 'POST', headers, body })).json()
}

async function launch(url: string, config: object = {}): Promise<Response> {
  const body = JSON.stringify({ name: 'Run', datasetId: (await upload(url)).id, config })
  return fetch(`${url}/api/v1/runs`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
}

const envelope = envelopeSchema(serverMessageSchema)
const device = testDevice(1)

/** Joins as a node and returns what the server says, message by message. */
async function joinAs(url: string, { protocol = PROTOCOL_VERSION, token = '' } = {}) {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/control`)
  const mailbox = new Mailbox<unknown, ServerMessage>({ wire: 'ordered' })
  const messages: ServerMessage[] = []
  let arrived = () => {}
  socket.on('message', (data) => {
    const value: unknown = JSON.parse(String(data))
    const raw = serverMessageSchema.safeParse(value).data
    messages.push(...(raw ? [raw] : mailbox.receive(envelope.parse(value), 0)))
    arrived()
  })
  const nonce = new Promise<string>((resolve) =>
    socket.once('message', (data) => resolve((JSON.parse(String(data)) as { nonce: string }).nonce)),
  )
  await once(socket, 'open')
  const proof = device.prove(new URL(url).host, await nonce)
  const limits = { maxBufferSize: 1e9, maxStorageBufferBindingSize: 1e9 }
  const adapter = { vendor: 'v', architecture: 'a', description: 'd', software: true, ...limits }
  const session = token === '' ? null : { token, received: 0 }
  const hello = {
    type: 'hello',
    protocol,
    deviceId: device.id,
    proof,
    kind: 'agent',
    adapter,
    memoryBytes: 1e9,
    session,
  }
  socket.send(JSON.stringify({ ...hello, holding: null }))
  const next = async (type: ServerMessage['type']) => {
    for (;;) {
      const found = messages.findIndex((message) => message.type === type)
      if (found >= 0) return messages.splice(found, 1)[0]!
      await new Promise<void>((resolve) => (arrived = resolve))
    }
  }
  return { socket, next }
}

describe('the server', () => {
  it('launches a run, welcomes a node, and takes the run up again after a restart', async () => {
    const first = await start()
    const launched = await launch(first.url)
    expect(launched.status).toBe(201)
    const { id } = await launched.json()
    const node = await joinAs(first.url)
    const welcome = await node.next('welcome')
    expect(welcome).toMatchObject({ type: 'welcome', heartbeatMs: 2000 })
    expect(await node.next('standby')).toMatchObject({ reason: expect.any(String) })
    expect(await (await fetch(`${first.url}/api/v1/nodes`)).json()).toHaveLength(1)
    const { nodeId, token } = welcome as Extract<ServerMessage, { type: 'welcome' }>
    const query = `key=${BROKER_KEY}&id=${nodeId}&token=${token}`
    const peer = new WebSocket(`${first.url.replace('http', 'ws')}${BROKER_PATH}?${query}`)
    const [opened] = await once(peer, 'message')
    expect(JSON.parse(String(opened))).toEqual({ type: 'OPEN' })
    const closed = once(node.socket, 'close')
    await first.close()
    await closed
    const second = await start()
    expect(await (await fetch(`${second.url}/api/v1/runs/${id}`)).json()).toMatchObject({ id, state: 'waiting' })
    expect(await (await fetch(`${second.url}/api/v1/runs/${id}/export`)).json()).toHaveLength(5)
    // The seal is of a secret that outlives the server: the node is who it was.
    const again = await joinAs(second.url, { token })
    expect(await again.next('welcome')).toMatchObject({ nodeId, resumed: false })
  })

  it('ends the session of a device whose wallet revokes it, and lets it in no more', async () => {
    const { url } = await start()
    const node = await joinAs(url)
    await node.next('welcome')
    const wallet = testWallet(1)
    const post = async (path: string, body: object) => {
      const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
      return (await fetch(`${url}/api/v1/wallet/${path}`, init)).json()
    }
    for (const purpose of ['bind', 'revoke']) {
      const { id, text } = await post('challenge', { purpose, wallet: wallet.address(), devices: [device.id] })
      const signed = { challenge: id, scheme: 'sr25519', signature: wallet.sign(text), proofs: [agree(device, text)] }
      expect(await post(purpose, signed)).toMatchObject({ walletId: wallet.walletId })
    }
    const revoked = { error: { code: 'identity.device_revoked' } }
    expect(await node.next('rejected')).toMatchObject(revoked)
    expect(await (await joinAs(url)).next('rejected')).toMatchObject(revoked)
  })

  it('refuses impossible configs and leaves nothing of them', async () => {
    const { url } = await start()
    const bad = await launch(url, { model: { dModel: 130, heads: 4 } })
    expect([bad.status, (await bad.json()).code]).toEqual([422, 'run.heads_do_not_divide'])
    expect(await (await fetch(`${url}/api/v1/runs`)).json()).toEqual([])
  })

  it('tells an old client that it is old', async () => {
    const { url } = await start()
    const node = await joinAs(url, { protocol: PROTOCOL_VERSION + 1 })
    expect(await node.next('rejected')).toMatchObject({ error: { code: 'control.protocol' } })
  })

  it('says that a port is in use before it makes anything', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port } = holder.address() as AddressInfo
    await expect(start({ port })).rejects.toMatchObject({
      code: 'server.port_in_use',
      remedy: expect.stringContaining('SKEIN_PORT'),
    })
    expect(await readdir(folder)).toEqual([])
    holder.close()
  })

  it('shares its data folder with no other server', async () => {
    const first = await start()
    await expect(start()).rejects.toMatchObject({ code: 'server.data_in_use' })
    expect((await fetch(`${first.url}/healthz`)).status).toBe(200)
    await first.close()
    await start()
  })

  it('says which folder or address cannot be had', async () => {
    await expect(start({ host: '192.0.2.1' })).rejects.toMatchObject({ code: 'server.address' })
    await expect(start({ dataFolder: '/dev/null/data' })).rejects.toMatchObject({ code: 'server.data_folder' })
  })

  it('answers upgrades nobody serves, and survives targets that are no URLs', async () => {
    const { url } = await start()
    for (const target of ['/nowhere', '//', '/control/../x', 'http://[']) {
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`)
      const [answer] = await once(socket, 'data')
      expect(String(answer)).toMatch(/^HTTP\/1.1 40[04]/)
      socket.destroy()
    }
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
  })
})

describe('the script', () => {
  const script = (environment: Record<string, string>) => {
    const env = { PATH: process.env.PATH, SKEIN_PORT: '0', SKEIN_DATA: join(folder, 'data'), SKEIN_LOG: 'warn' }
    const path = new URL('../../../server/main.ts', import.meta.url).pathname
    const child = spawn(process.execPath, [path], { env: { ...env, ...environment }, stdio: 'pipe' })
    let output = ''
    child.stdout.on('data', (data) => (output += String(data)))
    child.stderr.on('data', (data) => (output += String(data)))
    return { child, output: () => output }
  }

  it('prints where it is, and ends well on SIGTERM, an open stream notwithstanding', async () => {
    const { child, output } = script({})
    const address = /Skein is at (http:\/\/127\.0\.0\.1:\d+)/
    await expect.poll(output, { timeout: 10_000 }).toMatch(address)
    const url = address.exec(output())![1]!
    const { id } = await (await launch(url)).json()
    const stream = await fetch(`${url}/api/v1/runs/${id}/live`)
    expect(stream.status).toBe(200)
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
    await stream.text()
  })

  it('names what is wrong with its environment, without a stack', async () => {
    const { child, output } = script({ SKEIN_PORT: 'eighty' })
    expect((await once(child, 'exit'))[0]).toBe(1)
    expect(output()).toContain('SKEIN_PORT')
    expect(output()).toContain('config.invalid')
    expect(output()).not.toContain('    at ')
  })
})
