/** Owns the bearer tokens that nodes get in `welcome`: who they are and until when, sealed by an HMAC of the server's secret. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { NodeTokens } from '../runs/port.ts'

export const TOKEN_LIFETIME_MS = 24 * 60 * 60 * 1000

/** A node id of the protocol; it holds no dot, which parts the fields of a token. */
const nodeIdPattern = /^[A-Za-z0-9_-]{1,64}$/
/** Longest token that can be right, so that a long forgery costs no hashing. */
const MAX_TOKEN_LENGTH = 200

export interface IssuingTokens extends NodeTokens {
  /** A token for `nodeId` that is safe within a URL. @throws RangeError when the id is not one of the protocol. */
  issue(nodeId: string): string
}

/**
 * Tokens read `nodeId.expiry.seal`: expiry as Unix milliseconds in base 36, seal as HMAC-SHA256 in base64url.
 * @param secret at least 32 bytes; every server of one fleet needs the same.
 * @param now Unix milliseconds.
 */
export function createTokens(secret: Uint8Array, now: () => number = Date.now): IssuingTokens {
  if (secret.byteLength < 32) throw new RangeError('A token secret needs at least 32 bytes.')
  const key = Buffer.from(secret)
  const seal = (text: string) => createHmac('sha256', key).update('skein-node-token:').update(text).digest()
  return {
    issue(nodeId) {
      if (!nodeIdPattern.test(nodeId)) throw new RangeError(`Not a node id: ${nodeId}`)
      const text = `${nodeId}.${(now() + TOKEN_LIFETIME_MS).toString(36)}`
      return `${text}.${seal(text).toString('base64url')}`
    },
    nodeOf(token) {
      if (token.length > MAX_TOKEN_LENGTH) return null
      const [nodeId, expiry, given, ...rest] = token.split('.')
      if (!nodeId || !expiry || !given || rest.length > 0 || !nodeIdPattern.test(nodeId)) return null
      const expected = seal(`${nodeId}.${expiry}`)
      const offered = Buffer.from(given, 'base64url')
      if (offered.length !== expected.length || !timingSafeEqual(offered, expected)) return null
      return Number.parseInt(expiry, 36) > now() ? nodeId : null
    },
  }
}
