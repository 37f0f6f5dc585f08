/** Owns the control WebSocket: admits nodes, checks what they say against the schema, and carries the server's word to them. */
import { randomBytes } from 'node:crypto'
import type { Server } from 'node:http'
import { WebSocketServer, type WebSocket } from 'ws'
import {
  clientMessageSchema,
  MAX_CONTROL_BYTES,
  type ClientMessage,
  type IceServers,
  type ServerMessage,
} from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { PROTOCOL_VERSION } from '../../src/protocol/version.ts'
import type { IssuingTokens } from './tokens.ts'

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

type Hello = Extract<ClientMessage, { type: 'hello' }>

export interface GatewayOptions {
  tokens: IssuingTokens
  heartbeatMs: number
  iceServers: IceServers
  joined(nodeId: string, hello: Hello): void
  message(nodeId: string, message: ClientMessage): void
  left(nodeId: string): void
}

export interface Gateway {
  send(nodeId: string, message: ServerMessage): void
  disconnect(nodeId: string, error: ErrorBody): void
  connections(): number
  close(): void
}

const RELOAD = 'Reload the page to get the current version; agents are updated and started again.'

/** Serves {@link CONTROL_PATH} of `server`; upgrades for other paths are left to other listeners. */
export function attachControl(server: Server, options: GatewayOptions): Gateway {
  const nodes = new Map<string, WebSocket>()
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: MAX_CONTROL_BYTES })

  const onUpgrade: Parameters<Server['on']>[1] = (request, stream, head) => {
    if (URL.parse(request.url ?? '/', 'http://localhost')?.pathname !== CONTROL_PATH) return
    sockets.handleUpgrade(request, stream, head, (socket) => admit(socket))
  }
  server.on('upgrade', onUpgrade)

  function reject(socket: WebSocket, error: ErrorBody): void {
    if (socket.readyState === socket.OPEN)
      socket.send(JSON.stringify({ type: 'rejected', error } satisfies ServerMessage))
    socket.close(1008, error.code)
    setTimeout(() => socket.terminate(), 2000).unref()
  }

  function admit(socket: WebSocket): void {
    let nodeId: string | null = null
    let allowance = GATEWAY_LIMITS.messagesPerSecond
    let refilledAt = performance.now()
    const late = setTimeout(
      () =>
        reject(socket, {
          code: 'control.no_hello',
          message: 'The connection said nothing in time.',
          remedy: 'Reload the page.',
        }),
      GATEWAY_LIMITS.helloMs,
    )
    socket.on('error', () => socket.terminate())
    socket.on('close', () => {
      clearTimeout(late)
      if (nodeId === null || nodes.get(nodeId) !== socket) return
      nodes.delete(nodeId)
      options.left(nodeId)
    })
    socket.on('message', (data, binary) => {
      if (socket.readyState !== socket.OPEN) return
      const now = performance.now()
      const { messagesPerSecond } = GATEWAY_LIMITS
      allowance = Math.min(messagesPerSecond, allowance + ((now - refilledAt) / 1000) * messagesPerSecond) - 1
      refilledAt = now
      if (allowance < 0)
        return reject(socket, {
          code: 'control.too_fast',
          message: `More than ${messagesPerSecond} messages a second arrived.`,
          remedy: 'The page is out of order: reload it.',
        })
      const parsed = parse(binary ? '' : String(data))
      if ('error' in parsed) return reject(socket, parsed.error)
      const { message } = parsed
      if (nodeId !== null) {
        if (message.type !== 'hello') options.message(nodeId, message)
        return
      }
      if (message.type !== 'hello') return reject(socket, invalid('The first message has to be a hello.'))
      if (nodes.size >= GATEWAY_LIMITS.connections)
        return reject(socket, {
          code: 'control.full',
          message: 'This server has as many volunteers as it can hold.',
          remedy: 'Try again in a few minutes.',
        })
      clearTimeout(late)
      nodeId = `n${randomBytes(12).toString('hex')}`
      nodes.set(nodeId, socket)
      const { heartbeatMs, iceServers, tokens } = options
      gateway.send(nodeId, { type: 'welcome', nodeId, token: tokens.issue(nodeId), heartbeatMs, iceServers })
      options.joined(nodeId, message)
    })
  }

  const gateway: Gateway = {
    send(nodeId, message) {
      const socket = nodes.get(nodeId)
      if (socket?.readyState !== socket?.OPEN) return
      if (socket!.bufferedAmount > GATEWAY_LIMITS.bufferedBytes) return socket!.terminate()
      socket!.send(JSON.stringify(message))
    },
    disconnect(nodeId, error) {
      const socket = nodes.get(nodeId)
      nodes.delete(nodeId)
      if (socket) reject(socket, error)
    },
    connections: () => nodes.size,
    close() {
      server.off('upgrade', onUpgrade)
      nodes.clear()
      for (const socket of sockets.clients) socket.close(1001, 'server.closing')
      setTimeout(() => sockets.clients.forEach((socket) => socket.terminate()), 500).unref()
      sockets.close()
    },
  }
  return gateway
}

function invalid(message: string): ErrorBody {
  return { code: 'control.invalid', message, remedy: RELOAD }
}

/** The version is looked at before the schema: an old client is to read that it is old, not that a field is missing. */
function parse(text: string): { message: ClientMessage } | { error: ErrorBody } {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return { error: invalid('A control message is not JSON text.') }
  }
  const { type, protocol } = (json ?? {}) as Record<string, unknown>
  if (type === 'hello' && protocol !== PROTOCOL_VERSION)
    return {
      error: {
        code: 'control.protocol',
        message: `This client speaks protocol ${String(protocol).slice(0, 20)}, the server ${PROTOCOL_VERSION}.`,
        remedy: RELOAD,
      },
    }
  const parsed = clientMessageSchema.safeParse(json)
  if (parsed.success) return { message: parsed.data }
  const { path, message } = parsed.error.issues[0]!
  return { error: invalid(`A control message is not valid: ${path.join('.')}: ${message}`.slice(0, 500)) }
}
