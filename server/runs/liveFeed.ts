/** Owns who watches which run: metrics go out at once, the rest of a run's view at most once a second. */
import type { LiveEvent, RunDetail } from '../../src/protocol/api.ts'

const DETAIL_INTERVAL_MS = 1000

type Listener = (event: LiveEvent) => void

export class LiveFeed {
  readonly #listeners = new Map<string, Set<Listener>>()
  /** When each run's view goes out next, and when it last went. */
  readonly #due = new Map<string, ReturnType<typeof setTimeout>>()
  readonly #sent = new Map<string, number>()
  readonly #detail: (runId: string) => Promise<RunDetail>

  constructor(detail: (runId: string) => Promise<RunDetail>) {
    this.#detail = detail
  }

  subscribe(runId: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(runId) ?? new Set()
    this.#listeners.set(runId, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size > 0) return
      this.#listeners.delete(runId)
      this.#sent.delete(runId)
    }
  }

  emit(runId: string, event: LiveEvent): void {
    for (const listener of this.#listeners.get(runId) ?? []) listener(event)
  }

  /** Something of the run's view changed: it goes out at once, or as soon as a second has passed since it last did. */
  touch(runId: string): void {
    if (!this.#listeners.has(runId) || this.#due.has(runId)) return
    const wait = (this.#sent.get(runId) ?? -Infinity) + DETAIL_INTERVAL_MS - performance.now()
    const timer = setTimeout(() => void this.#send(runId), Math.max(0, wait))
    this.#due.set(runId, timer.unref())
  }

  close(): void {
    for (const timer of this.#due.values()) clearTimeout(timer)
    this.#due.clear()
    this.#listeners.clear()
  }

  async #send(runId: string): Promise<void> {
    this.#due.delete(runId)
    this.#sent.set(runId, performance.now())
    // A run that cannot be read now is touched again by its next change.
    const detail = await this.#detail(runId).catch(() => null)
    if (detail) this.emit(runId, { type: 'detail', detail })
  }
}
