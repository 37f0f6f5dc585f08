/** Owns the schema of the embedded database: the tables as Kysely sees them and the migrations that made them. */
import { sql } from 'kysely'
import type { Generated, Kysely } from 'kysely'
import type { Migration, MigrationProvider } from 'kysely/migration'
import { audits } from './auditMigration.ts'
import { identity } from './identityMigration.ts'
import type { IdentityTables } from './identityMigration.ts'
import { laneMoments } from './laneMomentMigration.ts'
import { ledger } from './ledgerMigration.ts'
import type { LedgerTables } from './ledgerMigration.ts'
import { money } from './moneyMigration.ts'
import { refunds } from './refundMigration.ts'
import { payoutMigration } from './payoutMigration.ts'

export interface Tables extends IdentityTables, LedgerTables {
  datasets: {
    id: string
    name: string
    bytes: number
    tokens: number
    train_tokens: number
    tokens_hash: string
    tokenizer: string
    vocabulary: string | null
    created_at: number
  }
  runs: {
    id: string
    name: string
    dataset_id: string
    /** JSON of a `RunConfig`. */
    config: string
    state: string
    detail: string
    step: number
    generation: number
    val_loss: number | null
    rollbacks: number
    boundary_bytes_per_token: number | null
    created_at: number
    started_at: number | null
    finished_at: number | null
    /** JSON of a `PreparedStep`. */
    prepared: string | null
    recovered: number
    /** JSON of a `Payment`; null for a run that pays nobody. */
    payment: string | null
  }
  reservations: {
    run_id: string
    device_id: string
    stage: number
    at: number
  }
  metrics: {
    run_id: string
    step: number
    loss: number
    grad_norm: number
    lr: number
    tokens: number
    duration_ms: number
    at: number
  }
  checkpoints: {
    run_id: string
    step: number
    /** JSON of `StageCheckpoint[]`. */
    stages: string
    bytes: number
    created_at: number
  }
  events: {
    /** Given by the database; grows with every event. */
    id: Generated<number>
    run_id: string
    at: number
    step: number
    text: string
  }
}

const first: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .createTable('datasets')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('bytes', 'integer', (c) => c.notNull())
      .addColumn('tokens', 'integer', (c) => c.notNull())
      .addColumn('train_tokens', 'integer', (c) => c.notNull())
      .addColumn('tokens_hash', 'text', (c) => c.notNull())
      .addColumn('created_at', 'integer', (c) => c.notNull())
      .execute()
    await db.schema
      .createTable('runs')
      .addColumn('id', 'text', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('dataset_id', 'text', (c) => c.notNull().references('datasets.id'))
      .addColumn('config', 'text', (c) => c.notNull().check(sql`json_valid(config)`))
      .addColumn('state', 'text', (c) => c.notNull())
      .addColumn('detail', 'text', (c) => c.notNull())
      .addColumn('step', 'integer', (c) => c.notNull())
      .addColumn('generation', 'integer', (c) => c.notNull())
      .addColumn('val_loss', 'real')
      .addColumn('rollbacks', 'integer', (c) => c.notNull())
      .addColumn('boundary_bytes_per_token', 'real')
      .addColumn('created_at', 'integer', (c) => c.notNull())
      .addColumn('started_at', 'integer')
      .addColumn('finished_at', 'integer')
      .execute()
    await db.schema.createIndex('runs_by_age').on('runs').column('created_at').execute()
    await db.schema
      .createTable('metrics')
      .addColumn('run_id', 'text', (c) => c.notNull().references('runs.id').onDelete('cascade'))
      .addColumn('step', 'integer', (c) => c.notNull())
      .addColumn('loss', 'real', (c) => c.notNull())
      .addColumn('grad_norm', 'real', (c) => c.notNull())
      .addColumn('lr', 'real', (c) => c.notNull())
      .addColumn('tokens', 'integer', (c) => c.notNull())
      .addColumn('duration_ms', 'real', (c) => c.notNull())
      .addColumn('at', 'integer', (c) => c.notNull())
      .addPrimaryKeyConstraint('metrics_key', ['run_id', 'step'])
      .execute()
    await db.schema
      .createTable('checkpoints')
      .addColumn('run_id', 'text', (c) => c.notNull().references('runs.id').onDelete('cascade'))
      .addColumn('step', 'integer', (c) => c.notNull())
      .addColumn('stages', 'text', (c) => c.notNull().check(sql`json_valid(stages)`))
      .addColumn('bytes', 'integer', (c) => c.notNull())
      .addColumn('created_at', 'integer', (c) => c.notNull())
      .addPrimaryKeyConstraint('checkpoints_key', ['run_id', 'step'])
      .execute()
    await db.schema
      .createTable('events')
      .addColumn('id', 'integer', (c) => c.primaryKey().autoIncrement())
      .addColumn('run_id', 'text', (c) => c.notNull().references('runs.id').onDelete('cascade'))
      .addColumn('at', 'integer', (c) => c.notNull())
      .addColumn('step', 'integer', (c) => c.notNull())
      .addColumn('text', 'text', (c) => c.notNull())
      .execute()
    await db.schema.createIndex('events_by_run').on('events').columns(['run_id', 'id']).execute()
  },
}

/** Datasets were bytes only until here. */
const tokenizers: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .alterTable('datasets')
      .addColumn('tokenizer', 'text', (c) => c.notNull().defaultTo('byte'))
      .execute()
    await db.schema.alterTable('datasets').addColumn('vocabulary', 'text').execute()
  },
}

/** Until here a run could go on from its checkpoints alone. */
const elastic: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .alterTable('runs')
      .addColumn('prepared', 'text', (c) => c.check(sql`json_valid(prepared)`))
      .execute()
    await db.schema
      .alterTable('runs')
      .addColumn('recovered', 'integer', (c) => c.notNull().defaultTo(0))
      .execute()
    await db.schema
      .createTable('reservations')
      .addColumn('run_id', 'text', (c) => c.notNull().references('runs.id').onDelete('cascade'))
      .addColumn('device_id', 'text', (c) => c.notNull())
      .addColumn('stage', 'integer', (c) => c.notNull())
      .addColumn('at', 'integer', (c) => c.notNull())
      .addPrimaryKeyConstraint('reservations_key', ['run_id', 'device_id'])
      .execute()
    await db.schema.createIndex('reservations_by_age').on('reservations').columns(['run_id', 'at']).execute()
  },
}

/** Migrations by name, applied in the names' order; a published one is never edited. */
export const migrations: MigrationProvider = {
  getMigrations: () =>
    Promise.resolve({
      '0001_runs': first,
      '0002_tokenizers': tokenizers,
      '0003_elastic': elastic,
      '0004_identity': identity,
      '0005_ledger': ledger,
      '0006_payouts': payoutMigration,
      '0008_money': money,
      '0009_audits': audits,
      '0010_refunds': refunds,
      '0011_lane_moments': laneMoments,
    }),
}
