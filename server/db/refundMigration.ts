/** Owns what refunds add to the tables of payouts, and who sent what to the addresses of runs. */
import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

export const refunds: Migration = {
  async up(db: Kysely<unknown>) {
    // Of a refund: the run, and who gets all that the named transfers leave. Null for a payout.
    await db.schema.alterTable('payout_batches').addColumn('run_id', 'text').execute()
    await db.schema.alterTable('payout_batches').addColumn('rest', 'text').execute()
    await db.schema.createIndex('payout_batches_by_run').on('payout_batches').column('run_id').execute()
    await db.schema
      .createTable('deposits')
      .addColumn('wallet', 'text', (c) => c.notNull())
      .addColumn('sender', 'text', (c) => c.notNull())
      .addColumn('planck', 'text', (c) => c.notNull())
      .addColumn('block', 'integer', (c) => c.notNull())
      .addColumn('position', 'integer', (c) => c.notNull())
      .addPrimaryKeyConstraint('deposits_key', ['block', 'position'])
      .execute()
    await db.schema.createIndex('deposits_by_wallet').on('deposits').column('wallet').execute()
    await db.schema
      .createTable('deposit_scan')
      .addColumn('id', 'integer', (c) => c.primaryKey())
      .addColumn('block', 'integer', (c) => c.notNull())
      .execute()
  },
}

export interface RefundTables {
  /** A transfer to the address of a run, in a finalized block. */
  deposits: { wallet: string; sender: string; planck: string; block: number; position: number }
  /** One row: the last finalized block that was looked at. */
  deposit_scan: { id: number; block: number }
}
