/** Owns what the console's ledger page shows: the head, the newest seals, and one page of rows. */
import type { LedgerRow, SealRow } from '../../protocol/ledger.ts'
import type { LedgerView } from '../../protocol/ledgerApi.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { LedgerCalls } from '../api/ledgerCalls.ts'

const EVERY_MS = 5000
export const ROWS_A_PAGE = 25
export const EPOCHS_A_PAGE = 10

export class LedgerBook {
  view = $state.raw<LedgerView | null>(null)
  /** Newest first. */
  rows = $state.raw<readonly LedgerRow[]>([])
  /** Newest first, those of the pages that were asked for. */
  epochs = $state.raw<readonly SealRow[]>([])
  error = $state.raw<ErrorBody | null>(null)
  /** The last row of the page that is shown; null follows the head. */
  #last = $state<number | null>(null)
  readonly #calls: Pick<LedgerCalls, 'ledger' | 'rows' | 'epochs'>
  #turn = 0

  constructor(calls: Pick<LedgerCalls, 'ledger' | 'rows' | 'epochs'>) {
    this.#calls = calls
  }

  get atHead(): boolean {
    return this.#last === null
  }

  get hasOlderRows(): boolean {
    return (this.rows.at(-1)?.seq ?? 1) > 1
  }

  get hasOlderEpochs(): boolean {
    return (this.epochs.at(-1)?.entry.epoch ?? 1) > 1
  }

  async older(): Promise<void> {
    if (!this.hasOlderRows) return
    this.#last = this.rows.at(-1)!.seq - 1
    await this.refresh()
  }

  async newer(): Promise<void> {
    if (this.#last === null || !this.view) return
    const last = this.#last + ROWS_A_PAGE
    this.#last = last >= this.view.rows ? null : last
    await this.refresh()
  }

  async olderEpochs(): Promise<void> {
    const oldest = this.epochs.at(-1)
    if (!oldest || !this.hasOlderEpochs) return
    try {
      this.epochs = [...this.epochs, ...(await this.#calls.epochs(EPOCHS_A_PAGE, oldest.entry.epoch))]
    } catch (caught) {
      this.error = toErrorBody(caught)
    }
  }

  async refresh(): Promise<void> {
    const mine = ++this.#turn
    try {
      const view = await this.#calls.ledger()
      const last = this.#last ?? view.rows
      const from = Math.max(1, last - ROWS_A_PAGE + 1)
      const [page, newest] = await Promise.all([
        last === 0 ? { rows: [] } : this.#calls.rows(from, last - from + 1),
        this.#calls.epochs(EPOCHS_A_PAGE),
      ])
      // Whoever turned the page meanwhile waits for that one.
      if (mine !== this.#turn) return
      const known = newest.at(-1)?.entry.epoch ?? 0
      // After a long sleep there would be a gap between the newest and those that were shown.
      const meets = (this.epochs[0]?.entry.epoch ?? 0) >= known - 1
      this.view = view
      this.rows = page.rows.toReversed()
      this.epochs = meets ? [...newest, ...this.epochs.filter(({ entry }) => entry.epoch < known)] : newest
      this.error = null
    } catch (caught) {
      if (mine === this.#turn) this.error = toErrorBody(caught)
    }
  }

  /** Refreshes until the returned function is called; a hidden page asks nothing. */
  follow(): () => void {
    let stopped = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const round = async () => {
      if (!document.hidden) await this.refresh()
      if (!stopped) timer = setTimeout(() => void round(), EVERY_MS)
    }
    void round()
    return () => {
      stopped = true
      clearTimeout(timer)
    }
  }
}
