/** Owns the calls about audits. */
import { auditsViewSchema, standingViewSchema, type AuditsView, type StandingView } from '../../protocol/auditApi.ts'
import type { ApiClient } from './client.ts'

export class AuditCalls {
  readonly #api: Pick<ApiClient, 'call'>

  constructor(api: Pick<ApiClient, 'call'>) {
    this.#api = api
  }

  /**
   * Audits of a run, newest first.
   * @param before only those with numbers below this one
   */
  audits(run: string, limit: number, before: number | null = null): Promise<AuditsView> {
    const query = new URLSearchParams({ run, limit: String(limit) })
    if (before !== null) query.set('before', String(before))
    return this.#api.call(`/audits?${query}`, auditsViewSchema)
  }

  standing(device: string): Promise<StandingView> {
    return this.#api.call(`/audits/standings/${device}`, standingViewSchema)
  }
}
