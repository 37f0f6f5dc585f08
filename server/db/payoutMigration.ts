/** Owns the tables of payouts: batches, who each of them pays, and the bytes that were ever signed for one. */
import { sql } from 'kysely'
import type { Generated, Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

export interface PayoutTables {
  payout_batches: {
    id: Generated<number>
    epoch: number
    root: string
    genesis: string
    hot: string
    state: string
    /** 1 while the batch is frozen, else null: unique, so that one batch is under way at a time. */
    open: number | null
    /** Planck in decimal, as every amount: SQLite's integers are too small. */
    total: string
    detail: string
    block_number: number | null
    block_hash: string | null
    extrinsic_hash: string | null
    created_at: number
    changed_at: number
    run_id: string | null
    rest: string | null
  }
  payout_transfers: { batch_id: number; position: number; wallet: string; planck: string }
  payout_attempts: {
    batch_id: number
    number: number
    bytes: string
    hash: string
    nonce: number
    birth_number: number
    birth_hash: string
    death: number
    spec_version: number
    signed_at: number
    expired_at: number | null
  }
}

export const payoutMigration: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .createTable('payout_batches')
      .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
      .addColumn('epoch', 'integer', (c) => c.notNull())
      .addColumn('root', 'text', (c) => c.notNull())
      .addColumn('genesis', 'text', (c) => c.notNull())
      .addColumn('hot', 'text', (c) => c.notNull())
      .addColumn('state', 'text', (c) => c.notNull().check(sql`state in ('frozen', 'paid', 'released', 'disputed')`))
      .addColumn('open', 'integer', (c) => c.unique().check(sql`(open is not null) = (state = 'frozen')`))
      .addColumn('total', 'text', (c) => c.notNull())
      .addColumn('detail', 'text', (c) => c.notNull())
      .addColumn('block_number', 'integer')
      .addColumn('block_hash', 'text')
      .addColumn('extrinsic_hash', 'text')
      .addColumn('created_at', 'integer', (c) => c.notNull())
      .addColumn('changed_at', 'integer', (c) => c.notNull())
      .execute()
    await db.schema.createIndex('payout_batches_by_epoch').on('payout_batches').column('epoch').execute()
    await db.schema
      .createTable('payout_transfers')
      .addColumn('batch_id', 'integer', (c) => c.notNull().references('payout_batches.id'))
      .addColumn('position', 'integer', (c) => c.notNull())
      .addColumn('wallet', 'text', (c) => c.notNull())
      .addColumn('planck', 'text', (c) => c.notNull())
      .addPrimaryKeyConstraint('payout_transfers_key', ['batch_id', 'position'])
      .addUniqueConstraint('payout_transfers_wallet', ['wallet', 'batch_id'])
      .execute()
    await db.schema
      .createTable('payout_attempts')
      .addColumn('batch_id', 'integer', (c) => c.notNull().references('payout_batches.id'))
      .addColumn('number', 'integer', (c) => c.notNull())
      .addColumn('bytes', 'text', (c) => c.notNull())
      .addColumn('hash', 'text', (c) => c.notNull().unique())
      .addColumn('nonce', 'integer', (c) => c.notNull())
      .addColumn('birth_number', 'integer', (c) => c.notNull())
      .addColumn('birth_hash', 'text', (c) => c.notNull())
      .addColumn('death', 'integer', (c) => c.notNull())
      .addColumn('spec_version', 'integer', (c) => c.notNull())
      .addColumn('signed_at', 'integer', (c) => c.notNull())
      .addColumn('expired_at', 'integer')
      .addPrimaryKeyConstraint('payout_attempts_key', ['batch_id', 'number'])
      .execute()
  },
}
