/** Owns the tables of the ledger: rows that can be neither changed nor removed, and the leaves under the seals. */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

export const ledger: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .createTable('ledger')
      .addColumn('seq', 'integer', (c) => c.primaryKey())
      .addColumn('at', 'integer', (c) => c.notNull())
      .addColumn('prev', 'text', (c) => c.notNull())
      // Canonical JSON, as it was hashed.
      .addColumn('entry', 'text', (c) => c.notNull().check(sql`json_valid(entry)`))
      .addColumn('hash', 'text', (c) => c.notNull())
      // Of a seal; null for every other row.
      .addColumn('epoch', 'integer', (c) => c.unique())
      .execute()
    for (const change of ['update', 'delete'])
      await sql
        .raw(
          `create trigger ledger_no_${change} before ${change} on ledger begin select raise(abort, 'ledger rows are final'); end`,
        )
        .execute(db)
    // `insert or replace` would remove a row without asking the trigger above.
    await sql
      .raw(
        `create trigger ledger_in_order before insert on ledger
         when new.seq <> (select coalesce(max(seq), 0) + 1 from ledger)
         begin select raise(abort, 'ledger rows follow one another'); end`,
      )
      .execute(db)
    await db.schema
      .createTable('ledger_leaves')
      .addColumn('account', 'text', (c) => c.notNull())
      .addColumn('epoch', 'integer', (c) => c.notNull())
      // Null from the epoch on in which the account has none any more.
      .addColumn('leaf', 'text')
      .addPrimaryKeyConstraint('ledger_leaves_key', ['account', 'epoch'])
      .execute()
  },
}

/** The tables as Kysely sees them. */
export interface LedgerTables {
  ledger: { seq: number; at: number; prev: string; entry: string; hash: string; epoch: number | null }
  ledger_leaves: { account: string; epoch: number; leaf: string | null }
}
