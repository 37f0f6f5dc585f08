/** Owns the bearer tokens that nodes get in `welcome`: who they are, on which device and until when, sealed by an HMAC of the server's secret. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { NodeTokens } from '../runs/port.ts'

export const TOKEN_LIFETIME_MS = 24 * 60 * 60 * 1000

/** Ids of nodes, devices and sessions; they hold no dot, which parts the fields of a token. */
const idPattern = /^[A-Za-z0-9_-]{1,64}$/
/** Longest token that can be right, so that a long forgery costs no hashing. */
const MAX_TOKEN_LENGTH = 200

export interface Holder {
  nodeId: string
  deviceId: string
  /** Which of the node's sessions the token came with. */
  sessionId: string
}

export interface IssuingTokens extends NodeTokens {
  /** A token that is safe within a URL. @throws RangeError when an id is not one of the protocol. */
  issue(nodeId: string, deviceId: string, sessionId: string): string
  /** To whom a token was issued; null when it is not valid. */
  holderOf(token: string): Holder | null
}

/**
 * Tokens read `nodeId.deviceId.sessionId.expiry.seal`: expiry as Unix milliseconds in base 36, seal as HMAC-SHA256 in base64url.
 * @param secret at least 32 bytes; every server of one fleet needs the same.
 * @param now Unix milliseconds.
 */
export function createTokens(secret: Uint8Array, now: () => number = Date.now): IssuingTokens {
  if (secret.byteLength < 32) throw new RangeError('A token secret needs at least 32 bytes.')
  const key = Buffer.from(secret)
  const seal = (text: string) => createHmac('sha256', key).update('skein-node-token:').update(text).digest()
  const holderOf = (token: string): Holder | null => {
    if (token.length > MAX_TOKEN_LENGTH) return null
    const [nodeId, deviceId, sessionId, expiry, given, ...rest] = token.split('.')
    if (!nodeId || !deviceId || !sessionId || !expiry || !given || rest.length > 0) return null
    if (![nodeId, deviceId, sessionId].every((id) => idPattern.test(id))) return null
    const expected = seal(`${nodeId}.${deviceId}.${sessionId}.${expiry}`)
    const offered = Buffer.from(given, 'base64url')
    if (offered.length !== expected.length || !timingSafeEqual(offered, expected)) return null
    return Number.parseInt(expiry, 36) > now() ? { nodeId, deviceId, sessionId } : null
  }
  return {
    issue(nodeId, deviceId, sessionId) {
      for (const id of [nodeId, deviceId, sessionId]) if (!idPattern.test(id)) throw new RangeError(`Not an id: ${id}`)
      const text = `${nodeId}.${deviceId}.${sessionId}.${(now() + TOKEN_LIFETIME_MS).toString(36)}`
      return `${text}.${seal(text).toString('base64url')}`
    },
    holderOf,
    nodeOf: (token) => holderOf(token)?.nodeId ?? null,
  }
}
