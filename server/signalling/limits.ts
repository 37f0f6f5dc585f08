/** Owns the numbers that keep one peer, or a crowd of them, from hurting the broker. */

export interface BrokerLimits {
  /** Open sockets; one more is refused. */
  connections: number
  /** Bytes of one message from a peer. */
  messageBytes: number
  /** Messages a peer may send at once, and how many a second it regains. */
  burst: number
  perSecond: number
  /** A socket that has not taken this many bytes is cut off: its peer has stopped reading. */
  bufferedBytes: number
  /** How long messages wait for a peer that is not there yet. */
  waitMs: number
  waitingPerPeer: number
  waitingBytes: number
  /** Silence after which a socket is pinged, and after which it is cut off. */
  pingAfterMs: number
  silentMs: number
}

export const BROKER_LIMITS: BrokerLimits = {
  connections: 20_000,
  messageBytes: 64 * 1024,
  burst: 2_000,
  perSecond: 100,
  bufferedBytes: 1024 * 1024,
  waitMs: 5_000,
  waitingPerPeer: 256,
  waitingBytes: 32 * 1024 * 1024,
  pingAfterMs: 25_000,
  silentMs: 75_000,
}
