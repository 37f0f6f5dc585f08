/** Owns the proof that a node's session outlives its sockets, a dead line and the server, and that nothing in it is lost. */
import { iceSource } from '../../../server/signalling/iceServers.ts'
import { createServer, type Server } from 'node:http'
import { connect, createServer as createProxy, type AddressInfo, type Server as Proxy, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { attachControl, CONTROL_PATH, type Gateway } from '../../../server/control/gateway.ts'
import { createTokens, TOKEN_LIFETIME_MS } from '../../../server/control/tokens.ts'
import type { ClientMessage, ServerMessage } from '../../../src/protocol/control.ts'
import type { ErrorBody } from '../../../src/protocol/errors.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'
import {
  ControlSocket,
  type ControlHandlers,
  type Presentation,
  type Welcome,
} from '../../../src/stage/controlSocket.ts'
import { testDevice } from '../deviceKeys.ts'

const limits = { maxBufferSize: 1, maxStorageBufferBindingSize: 1 }
const device = testDevice(1)
const self: Presentation = {
  type: 'hello',
  protocol: PROTOCOL_VERSION,
  kind: 'agent',
  adapter: { vendor: 'v', architecture: 'a', description: 'd', software: true, ...limits },
  memoryBytes: 1e9,
  holding: null,
}

/** Keeps what the node was told. */
function listener() {
  const messages: ServerMessage[] = []
  const welcomes: Welcome[] = []
  const refusals: ErrorBody[] = []
  const handlers: ControlHandlers & { losses: number } = {
    losses: 0,
    message: (message) => (message.type === 'welcome' ? welcomes.push(message) : messages.push(message)),
    lost: () => (handlers.losses += 1),
    refused: (error) => refusals.push(error),
  }
  return { messages, welcomes, refusals, handlers }
}

describe('against a server', () => {
  let now = Date.now()
  let renewMs: number | undefined
  const tokens = createTokens(new Uint8Array(32).fill(7), () => now)
  let server: Server
  let gateway: Gateway
  /** Between node and server, so that lines can be cut under both. */
  let proxy: Proxy
  const lines = new Set<Socket>()
  let said: ClientMessage[]
  let events: string[]
  let node: ControlSocket | null

  async function openServer(): Promise<void> {
    server = createServer()
    gateway = attachControl(server, {
      tokens,
      heartbeatMs: 2000,
      ice: iceSource([], null),
      ...(renewMs && { renewMs }),
      audience: { hosts: [], trustProxy: false },
      joined: (_, hello) => events.push(`joined ${hello.holding?.step ?? 'empty'}`),
      resumed: () => events.push('resumed'),
      detached: () => events.push('detached'),
      unresponsive: () => {},
      message: (_, message) => said.push(message),
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  }
  async function closeServer(): Promise<void> {
    gateway.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  const cut = () => lines.forEach((line) => line.destroy())
  const url = () => `ws://127.0.0.1:${(proxy.address() as AddressInfo).port}${CONTROL_PATH}`

  beforeEach(async () => {
    said = []
    events = []
    node = null
    await openServer()
    proxy = createProxy((near) => {
      const far = connect((server.address() as AddressInfo).port, '127.0.0.1')
      for (const line of [near, far]) {
        lines.add(line)
        line.on('error', () => {})
        line.on('close', () => (near.destroy(), far.destroy(), lines.delete(line)))
      }
      near.pipe(far).pipe(near)
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  })
  afterEach(async () => {
    const closed = node?.close()
    cut()
    await closed
    await closeServer()
    await new Promise((resolve) => proxy.close(resolve))
  })

  const waiting = (step: number): ClientMessage => ({ type: 'waiting', generation: 1, step, on: [] })
  const steps = (messages: readonly object[]) => messages.map((message) => (message as { step: number }).step)
  const first = (count: number) => Array.from({ length: count }, (_, i) => i)

  test('a socket that lives longer than a token brings a fresh one, by which the session goes on', async () => {
    renewMs = 50
    await closeServer()
    await openServer()
    renewMs = undefined
    const { messages, welcomes, handlers } = listener()
    node = new ControlSocket(url(), device, () => self, handlers)
    await expect.poll(() => welcomes).toHaveLength(1)
    now += 0.8 * TOKEN_LIFETIME_MS
    const before = messages.length
    await expect
      .poll(() => messages.slice(before + 1))
      .toContainEqual({ type: 'token', token: expect.any(String), iceServers: [] })
    now += 0.8 * TOKEN_LIFETIME_MS
    expect(tokens.nodeOf(welcomes[0]!.token)).toBeNull()
    cut()
    await expect.poll(() => welcomes).toHaveLength(2)
    expect(welcomes[1]).toMatchObject({ nodeId: welcomes[0]!.nodeId, resumed: true })
  })

  test('everything comes once and in order, both ways, however often the line is cut', async () => {
    const { messages, welcomes, handlers } = listener()
    node = new ControlSocket(url(), device, () => self, handlers)
    await expect.poll(() => welcomes).toHaveLength(1)
    const { nodeId } = welcomes[0]!
    const resumed = () => events.filter((event) => event === 'resumed')
    for (const step of first(240)) {
      gateway.send(nodeId, { type: 'revoked', generation: 1, step })
      node.send(waiting(step))
      if (step % 60 === 30) {
        // No welcome is cut off on its way: they are counted at both ends.
        await expect.poll(() => welcomes.length - 1 - resumed().length).toBe(0)
        cut()
      }
      if (step % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await expect.poll(() => said.length, { timeout: 10_000 }).toBe(240)
    await expect.poll(() => messages.length).toBe(240)
    expect(steps(said)).toEqual(first(240))
    expect(steps(messages)).toEqual(first(240))
    expect(handlers.losses).toBeGreaterThan(0)
    expect(new Set(welcomes.map((welcome) => welcome.nodeId))).toEqual(new Set([nodeId]))
    expect(welcomes.map(({ resumed }) => resumed)).toEqual(welcomes.map((_, i) => i > 0))
    expect(events[0]).toBe('joined empty')
    expect(resumed()).toHaveLength(welcomes.length - 1)
  })

  test('a server that was started again gets a new session of the same node, and what it holds', async () => {
    const { messages, welcomes, handlers } = listener()
    let step: number | null = null
    const holding = () => ({ runId: 'r', generation: 1, stage: 0, step, moments: [], reduced: [], open: [] })
    node = new ControlSocket(url(), device, () => ({ ...self, holding: step === null ? null : holding() }), handlers)
    await expect.poll(() => welcomes).toHaveLength(1)
    step = 41
    await closeServer()
    await expect.poll(() => handlers.losses).toBeGreaterThan(0)
    node.send(waiting(1))
    await openServer()
    await expect.poll(() => welcomes, { timeout: 10_000 }).toHaveLength(2)
    expect(welcomes[1]).toMatchObject({ nodeId: welcomes[0]!.nodeId, resumed: false })
    expect(events.at(-1)).toBe('joined 41')
    // What was said to the server that is gone is void.
    node.send(waiting(2))
    gateway.send(welcomes[1]!.nodeId, { type: 'revoked', generation: 2, step: 5 })
    await expect.poll(() => steps(said)).toEqual([2])
    await expect.poll(() => steps(messages)).toEqual([5])
  })

  test('a goodbye leaves at once', async () => {
    const { welcomes, handlers } = listener()
    node = new ControlSocket(url(), device, () => self, handlers)
    await expect.poll(() => welcomes).toHaveLength(1)
    node.send({ type: 'leaving' })
    await node.close()
    expect(said).toEqual([{ type: 'leaving' }])
    expect(events).toEqual(['joined empty'])
    expect(handlers.losses).toBe(0)
  })

  test('of rejections only those are final that another attempt cannot mend', async () => {
    const { welcomes, refusals, handlers } = listener()
    node = new ControlSocket(url(), device, () => self, handlers)
    await expect.poll(() => welcomes).toHaveLength(1)
    const error = { code: 'control.silent', message: 'Silent.', remedy: 'None.' }
    gateway.disconnect(welcomes[0]!.nodeId, error)
    await expect.poll(() => welcomes).toHaveLength(2)
    expect(welcomes[1]!.resumed).toBe(false)
    gateway.disconnect(welcomes[1]!.nodeId, { ...error, code: 'control.replaced' })
    await expect.poll(() => refusals).toMatchObject([{ code: 'control.replaced' }])
    expect(welcomes).toHaveLength(2)
  })
})

describe('by the clock', () => {
  class FakeWebSocket extends EventTarget {
    static readonly OPEN = 1
    static readonly CLOSED = 3
    static readonly dialled: FakeWebSocket[] = []
    readyState = 0
    readonly sent: unknown[] = []
    onmessage: ((event: { data: string }) => void) | null = null
    onclose: (() => void) | null = null

    constructor() {
      super()
      FakeWebSocket.dialled.push(this)
    }

    send(text: string): void {
      this.sent.push(JSON.parse(text))
    }

    /** As a browser on a dead path: the closing handshake gets no answer. */
    close(): void {
      this.readyState = 2
    }

    answer(message: object): void {
      this.onmessage!({ data: JSON.stringify(message) })
    }

    /** Opens, asks who it is, and waits for the signature. */
    async challenge(): Promise<void> {
      this.readyState = 1
      this.answer({ type: 'challenge', nonce: NONCE })
      await vi.waitFor(() => expect(this.sent).toHaveLength(1))
    }

    async welcome(resumed: boolean, received = 0): Promise<void> {
      await this.challenge()
      const welcome = {
        type: 'welcome',
        nodeId: 'n1',
        resumed,
        received,
        token: 't',
        heartbeatMs: 2000,
        iceServers: [],
      }
      this.answer(welcome)
    }
  }
  const { dialled } = FakeWebSocket
  const NONCE = 'ab'.repeat(32)
  const hello = { ...self, deviceId: device.id, proof: device.prove('x', NONCE) }

  beforeEach(() => {
    dialled.length = 0
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] })
    vi.stubGlobal('WebSocket', FakeWebSocket)
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
    vi.restoreAllMocks()
  })

  test('a line on which nothing is acknowledged is given up, and the session resumed on another', async () => {
    const { welcomes, handlers } = listener()
    const socket = new ControlSocket('ws://x', device, () => self, handlers)
    socket.send({ type: 'pause' })
    await dialled[0]!.welcome(false)
    // What was said before there was a session is not part of it.
    expect(dialled[0]!.sent).toEqual([{ ...hello, session: null }])
    vi.advanceTimersByTime(60_000)
    expect(dialled).toHaveLength(1)
    socket.send({ type: 'resume' })
    vi.advanceTimersByTime(6000)
    expect(handlers.losses).toBe(1)
    expect(dialled).toHaveLength(2)
    await dialled[1]!.welcome(true)
    expect(dialled[1]!.sent).toEqual([
      { ...hello, session: { token: 't', received: 0 } },
      { n: 1, a: 0, m: { type: 'resume' } },
    ])
    // The old socket may wake up again; nobody listens to it.
    dialled[0]!.answer({ n: 1, a: 0, m: { type: 'ping' } })
    dialled[0]!.onclose!()
    expect(handlers.losses).toBe(1)
    expect(welcomes.map(({ resumed }) => resumed)).toEqual([false, true])
    void socket.close()
  })

  test('what the server says is acknowledged in time although there is nothing to say; pings go no further', async () => {
    const { messages, handlers } = listener()
    const socket = new ControlSocket('ws://x', device, () => self, handlers)
    await dialled[0]!.welcome(false)
    dialled[0]!.answer({ n: 1, a: 0, m: { type: 'ping' } })
    dialled[0]!.answer({ n: 2, a: 0, m: { type: 'standby', reason: 'r' } })
    expect(messages).toEqual([{ type: 'standby', reason: 'r' }])
    vi.advanceTimersByTime(200)
    expect(dialled[0]!.sent.slice(1)).toEqual([{ a: 2 }])
    void socket.close()
  })

  test('a socket that brings no welcome is given up; pauses grow, and the first is short', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5)
    const { handlers } = listener()
    const socket = new ControlSocket('ws://x', device, () => self, handlers)
    dialled[0]!.onclose!()
    vi.advanceTimersByTime(199)
    expect(dialled).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(dialled).toHaveLength(2)
    vi.advanceTimersByTime(9999)
    expect(handlers.losses).toBe(1)
    vi.advanceTimersByTime(1)
    expect(handlers.losses).toBe(2)
    vi.advanceTimersByTime(399)
    expect(dialled).toHaveLength(2)
    vi.advanceTimersByTime(1)
    expect(dialled).toHaveLength(3)
    void socket.close()
    vi.advanceTimersByTime(100_000)
    expect(dialled).toHaveLength(3)
  })

  test('where the two ends disagree on what was said, a new session begins', async () => {
    const { handlers } = listener()
    const socket = new ControlSocket('ws://x', device, () => self, handlers)
    await dialled[0]!.welcome(false)
    dialled[0]!.answer({ n: 5, a: 0, m: { type: 'ping' } })
    expect(handlers.losses).toBe(1)
    vi.advanceTimersByTime(300)
    await dialled[1]!.welcome(false)
    expect(dialled[1]!.sent).toEqual([{ ...hello, session: null }])
    void socket.close()
  })

  test('a server that speaks otherwise is not dialled again', async () => {
    const { refusals, handlers } = listener()
    new ControlSocket('ws://x', device, () => self, handlers)
    await dialled[0]!.welcome(false)
    dialled[0]!.answer({ n: 1, a: 0, m: { type: 'sing' } })
    expect(refusals).toMatchObject([{ code: 'control.invalid' }])
    vi.advanceTimersByTime(100_000)
    expect(dialled).toHaveLength(1)
  })
})
