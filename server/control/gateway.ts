/** Owns the control WebSocket: admits nodes, checks what they say against the schema, and carries the server's word to them. */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, Server } from 'node:http'
import { WebSocketServer, type WebSocket } from 'ws'
import { MAX_CONTROL_BYTES, type ClientMessage, type ServerMessage } from '../../src/protocol/control.ts'
import { toErrorBody, type ErrorBody } from '../../src/protocol/errors.ts'
import { ACK_DELAY_MS } from '../../src/protocol/mailbox.ts'
import type { IceSource } from '../signalling/iceServers.ts'
import { audienceOf, type AudienceOptions } from '../identity/audience.ts'
import { checkSessionProof, OTHER_DEVICE, type Challenged } from '../identity/session.ts'
import { parseEnvelope, parseHello, type Hello } from './parse.ts'
import { Sessions, type Session } from './sessions.ts'
import { TOKEN_LIFETIME_MS, type IssuingTokens } from './tokens.ts'

export const CONTROL_PATH = '/control'

/** What the gateway refuses to exceed; each bound ends in a sentence to the client, never in a silent drop. */
export const GATEWAY_LIMITS = {
  connections: 12_000,
  /** From the socket's opening to its `hello`. */
  helloMs: 10_000,
  messagesPerSecond: 400,
  /** Unsent bytes at which a node that does not read is cut off. */
  bufferedBytes: 8 * 1024 * 1024,
}

const WATCH_MS = 500
/** A token is renewed early enough that a node whose line is down meanwhile can still come back by it. */
const RENEW_MS = TOKEN_LIFETIME_MS / 4

export interface GatewayOptions {
  tokens: IssuingTokens
  heartbeatMs: number
  ice: IceSource
  /** Milliseconds after which nodes get a fresh token and fresh credentials. */
  renewMs?: number
  /** Names of this server that a device may have dialled. */
  audience: AudienceOptions
  /** Why a device that has proved its key may not come in all the same; null: it may. */
  barred?(deviceId: string): Promise<ErrorBody | null>
  /** A new session; the node may be known from an earlier one, which is void then. */
  joined(nodeId: string, hello: Hello): void
  /** Its socket is gone; what is sent to it waits for it, until `disconnect`. */
  detached(nodeId: string): void
  /** The session goes on over another socket; nothing was lost. */
  resumed(nodeId: string): void
  /** It has an open socket and has not acknowledged a message for too long; told once until it answers again. */
  unresponsive(nodeId: string): void
  message(nodeId: string, message: ClientMessage): void
}

export interface Gateway {
  /** Delivered once and in order, over as many sockets as it takes; void when the session ends before. */
  send(nodeId: string, message: ServerMessage): void
  /** Ends the session. */
  disconnect(nodeId: string, error: ErrorBody): void
  /** Ends every session of a device, which the orchestrator learns as it learns of any lost node. */
  expel(deviceId: string, error: ErrorBody): void
  close(): void
}

/** Serves {@link CONTROL_PATH} of `server`; upgrades for other paths are left to other listeners. */
export function attachControl(server: Server, options: GatewayOptions): Gateway {
  const { tokens } = options
  const sessions = new Sessions(tokens, GATEWAY_LIMITS.bufferedBytes)
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: MAX_CONTROL_BYTES })

  const onUpgrade: Parameters<Server['on']>[1] = (request, stream, head) => {
    if (URL.parse(request.url ?? '/', 'http://localhost')?.pathname !== CONTROL_PATH) return
    sockets.handleUpgrade(request, stream, head, (socket) => admit(socket, request))
  }
  server.on('upgrade', onUpgrade)

  const acknowledging = setInterval(() => sessions.acknowledge(performance.now()), ACK_DELAY_MS)
  let watchedAt = performance.now()
  const watching = setInterval(() => {
    const now = performance.now()
    // When this process itself was held up, the acknowledgements are there, but not yet read.
    const late = now - watchedAt > 2 * WATCH_MS
    watchedAt = now
    if (!late) for (const nodeId of sessions.unresponsive(now)) options.unresponsive(nodeId)
  }, WATCH_MS)

  const renewing = setInterval(
    () => {
      for (const session of sessions.all()) {
        const token = tokens.issue(session.nodeId, session.deviceId, session.id)
        post(session, { type: 'token', token, iceServers: options.ice.serversFor(session.nodeId) })
      }
    },
    options.renewMs ?? Math.min(RENEW_MS, options.ice.renewMs ?? RENEW_MS),
  )

  function post(session: Session, message: ServerMessage): void {
    try {
      sessions.post(session, message, performance.now())
    } catch (caught) {
      abandon(session, toErrorBody(caught))
    }
  }

  function reject(socket: WebSocket, error: ErrorBody): void {
    if (socket.readyState === socket.OPEN)
      socket.send(JSON.stringify({ type: 'rejected', error } satisfies ServerMessage))
    socket.close(1008, error.code)
    setTimeout(() => socket.terminate(), 2000).unref()
  }

  function detach(session: Session, socket: WebSocket): void {
    if (!sessions.carries(session, socket)) return
    session.socket = null
    options.detached(session.nodeId)
  }

  function greet(socket: WebSocket, hello: Hello): Session {
    const { session, resumed, rest, replaced } = sessions.open(hello.session, hello.deviceId, performance.now())
    if (replaced) reject(replaced, REPLACED)
    const { nodeId, mailbox } = session
    session.socket = socket
    const { heartbeatMs } = options
    const iceServers = options.ice.serversFor(nodeId)
    const { received } = mailbox
    const token = tokens.issue(nodeId, hello.deviceId, session.id)
    const welcome: ServerMessage = { type: 'welcome', nodeId, resumed, received, token, heartbeatMs, iceServers }
    socket.send(JSON.stringify(welcome))
    for (const envelope of rest) sessions.put(session, envelope)
    if (resumed) options.resumed(nodeId)
    else options.joined(nodeId, hello)
    return session
  }

  /** Nothing can be sent to it or believed of it any more; it may come back under its name and start anew. */
  function abandon(session: Session, error: ErrorBody): void {
    const { socket } = session
    session.socket = null
    sessions.drop(session)
    if (socket) reject(socket, error)
    options.detached(session.nodeId)
  }

  /** Null when the device is who it says, in a session of its own, and may come in. */
  async function obstacle(hello: Hello, asked: Challenged): Promise<ErrorBody | null> {
    const unproven = checkSessionProof(hello.deviceId, hello.proof, asked)
    if (unproven) return unproven
    const holder = hello.session && tokens.holderOf(hello.session.token)
    if (holder && holder.deviceId !== hello.deviceId) return OTHER_DEVICE
    return (await options.barred?.(hello.deviceId)) ?? null
  }

  function admit(socket: WebSocket, request: IncomingMessage): void {
    const asked = {
      nonce: randomBytes(32).toString('hex'),
      audience: audienceOf(request.headers, options.audience),
    }
    let heard = false
    let session: Session | null = null
    let allowance = GATEWAY_LIMITS.messagesPerSecond
    let refilledAt = performance.now()
    const refuse = (error: ErrorBody) => {
      reject(socket, error)
      if (session) detach(session, socket)
    }
    const late = setTimeout(
      () =>
        refuse({
          code: 'control.no_hello',
          message: 'The connection said nothing in time.',
          remedy: 'Reload the page.',
        }),
      GATEWAY_LIMITS.helloMs,
    )
    socket.on('error', () => socket.terminate())
    socket.on('close', () => {
      clearTimeout(late)
      if (session) detach(session, socket)
    })
    socket.on('message', (data, binary) => {
      if (socket.readyState !== socket.OPEN) return
      const now = performance.now()
      const { messagesPerSecond } = GATEWAY_LIMITS
      allowance = Math.min(messagesPerSecond, allowance + ((now - refilledAt) / 1000) * messagesPerSecond) - 1
      refilledAt = now
      if (allowance < 0)
        return refuse({
          code: 'control.too_fast',
          message: `More than ${messagesPerSecond} messages a second arrived.`,
          remedy: 'The page is out of order: reload it.',
        })
      const text = binary ? '' : String(data)
      if (session) return hear(session, text, now)
      const parsed = parseHello(text)
      if ('error' in parsed) return refuse(parsed.error)
      if (heard) return refuse(TWICE)
      heard = true
      void welcome(parsed.hello)
    })
    socket.send(JSON.stringify({ type: 'challenge', nonce: asked.nonce } satisfies ServerMessage))

    async function welcome(hello: Hello): Promise<void> {
      const error = await obstacle(hello, asked).catch(toErrorBody)
      if (socket.readyState !== socket.OPEN) return
      if (error) return refuse(error)
      if (sessions.isNew(hello.session) && sessions.size >= GATEWAY_LIMITS.connections)
        return refuse({
          code: 'control.full',
          message: 'This server has as many volunteers as it can hold.',
          remedy: 'Try again in a few minutes.',
        })
      clearTimeout(late)
      session = greet(socket, hello)
    }

    function hear(session: Session, text: string, now: number): void {
      const parsed = parseEnvelope(text)
      if ('error' in parsed) return refuse(parsed.error)
      if (!sessions.carries(session, socket)) return
      let messages: ClientMessage[]
      try {
        messages = sessions.receive(session, parsed.envelope, now)
      } catch (caught) {
        return abandon(session, toErrorBody(caught))
      }
      for (const message of messages) {
        // What was said before may have ended the session.
        if (!sessions.carries(session, socket)) return
        if (message.type === 'hello') continue
        if (message.type === 'leaving') sessions.drop(session)
        options.message(session.nodeId, message)
      }
    }
  }

  return {
    send(nodeId, message) {
      const session = sessions.of(nodeId)
      if (session) post(session, message)
    },
    disconnect(nodeId, error) {
      const session = sessions.of(nodeId)
      if (!session) return
      sessions.drop(session)
      if (session.socket) reject(session.socket, error)
    },
    expel(deviceId, error) {
      for (const session of sessions.ofDevice(deviceId)) abandon(session, error)
    },
    close() {
      clearInterval(acknowledging)
      clearInterval(watching)
      clearInterval(renewing)
      server.off('upgrade', onUpgrade)
      sessions.clear()
      for (const socket of sockets.clients) socket.close(1001, 'server.closing')
      setTimeout(() => sockets.clients.forEach((socket) => socket.terminate()), 500).unref()
      sockets.close()
    },
  }
}

const REPLACED: ErrorBody = {
  code: 'control.replaced',
  message: 'This volunteer dialled in again; only the newer connection is kept.',
  remedy: 'Nothing to do, unless no other connection of this page is open: then reload it.',
}

const TWICE: ErrorBody = {
  code: 'control.invalid',
  message: 'A hello came before the one before it was answered.',
  remedy: 'The page is out of order: reload it.',
}
