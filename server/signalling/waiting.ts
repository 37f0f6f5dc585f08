/** Owns the messages that wait a few seconds for a peer that is not connected yet. */
import type { RelayedMessage } from '../../src/protocol/signalling.ts'

export interface WaitingMessage {
  src: string
  message: RelayedMessage
  bytes: number
  /** Milliseconds of the caller's clock. */
  until: number
}

export interface WaitingLimits {
  waitingPerPeer: number
  waitingBytes: number
}

/** Bounded in count per peer and in bytes altogether; uses no clock of its own. */
export class WaitingRoom {
  readonly #limits: WaitingLimits
  readonly #byPeer = new Map<string, WaitingMessage[]>()
  #bytes = 0

  constructor(limits: WaitingLimits) {
    this.#limits = limits
  }

  /** False when there is no room left; nothing was kept then. */
  add(entry: WaitingMessage): boolean {
    const queue = this.#byPeer.get(entry.message.dst) ?? []
    if (queue.length >= this.#limits.waitingPerPeer || this.#bytes + entry.bytes > this.#limits.waitingBytes)
      return false
    queue.push(entry)
    this.#byPeer.set(entry.message.dst, queue)
    this.#bytes += entry.bytes
    return true
  }

  /** Takes out everything that waits for `peer`, in the order in which it came. */
  take(peer: string): WaitingMessage[] {
    const queue = this.#byPeer.get(peer) ?? []
    this.#byPeer.delete(peer)
    for (const entry of queue) this.#bytes -= entry.bytes
    return queue
  }

  /** Takes out what waited until `now` in vain. */
  expire(now: number): WaitingMessage[] {
    const expired: WaitingMessage[] = []
    for (const [peer, queue] of this.#byPeer) {
      const kept = queue.filter((entry) => entry.until > now)
      if (kept.length === queue.length) continue
      for (const entry of queue) if (entry.until <= now) expired.push(entry)
      if (kept.length > 0) this.#byPeer.set(peer, kept)
      else this.#byPeer.delete(peer)
    }
    for (const entry of expired) this.#bytes -= entry.bytes
    return expired
  }

  get bytes(): number {
    return this.#bytes
  }
}
