/** Owns the frames that wait for a link to the node they are for: in order, bounded, each with a deadline. */
import { fail, type SkeinError } from '../protocol/errors.ts'
import type { Priority } from './link.ts'
import { MAX_WAITING_BYTES, ROUTE_DEADLINE_MS } from './limits.ts'

interface WaitingFrame {
  readonly bytes: Uint8Array
  readonly priority: Priority
  readonly deadline: number
  readonly resolve: (sent: Promise<void>) => void
  readonly reject: (error: SkeinError) => void
}

export class WaitingFrames {
  readonly #frames = new Map<string, WaitingFrame[]>()
  #bytes = 0

  has(nodeId: string): boolean {
    return this.#frames.has(nodeId)
  }

  nodes(): Iterable<string> {
    return this.#frames.keys()
  }

  /** Resolves when the frame was sent over a link that came in time. @throws SkeinError `net.queue_full`, and what `expire` is given */
  async add(nodeId: string, bytes: Uint8Array, priority: Priority, now: number): Promise<void> {
    if (this.#bytes + bytes.byteLength > MAX_WAITING_BYTES) {
      fail('net.queue_full', `Too much waits for a link to ${nodeId} and others.`, 'It is sent when it is asked for.')
    }
    this.#bytes += bytes.byteLength
    await new Promise<void>((resolve, reject) => {
      const frame = { bytes, priority, deadline: now + ROUTE_DEADLINE_MS, resolve, reject }
      const queue = this.#frames.get(nodeId)
      if (queue) queue.push(frame)
      else this.#frames.set(nodeId, [frame])
    })
  }

  /** Sends everything that waits for this node. */
  flush(nodeId: string, send: (bytes: Uint8Array, priority: Priority) => Promise<void>): void {
    for (const frame of this.#take(nodeId, Infinity)) frame.resolve(send(frame.bytes, frame.priority))
  }

  /** Gives up what has waited too long by `now`; the nodes it was for get nothing before they are dialled anew. */
  expire(now: number, error: (nodeId: string) => SkeinError): void {
    for (const nodeId of [...this.#frames.keys()]) {
      for (const frame of this.#take(nodeId, now)) frame.reject(error(nodeId))
    }
  }

  /** Takes out the frames of a node whose deadline is not after `until`; deadlines rise along the queue. */
  #take(nodeId: string, until: number): WaitingFrame[] {
    const queue = this.#frames.get(nodeId) ?? []
    let count = 0
    while (count < queue.length && queue[count]!.deadline <= until) count += 1
    const taken = queue.splice(0, count)
    if (queue.length === 0) this.#frames.delete(nodeId)
    for (const { bytes } of taken) this.#bytes -= bytes.byteLength
    return taken
  }
}
