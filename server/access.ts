/** Owns who may launch runs, upload datasets and store blobs. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { fail } from '../src/protocol/errors.ts'
import { isLoopback } from './config.ts'
import type { ServerConfig } from './config.ts'
import type { NodeTokens } from './runs/port.ts'

/** Equal or not in a time that tells nothing about where they differ. */
function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

/** The token of `Authorization: Bearer …`; null without one. */
export function bearerOf(request: FastifyRequest): string | null {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? null
}

/** `host:port` and the bare name of a URL or of a `Host` header; null when it is neither. */
function hostOf(value: string): { host: string; name: string } | null {
  const url = URL.parse(value.includes('://') ? value : `http://${value}`)
  return url && { host: url.host, name: url.hostname }
}

/**
 * True when the request was made on this machine by something its user runs: a process, or a page this server served.
 * Pages of other sites reach loopback servers too, so the origin must be this server's own, and the name it was called
 * by a loopback one: a foreign name may be made to point here (DNS rebinding). A proxy on this machine speaks for strangers.
 */
function fromThisMachine(request: FastifyRequest): boolean {
  const { origin, host, forwarded } = request.headers
  if (forwarded !== undefined || request.headers['x-forwarded-for'] !== undefined) return false
  if (!isLoopback(request.socket.remoteAddress ?? '')) return false
  const called = hostOf(host ?? '')
  if (called === null || !isLoopback(called.name)) return false
  return origin === undefined || hostOf(origin)?.host === called.host
}

/** @throws SkeinError `access.token_required` (401), `access.token_wrong` or `access.loopback_only` (403) */
export function requireAdmin(config: Pick<ServerConfig, 'adminToken' | 'host'>, request: FastifyRequest): void {
  if (config.adminToken === null) {
    if (isLoopback(config.host) && fromThisMachine(request)) return
    fail(
      'access.loopback_only',
      'This server has no admin token, so that only its own machine may change anything.',
      'Start it with SKEIN_ADMIN_TOKEN and send that token as Authorization: Bearer <token>.',
    )
  }
  const token = bearerOf(request)
  if (token === null)
    fail(
      'access.token_required',
      'This needs the admin token.',
      'Send Authorization: Bearer <token> with the value of SKEIN_ADMIN_TOKEN.',
    )
  if (!sameSecret(token!, config.adminToken!))
    fail(
      'access.token_wrong',
      'The admin token is not the right one.',
      'Compare it with SKEIN_ADMIN_TOKEN of the server.',
    )
}

/** Lets nodes in by the token of their session, and whoever {@link requireAdmin} lets in. */
export function requireNode(
  config: Pick<ServerConfig, 'adminToken' | 'host'>,
  tokens: NodeTokens,
  request: FastifyRequest,
): void {
  const token = bearerOf(request)
  if (token !== null && tokens.nodeOf(token) !== null) return
  if (token !== null && config.adminToken === null)
    fail(
      'access.node_token',
      'The node token is not valid or has expired.',
      'Reload the page: a new session gets a new token.',
    )
  requireAdmin(config, request)
}
