/** Owns what a run's page shows of its audits: what they found together, and the newest of them. */
import type { AuditsView, AuditView } from '../../protocol/auditApi.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import type { AuditCalls } from '../api/auditCalls.ts'
import { whileVisible } from './whileVisible.ts'

const EVERY_MS = 5000
const AUDITS_A_PAGE = 20

export class AuditBook {
  /** Null before the first answer. */
  view = $state.raw<Omit<AuditsView, 'audits'> | null>(null)
  /** Newest first, those of the pages that were asked for. */
  audits = $state.raw<readonly AuditView[]>([])
  error = $state.raw<ErrorBody | null>(null)
  readonly #run: string
  readonly #calls: Pick<AuditCalls, 'audits'>
  #shown = AUDITS_A_PAGE

  constructor(run: string, calls: Pick<AuditCalls, 'audits'>) {
    this.#run = run
    this.#calls = calls
  }

  get hasOlder(): boolean {
    return this.audits.length < (this.view?.totals.audits ?? 0)
  }

  /** Shows another page of audits beneath those that are shown. */
  async older(): Promise<void> {
    this.#shown += AUDITS_A_PAGE
    await this.refresh()
  }

  async refresh(): Promise<void> {
    try {
      const { audits, ...view } = await this.#calls.audits(this.#run, AUDITS_A_PAGE)
      const all = [...audits]
      while (all.length < this.#shown && all.length < view.totals.audits) {
        const older = await this.#calls.audits(this.#run, AUDITS_A_PAGE, all.at(-1)!.number)
        if (older.audits.length === 0) break
        all.push(...older.audits)
      }
      this.view = view
      this.audits = all
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
