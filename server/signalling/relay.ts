/** Owns the last resort of two nodes that neither a direct way nor TURN joins: the server passes their bytes on, within caps. */
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer, type RawData, type WebSocket } from 'ws'
import { RELAY_CLOSE, RELAY_PATH } from '../../src/protocol/signalling.ts'
import { Allowance, type AllowanceLimits } from './allowance.ts'

export interface RelayLimits {
  /** Of one pair, both directions together, and of all. */
  pair: AllowanceLimits
  all: AllowanceLimits
  /** Open sockets; two make a pair. */
  connections: number
  /** Largest message: a slice. */
  messageBytes: number
  /** Unsent bytes of one end at which the other is not read any more. */
  bufferedBytes: number
  /** How long one end waits for the other. */
  waitMs: number
}

export const RELAY_LIMITS: Omit<RelayLimits, 'pair' | 'all'> = {
  connections: 2_000,
  messageBytes: 256 * 1024,
  bufferedBytes: 512 * 1024,
  waitMs: 20_000,
}

export interface RelayOptions {
  /** The node a token was issued to; null when the token is not valid. */
  nodeOf(token: string): string | null
  limits: Pick<RelayLimits, 'pair' | 'all'> & Partial<RelayLimits>
  /** Monotonic milliseconds. */
  now?: () => number
}

export interface Relay {
  close(): void
  /** Pairs that are joined at the moment, and bytes passed on so far. */
  counts(): { pairs: number; bytes: number }
}

interface End {
  readonly id: string
  readonly to: string
  readonly socket: WebSocket
  partner: End | null
  /** Why it is not read: its partner is not there, or takes no more, or the pair is too fast. */
  readonly holds: Set<'alone' | 'full' | 'fast'>
  slowing: ReturnType<typeof setTimeout> | undefined
}

const WHY = {
  refused: 'This id and token do not belong together, or the token expired.',
  full: 'The relay holds as many connections as it can.',
  absent: 'The other node has not come to the relay.',
  gone: 'The other node has left the relay.',
  replaced: 'Another connection of this pair took over.',
  spent: 'This pair, or all together, have used up what may pass through the server in a day.',
} as const

/** Serves {@link RELAY_PATH} of `server`; upgrades for any other path are left to other listeners. */
export function attachRelay(server: Server, options: RelayOptions): Relay {
  const limits: RelayLimits = { ...RELAY_LIMITS, ...options.limits }
  const now = options.now ?? (() => performance.now())
  const ends = new Map<string, End>()
  /** Outlives its connections: who dials again has no more for it. Forgotten as they are not used for a day. */
  const pairs = new Map<string, { allowance: Allowance; usedAt: number }>()
  const all = new Allowance(limits.all, now())
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: limits.messageBytes })
  let bytes = 0

  function end(socket: WebSocket, why: keyof typeof WHY) {
    // A socket that is not read would not hear the answer.
    socket.resume()
    socket.close(RELAY_CLOSE[why], WHY[why])
  }

  function hold(one: End, why: 'alone' | 'full' | 'fast') {
    one.holds.add(why)
    one.socket.pause()
  }

  function release(one: End, why: 'alone' | 'full' | 'fast') {
    one.holds.delete(why)
    if (one.holds.size === 0 && one.socket.readyState === one.socket.OPEN) one.socket.resume()
  }

  function allowanceOf({ id, to }: End): Allowance {
    const key = [id, to].sort().join(' ')
    const pair = pairs.get(key) ?? { allowance: new Allowance(limits.pair, now()), usedAt: 0 }
    pair.usedAt = now()
    pairs.set(key, pair)
    return pair.allowance
  }

  function pass(from: End, data: RawData, binary: boolean) {
    const { partner } = from
    if (!partner) return
    const size = (data as Buffer).byteLength
    const pair = allowanceOf(from)
    const at = now()
    if (pair.isSpent(at) || all.isSpent(at)) {
      for (const one of [from, partner]) end(one.socket, 'spent')
      return
    }
    const pauseMs = Math.max(pair.take(size, at), all.take(size, at))
    if (pauseMs > 0) {
      hold(from, 'fast')
      clearTimeout(from.slowing)
      from.slowing = setTimeout(() => release(from, 'fast'), pauseMs)
    }
    bytes += size
    partner.socket.send(data, { binary }, () => {
      if (from.holds.has('full') && partner.socket.bufferedAmount <= limits.bufferedBytes / 2) release(from, 'full')
    })
    if (partner.socket.bufferedAmount > limits.bufferedBytes) hold(from, 'full')
  }

  /** Takes it out, and its partner with it. */
  function leave(one: End) {
    clearTimeout(one.slowing)
    const key = `${one.id} ${one.to}`
    if (ends.get(key) === one) ends.delete(key)
    const { partner } = one
    one.partner = null
    if (!partner) return
    partner.partner = null
    end(partner.socket, 'gone')
    leave(partner)
  }

  function welcome(socket: WebSocket, id: string, to: string) {
    const key = `${id} ${to}`
    const older = ends.get(key)
    if (older) {
      end(older.socket, 'replaced')
      leave(older)
    }
    const one: End = { id, to, socket, partner: null, holds: new Set(), slowing: undefined }
    ends.set(key, one)
    socket.on('message', (data, binary) => pass(one, data, binary))
    const waiting = setTimeout(() => {
      if (!one.partner) end(socket, 'absent')
    }, limits.waitMs)
    socket.on('close', () => {
      clearTimeout(waiting)
      leave(one)
    })
    const partner = ends.get(`${to} ${id}`)
    if (!partner) return hold(one, 'alone')
    one.partner = partner
    partner.partner = one
    release(partner, 'alone')
  }

  function upgrade(request: IncomingMessage, stream: Duplex, head: Buffer) {
    const url = new URL(request.url ?? '/', 'http://localhost')
    if (url.pathname !== RELAY_PATH) return
    const { id = '', to = '', token = '' } = Object.fromEntries(url.searchParams)
    sockets.handleUpgrade(request, stream, head, (socket) => {
      // A message over the size cap, or a broken frame; `close` follows and does the tidying.
      socket.on('error', () => {})
      if (id === '' || to === '' || to.length > 64 || to === id || options.nodeOf(token) !== id) {
        return end(socket, 'refused')
      }
      if (ends.size >= limits.connections) return end(socket, 'full')
      welcome(socket, id, to)
      const mine = ends.get(`${id} ${to}`)
      if (mine && (allowanceOf(mine).isSpent(now()) || all.isSpent(now()))) end(socket, 'spent')
    })
  }

  const forget = setInterval(() => {
    for (const [key, { usedAt }] of pairs) if (now() - usedAt > FORGET_MS) pairs.delete(key)
  }, FORGET_MS / 24)
  forget.unref()
  server.on('upgrade', upgrade)

  return {
    close() {
      clearInterval(forget)
      server.off('upgrade', upgrade)
      for (const socket of sockets.clients) socket.terminate()
      sockets.close()
    },
    counts: () => ({ pairs: [...ends.values()].filter(({ partner }) => partner).length / 2, bytes }),
  }
}

const FORGET_MS = 24 * 60 * 60 * 1000
