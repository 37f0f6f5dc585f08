/** Owns the calls about the chain and about payouts. */
import type { ApiClient } from './client.ts'
import { chainViewSchema, payoutsViewSchema, type ChainView, type PayoutsView } from '../../protocol/payouts.ts'

export class PayoutCalls {
  readonly #api: Pick<ApiClient, 'call'>

  constructor(api: Pick<ApiClient, 'call'>) {
    this.#api = api
  }

  /** Null where the server has none. */
  chain(): Promise<ChainView | null> {
    return this.#api.call('/chain', chainViewSchema.nullable())
  }

  /**
   * Batches, newest first.
   * @param wallet only those that pay this wallet (public key in hex)
   * @param before only those with ids below this one
   */
  payouts(limit: number, wallet: string | null = null, before: number | null = null): Promise<PayoutsView> {
    const query = new URLSearchParams({ limit: String(limit) })
    if (wallet !== null) query.set('wallet', wallet)
    if (before !== null) query.set('before', String(before))
    return this.#api.call(`/payouts?${query}`, payoutsViewSchema)
  }
}
