/** Owns the runs that the contribute page speaks of: asked for now and then, while the page is seen. */
import type { RunSummary } from '../../protocol/api.ts'
import type { ApiClient } from '../api/client.ts'

const EVERY_MS = 30_000

export class OpenRuns {
  list = $state.raw<readonly RunSummary[]>([])
  readonly #api: Pick<ApiClient, 'runs'>

  constructor(api: Pick<ApiClient, 'runs'>) {
    this.#api = api
  }

  /** Asks at once and every half minute, until the returned function is called. */
  follow(): () => void {
    const ask = async () => {
      if (document.hidden) return
      // Without an answer the page says nothing about needs; the volunteer itself says that the server is away.
      this.list = await this.#api.runs().catch(() => this.list)
    }
    void ask()
    const timer = setInterval(() => void ask(), EVERY_MS)
    return () => clearInterval(timer)
  }
}
