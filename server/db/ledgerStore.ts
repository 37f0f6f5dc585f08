/** Owns the ledger's port: rows that are only ever added, each chained to the one before. */
import type { LedgerHead, RowText } from '../../src/ledger/rows.ts'
import type { LedgerEntry, SealEntry } from '../../src/protocol/ledger.ts'

/** A leaf that is not what it was under the seal before, as canonical JSON without its epoch; null when it is gone. */
export interface LeafChange {
  account: string
  leaf: string | null
}

/**
 * One interface, several databases: tests/unit/server/ledgerStore.compliance runs against each. All writes are durable on return,
 * whole or not at all, and follow one another even when several ask at once. Whether an entry may follow what came before is
 * for src/ledger's rules to say; `Store.commitStep` appends the work of a step.
 */
export interface LedgerStore {
  /**
   * @param at Unix ms of the rows, unless the last row is later
   * @param after `seq` of the row that they were checked against: refused when another came since. @throws SkeinError `ledger.moved`
   */
  append(entries: readonly LedgerEntry[], at: number, after?: number): Promise<RowText[]>
  /** Appends a seal and keeps what changed under it. @throws SkeinError `ledger.moved` */
  seal(entry: SealEntry, changes: readonly LeafChange[], at: number, after: number): Promise<RowText>
  /** `seq` 0 when there are no rows. */
  head(): Promise<LedgerHead>
  /** In order, from row `from` on, `limit` at most. */
  rows(from: number, limit: number): Promise<RowText[]>
  /** Rows of seals, newest first, of epochs before `before`. */
  seals(before: number | null, limit: number): Promise<RowText[]>
  /** The leaves under the root of an epoch without the epoch itself, by account. */
  leaves(epoch: number): Promise<string[]>
}
