/** Owns which ICE servers a node is told of, with credentials for a TURN server that soon expire. */
import { createHmac } from 'node:crypto'
import type { IceServers } from '../../src/protocol/control.ts'

export interface TurnService {
  readonly urls: readonly string[]
  /** Shared with the TURN server: coturn's `static-auth-secret`. */
  readonly secret: string
  readonly lifetimeMs: number
}

export interface IceSource {
  /** As they are for this node from now on. */
  serversFor(nodeId: string): IceServers
  /** How often nodes are to be told anew; null: never for the sake of these. */
  readonly renewMs: number | null
}

/**
 * Credentials after the REST convention of TURN servers (draft-uberti-behave-turn-rest-00, coturn's `use-auth-secret`): the
 * name is `expiry:node`, expiry in Unix seconds, the password the base64 of its HMAC-SHA1.
 * @param fixed servers that need no such credentials
 * @param now Unix milliseconds
 */
export function iceSource(fixed: IceServers, turn: TurnService | null, now: () => number = Date.now): IceSource {
  return {
    renewMs: turn && turn.lifetimeMs / 2,
    serversFor(nodeId) {
      if (!turn) return fixed
      const username = `${Math.floor((now() + turn.lifetimeMs) / 1000)}:${nodeId}`
      const credential = createHmac('sha1', turn.secret).update(username).digest('base64')
      return [...fixed, { urls: [...turn.urls], username, credential }]
    },
  }
}
