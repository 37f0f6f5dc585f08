/** Owns the column of what runs pay. */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Until here no run had a price. */
export const money: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .alterTable('runs')
      .addColumn('payment', 'text', (c) => c.check(sql`json_valid(payment)`))
      .execute()
  },
}
