/** Owns JSON-RPC 2.0 over WebSocket on loopback, as a Substrate node speaks it. */
import { once } from 'node:events'
import { WebSocketServer } from 'ws'
import type { WebSocket } from 'ws'
import { z } from 'zod'
import type { Blockchain } from '@acala-network/chopsticks-core'
import type { Handler, Subscriptions } from './handlers.ts'

const MAX_REQUEST = 8 * 1024 * 1024

const requestSchema = z.object({
  id: z.union([z.number(), z.string().max(100)]),
  method: z.string().max(100),
  params: z.array(z.unknown()).max(32).default([]),
})

/** JSON-RPC's codes: a request that is none, a method that is none, a call that failed. */
const INVALID = -32600
const UNKNOWN_METHOD = -32601
const FAILED = -32000

function serve(socket: WebSocket, chain: Blockchain, handlers: Readonly<Record<string, Handler>>): void {
  const cancel = new Map<string, () => void>()
  const send = (body: object) => socket.send(JSON.stringify({ jsonrpc: '2.0', ...body }))
  const subscriptions: Subscriptions = {
    subscribe: (method, id, onCancel = () => {}) => {
      cancel.set(id, onCancel)
      return (result) => {
        if (cancel.has(id) && socket.readyState === socket.OPEN) send({ method, params: { subscription: id, result } })
      }
    },
    unsubscribe: (id) => {
      cancel.get(id)?.()
      cancel.delete(id)
    },
  }
  const answer = async (text: string) => {
    let json: unknown = null
    try {
      json = JSON.parse(text)
    } catch {
      // Refused below as no request.
    }
    const request = requestSchema.safeParse(json)
    if (!request.success) return send({ id: null, error: { code: INVALID, message: 'Not a JSON-RPC request.' } })
    const { id, method, params } = request.data
    const handler = Object.hasOwn(handlers, method) ? handlers[method] : undefined
    if (!handler) return send({ id, error: { code: UNKNOWN_METHOD, message: `There is no method ${method}.` } })
    try {
      const result = await handler({ chain }, params, subscriptions)
      send({ id, result: result ?? null })
    } catch (caught) {
      const { code, message } = caught as { code?: unknown; message?: unknown }
      send({ id, error: { code: typeof code === 'number' ? code : FAILED, message: String(message ?? caught) } })
    }
  }
  socket.on('message', (data) => void answer(String(data)))
  socket.on('error', () => socket.terminate())
  socket.on('close', () => {
    for (const stop of cancel.values()) stop()
    cancel.clear()
  })
}

/** Listens on 127.0.0.1 only; port 0 takes any free one. */
export async function serveRpc(
  chain: Blockchain,
  handlers: Readonly<Record<string, Handler>>,
  port: number,
): Promise<{ url: string; close(): Promise<void> }> {
  const server = new WebSocketServer({ host: '127.0.0.1', port, maxPayload: MAX_REQUEST, perMessageDeflate: false })
  await once(server, 'listening')
  server.on('connection', (socket) => serve(socket, chain, handlers))
  const address = server.address()
  const actual = typeof address === 'object' && address ? address.port : port
  return {
    url: `ws://127.0.0.1:${actual}`,
    close: async () => {
      for (const socket of server.clients) socket.terminate()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
