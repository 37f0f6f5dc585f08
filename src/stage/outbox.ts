/** Owns which frames are not sent once more: those that a link is still carrying, or has delivered a moment ago. */
import type { Priority } from '../net/link.ts'

/**
 * How long after a tensor left it is not given again, at first; doubled with each time. A slow link would else carry the same
 * tensor for every second that its receiver waits. It is given again in the end: the receiver may have refused it when it came.
 */
const AGAIN_FIRST_MS = 2_000
const AGAIN_LONGEST_MS = 30_000

interface Sent {
  /** Waits for its link, or is on its way into it. */
  leaving: number
  /** From when on it may be given again. */
  againAt: number
  pauseMs: number
}

export type SendMode =
  /** Sent in any case. */
  | 'first'
  /** Somebody asked for it once more. */
  | 'again'
  /** A question: put again as soon as it has left. */
  | 'want'

export class Outbox {
  readonly #send: (nodeId: string, bytes: Uint8Array, priority: Priority) => Promise<void>
  readonly #failed: (nodeId: string, caught: unknown) => void
  readonly #now: () => number
  readonly #sent = new Map<string, Map<string, Sent>>()

  constructor(
    send: (nodeId: string, bytes: Uint8Array, priority: Priority) => Promise<void>,
    failed: (nodeId: string, caught: unknown) => void,
    now: () => number,
  ) {
    this.#send = send
    this.#failed = failed
    this.#now = now
  }

  /** Sends what `frame` makes, unless it is known to be on its way. Returns whether it does. */
  send(to: string, key: string, mode: SendMode, frame: () => Uint8Array, priority: Priority): boolean {
    const toNode = this.#sent.get(to) ?? new Map<string, Sent>()
    this.#sent.set(to, toNode)
    const entry = toNode.get(key) ?? { leaving: 0, againAt: -Infinity, pauseMs: AGAIN_FIRST_MS }
    if (mode !== 'first' && entry.leaving > 0) return false
    if (mode === 'again' && this.#now() < entry.againAt) return false
    toNode.set(key, entry)
    entry.leaving += 1
    const left = this.#send(to, frame(), priority)
    left.then(
      () => {
        entry.leaving -= 1
        entry.againAt = this.#now() + entry.pauseMs
        entry.pauseMs = Math.min(2 * entry.pauseMs, AGAIN_LONGEST_MS)
      },
      (caught: unknown) => {
        entry.leaving -= 1
        entry.againAt = -Infinity
        this.#failed(to, caught)
      },
    )
    return true
  }

  /** The link to this node is gone: what was given to it may not have come. */
  lost(nodeId: string): void {
    this.#sent.delete(nodeId)
  }

  /** Another step begins: what left a while ago is hardly asked for any more. */
  forget(): void {
    for (const [nodeId, toNode] of this.#sent) {
      for (const [key, { leaving, againAt }] of toNode) {
        if (leaving === 0 && this.#now() >= againAt) toNode.delete(key)
      }
      if (toNode.size === 0) this.#sent.delete(nodeId)
    }
  }
}
