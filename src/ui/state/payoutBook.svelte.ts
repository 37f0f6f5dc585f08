/** Owns what the console shows of payouts: the chain, what is being done now, and the newest batches. */
import type { ChainView, PayoutBatch, PayoutsView } from '../../protocol/payouts.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { PayoutCalls } from '../api/payoutCalls.ts'
import { whileVisible } from './whileVisible.ts'

const EVERY_MS = 5000
const BATCHES_A_PAGE = 20

export class PayoutBook {
  /** Null where the server has no chain; undefined while it has not said. */
  chain = $state.raw<ChainView | null | undefined>(undefined)
  status = $state.raw<PayoutsView['status']>(null)
  /** Newest first, those of the pages that were asked for. */
  batches = $state.raw<readonly PayoutBatch[]>([])
  error = $state.raw<ErrorBody | null>(null)
  readonly #calls: PayoutCalls
  #shown = BATCHES_A_PAGE

  constructor(calls: PayoutCalls) {
    this.#calls = calls
  }

  get hasOlder(): boolean {
    return (this.batches.at(-1)?.id ?? 1) > 1
  }

  /** Shows another page of batches beneath those that are shown. */
  async older(): Promise<void> {
    this.#shown += BATCHES_A_PAGE
    await this.refresh()
  }

  async refresh(): Promise<void> {
    try {
      const [chain, { status, batches }] = await Promise.all([this.#calls.chain(), this.#calls.payouts(BATCHES_A_PAGE)])
      const all = [...batches]
      while (all.length < this.#shown && (all.at(-1)?.id ?? 1) > 1) {
        const older = await this.#calls.payouts(BATCHES_A_PAGE, null, all.at(-1)!.id)
        if (older.batches.length === 0) break
        all.push(...older.batches)
      }
      this.chain = chain
      this.status = status
      this.batches = all
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
