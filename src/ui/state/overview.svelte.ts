/** Owns what the console's first page shows: the fleet and the runs, asked for again every few seconds while visible. */
import type { FleetView, RunSummary } from '../../protocol/api.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { ApiClient } from '../api/client.ts'
import { whileVisible } from './whileVisible.ts'

const EVERY_MS = 3000

export class Overview {
  runs = $state.raw<RunSummary[] | null>(null)
  fleet = $state.raw<FleetView | null>(null)
  /** The last failure; what was known before stays on the page. */
  error = $state.raw<ErrorBody | null>(null)
  readonly #api: Pick<ApiClient, 'runs' | 'fleet'>

  constructor(api: Pick<ApiClient, 'runs' | 'fleet'>) {
    this.#api = api
  }

  async refresh(): Promise<void> {
    try {
      const [runs, fleet] = await Promise.all([this.#api.runs(), this.#api.fleet()])
      this.runs = runs.toSorted((a, b) => b.createdAt - a.createdAt)
      this.fleet = fleet
      this.error = null
    } catch (caught) {
      this.error = toErrorBody(caught)
    }
  }

  /** Refreshes until the returned function is called; a hidden page asks nothing. */
  follow(): () => void {
    return whileVisible(() => this.refresh(), EVERY_MS)
  }
}
