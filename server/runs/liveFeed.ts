/** Owns who watches which run: metrics go out at once, the rest of a run's view at most once a second. */
import type { LiveEvent, RunDetail } from '../../src/protocol/api.ts'

const DETAIL_INTERVAL_MS = 1000

type Listener = (event: LiveEvent) => void

export class LiveFeed {
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #touched = new Set<string>()
  readonly #timer: ReturnType<typeof setInterval>
  readonly #detail: (runId: string) => Promise<RunDetail>

  constructor(detail: (runId: string) => Promise<RunDetail>) {
    this.#detail = detail
    this.#timer = setInterval(() => void this.#flush(), DETAIL_INTERVAL_MS)
    this.#timer.unref()
  }

  subscribe(runId: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(runId) ?? new Set()
    this.#listeners.set(runId, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#listeners.delete(runId)
    }
  }

  emit(runId: string, event: LiveEvent): void {
    for (const listener of this.#listeners.get(runId) ?? []) listener(event)
  }

  /** Something of the run's view changed. */
  touch(runId: string): void {
    if (this.#listeners.has(runId)) this.#touched.add(runId)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#listeners.clear()
  }

  async #flush(): Promise<void> {
    const touched = [...this.#touched]
    this.#touched.clear()
    for (const runId of touched) {
      // A run that cannot be read now is touched again by its next change.
      const detail = await this.#detail(runId).catch(() => null)
      if (detail) this.emit(runId, { type: 'detail', detail })
    }
  }
}
