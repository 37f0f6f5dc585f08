/** Owns the ledger in SQLite; its statements are prepared once, for thousands of rows a second. */
import type Database from 'better-sqlite3'
import type { Kysely } from 'kysely'
import { chain, EMPTY_HEAD } from '../../src/ledger/rows.ts'
import type { LedgerHead, RowText } from '../../src/ledger/rows.ts'
import { fail } from '../../src/protocol/errors.ts'
import { ledgerEntrySchema } from '../../src/protocol/ledger.ts'
import type { LedgerEntry, SealEntry } from '../../src/protocol/ledger.ts'
import { nodeSha256 } from '../ledger/nodeSha256.ts'
import type { LeafChange, LedgerStore } from './ledgerStore.ts'
import type { Tables } from './migrations.ts'

const COLUMNS = 'seq, at, prev, entry, hash'

export class SqliteLedger implements LedgerStore {
  readonly #database: Database.Database
  readonly #db: Kysely<Tables>
  readonly #insert: Database.Statement
  readonly #head: Database.Statement
  readonly #rows: Database.Statement
  readonly #leaf: Database.Statement

  /** @param db shares its connection with `database`: a transaction of either is one of both */
  constructor(database: Database.Database, db: Kysely<Tables>) {
    this.#database = database
    this.#db = db
    this.#insert = database.prepare(`insert into ledger (${COLUMNS}, epoch) values (?, ?, ?, ?, ?, ?)`)
    this.#head = database.prepare('select seq, at, hash from ledger order by seq desc limit 1')
    this.#rows = database.prepare(`select ${COLUMNS} from ledger where seq >= ? order by seq limit ?`)
    this.#leaf = database.prepare('insert into ledger_leaves (account, epoch, leaf) values (?, ?, ?)')
  }

  /**
   * Appends inside the transaction that is open on the connection. @throws SkeinError `ledger.moved`
   * @throws ZodError for an entry that is none
   */
  appendNow(entries: readonly LedgerEntry[], at: number, after?: number): RowText[] {
    let head = this.#lastRow()
    if (after !== undefined && head.seq !== after)
      fail('ledger.moved', `Row ${head.seq} came meanwhile; ${after} was the last.`, 'Check the entry again.')
    return entries.map((given) => {
      const entry = ledgerEntrySchema.parse(given)
      const row = chain(nodeSha256, head, entry, at)
      const epoch = entry.kind === 'seal' ? entry.epoch : null
      this.#insert.run(row.seq, row.at, row.prev, row.entry, row.hash, epoch)
      head = row
      return row
    })
  }

  append(entries: readonly LedgerEntry[], at: number, after?: number): Promise<RowText[]> {
    // Through the pool of one connection: a statement of its own could fall into somebody else's transaction.
    return this.#db.transaction().execute(async () => this.appendNow(entries, at, after))
  }

  seal(entry: SealEntry, changes: readonly LeafChange[], at: number, after: number): Promise<RowText> {
    return this.#db.transaction().execute(async () => {
      const [row] = this.appendNow([entry], at, after)
      for (const { account, leaf } of changes) this.#leaf.run(account, entry.epoch, leaf)
      return row!
    })
  }

  head(): Promise<LedgerHead> {
    return this.#db.connection().execute(async () => this.#lastRow())
  }

  rows(from: number, limit: number): Promise<RowText[]> {
    return this.#db.connection().execute(async () => this.#rows.all(from, limit) as RowText[])
  }

  seals(before: number | null, limit: number): Promise<RowText[]> {
    const newest = `select ${COLUMNS} from ledger where epoch < ? order by epoch desc limit ?`
    return this.#db
      .connection()
      .execute(async () => this.#database.prepare(newest).all(before ?? Number.MAX_SAFE_INTEGER, limit) as RowText[])
  }

  leaves(epoch: number): Promise<string[]> {
    const latest = `select leaf from (
      select account, leaf, max(epoch) from ledger_leaves where epoch <= ? group by account
    ) where leaf is not null order by account`
    return this.#db.connection().execute(async () => this.#database.prepare(latest).pluck().all(epoch) as string[])
  }

  #lastRow(): LedgerHead {
    return (this.#head.get() as LedgerHead | undefined) ?? EMPTY_HEAD
  }
}
