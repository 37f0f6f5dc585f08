/** Owns the calls about the ledger and its accounts. */
import { z } from 'zod'
import type { ApiClient } from './client.ts'
import type { AccountId, SealRow } from '../../protocol/ledger.ts'
import {
  accountViewSchema,
  epochsAnswerSchema,
  ledgerViewSchema,
  rowsAnswerSchema,
  type AccountView,
  type LedgerView,
  type RowsAnswer,
} from '../../protocol/ledgerApi.ts'

export class LedgerCalls {
  readonly #api: Pick<ApiClient, 'call'>

  constructor(api: Pick<ApiClient, 'call'>) {
    this.#api = api
  }

  ledger(): Promise<LedgerView> {
    return this.#api.call('/ledger', ledgerViewSchema)
  }

  /** Rows from `seq` on, in order. */
  rows(from: number, limit: number): Promise<RowsAnswer> {
    return this.#api.call(`/ledger/rows?from=${from}&limit=${limit}`, rowsAnswerSchema)
  }

  /** Seals, newest first; those before an epoch where one is named. */
  epochs(limit: number, before: number | null = null): Promise<SealRow[]> {
    const older = before === null ? '' : `&before=${before}`
    return this.#api.call(`/ledger/epochs?limit=${limit}${older}`, epochsAnswerSchema)
  }

  account(account: AccountId): Promise<AccountView> {
    return this.#api.call(`/accounts/${encodeURIComponent(account)}`, accountViewSchema)
  }

  /** Unchecked on purpose: whoever asks for a proof does not believe the answer. */
  proof(epoch: number, account: AccountId): Promise<unknown> {
    return this.#api.call(`/ledger/epochs/${epoch}/proof/${encodeURIComponent(account)}`, z.unknown())
  }
}
