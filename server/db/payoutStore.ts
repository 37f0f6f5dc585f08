/** Owns the port of payouts: batches that are set aside once, and become paid once. */
import type { Hex, Inclusion, WalletId } from '../chain/port.ts'
import type { Attempt, Batch, BatchDraft, BatchState, PaidEntry } from '../payouts/types.ts'

export interface BatchRecord {
  id: number
  epoch: number
  root: string
  /** The run whose address pays it; null for a payout. */
  run: string | null
  state: BatchState
  detail: string
  total: bigint
  transfers: number
  attempts: number
  /** The newest attempt, expired or not. */
  lastAttempt: Pick<Attempt, 'hash' | 'nonce' | 'death'> | null
  /** Where the extrinsic is, once final. */
  block: { number: number; hash: Hex } | null
  extrinsic: Hex | null
  /** Unix milliseconds. */
  createdAt: number
  changedAt: number
}

/**
 * One interface, several databases: tests/unit/payouts/payoutStore.compliance runs against each. All writes are durable on
 * return, whole or not at all. Each change names the state it starts from: what does not fit is refused with SkeinError
 * `payout.state`, and changes nothing.
 */
export interface PayoutStore {
  /** The batch under way; null without one. */
  open(): Promise<Batch | null>
  /** The oldest batch that an operator has to look at. */
  disputed(): Promise<number | null>
  /** Sets the amounts aside. Refused while another batch is under way. */
  freeze(draft: BatchDraft, payer: { genesis: Hex; hot: WalletId }, at: number): Promise<Batch>
  /** Keeps bytes before they are submitted. Refused while the attempt before has not expired. */
  addAttempt(batchId: number, attempt: Attempt, at: number): Promise<void>
  /** The attempt can never be included any more. */
  expire(batchId: number, attempt: number, at: number): Promise<void>
  /** Makes the batch paid and appends the ledger's rows, both or neither. Refused for any attempt but the one alive. */
  settle(
    batchId: number,
    attempt: Attempt,
    inclusion: Inclusion,
    entries: readonly PaidEntry[],
    at: number,
  ): Promise<void>
  /** Gives the amounts back. Without an inclusion that failed, refused while an attempt may still be included. */
  release(batchId: number, reason: string, inclusion: Inclusion | null, at: number): Promise<void>
  dispute(batchId: number, reason: string, inclusion: Inclusion | null, at: number): Promise<void>
  /** Refunds of a run that are on their way or paid, oldest first. */
  refundsOf(runId: string): Promise<BatchRecord[]>
  /** Planck paid or set aside by batches of an epoch. */
  frozenInEpoch(epoch: number): Promise<bigint>
  /** Planck set aside and not yet paid, by wallet. */
  frozen(): Promise<Map<WalletId, bigint>>
  /** Newest first, of ids before `before`; only those with `wallet`, if given. */
  batches(limit: number, before: number | null, wallet: WalletId | null): Promise<BatchRecord[]>
  /** What batches pay `wallet`, by batch id. */
  amountsOf(wallet: WalletId, batches: readonly number[]): Promise<Map<number, bigint>>
}
