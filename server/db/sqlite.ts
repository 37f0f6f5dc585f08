/** Owns the SQLite store: one file, write-ahead log, every commit synced to disk before it returns. */
import Database from 'better-sqlite3'
import { Kysely, SqliteDialect } from 'kysely'
import type { Insertable } from 'kysely'
import { Migrator } from 'kysely/migration'
import type { DatasetView } from '../../src/protocol/api.ts'
import { fail, SkeinError } from '../../src/protocol/errors.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { AuditStore } from './auditStore.ts'
import type { AuditTables } from './auditMigration.ts'
import type { IdentityTables } from './identityMigration.ts'
import { migrations } from './migrations.ts'
import type { DepositStore } from './depositStore.ts'
import type { RefundTables } from './refundMigration.ts'
import type { PayoutTables } from './payoutMigration.ts'
import type { PayoutStore } from './payoutStore.ts'
import type { Tables } from './migrations.ts'
import {
  checkpointOf,
  checkpointRow,
  datasetOf,
  datasetRow,
  datasetView,
  metricOf,
  preparedText,
  runOf,
  runRow,
} from './rows.ts'
import { SqliteAudits } from './sqliteAudits.ts'
import { SqliteDeposits } from './sqliteDeposits.ts'
import { SqliteIdentity } from './sqliteIdentity.ts'
import { SqliteLedger } from './sqliteLedger.ts'
import { SqlitePayouts } from './sqlitePayouts.ts'
import type { CheckpointRecord, DatasetRecord, PreparedStep, Reservation, RunRecord, Store } from './store.ts'

/** Milliseconds a statement waits for another process that holds the file. */
const BUSY_MS = 5000

const unknownRun = (id: string) =>
  fail('run.unknown', `There is no run ${id}.`, 'Look the run up in the console or with GET /api/v1/runs.')

class SqliteStore implements Store {
  readonly identity: SqliteIdentity
  readonly ledger: SqliteLedger
  readonly payouts: SqlitePayouts
  readonly audits: SqliteAudits
  readonly deposits: SqliteDeposits
  private readonly db: Kysely<Tables>

  constructor(db: Kysely<Tables>, database: Database.Database) {
    this.db = db
    // Each sees its own tables alone.
    this.identity = new SqliteIdentity(db as unknown as Kysely<IdentityTables>)
    this.ledger = new SqliteLedger(database, db)
    // What is paid is in the ledger with the batch's last state, or neither is.
    this.payouts = new SqlitePayouts(db as unknown as Kysely<PayoutTables>, (entries, at) =>
      this.ledger.appendNow(entries, at),
    )
    this.deposits = new SqliteDeposits(db as unknown as Kysely<RefundTables>)
    // So is what an audit found.
    this.audits = new SqliteAudits(db as unknown as Kysely<AuditTables>, (entries, at, after) =>
      this.ledger.appendNow(entries, at, after),
    )
  }

  async insertDataset(dataset: DatasetRecord): Promise<void> {
    await this.db.insertInto('datasets').values(datasetRow(dataset)).execute()
  }

  async dataset(id: string): Promise<DatasetRecord | null> {
    const row = await this.db.selectFrom('datasets').selectAll().where('id', '=', id).executeTakeFirst()
    return row ? datasetOf(row) : null
  }

  async datasets(): Promise<DatasetView[]> {
    const rows = await this.db.selectFrom('datasets').selectAll().orderBy('created_at', 'desc').orderBy('id').execute()
    return rows.map((row) => datasetView(datasetOf(row)))
  }

  async insertRun(run: RunRecord, initial: CheckpointRecord): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      await tx
        .insertInto('runs')
        .values(runRow(run) as Insertable<Tables['runs']>)
        .execute()
      await tx.insertInto('checkpoints').values(checkpointRow(initial)).execute()
      if (!run.payment) return
      const { planckPerPflop } = run.payment
      this.ledger.appendNow([{ kind: 'price', run: run.id, planckPerPflop }], run.createdAt)
    })
  }

  async run(id: string): Promise<RunRecord | null> {
    const row = await this.db.selectFrom('runs').selectAll().where('id', '=', id).executeTakeFirst()
    return row ? runOf(row) : null
  }

  async runs(): Promise<RunRecord[]> {
    const rows = await this.db.selectFrom('runs').selectAll().orderBy('created_at', 'desc').orderBy('id').execute()
    return rows.map(runOf)
  }

  async updateRun(id: string, change: Partial<Omit<RunRecord, 'id'>>): Promise<void> {
    const row = runRow(change)
    if (Object.keys(row).length === 0) return
    const result = await this.db.updateTable('runs').set(row).where('id', '=', id).executeTakeFirst()
    if (result.numUpdatedRows === 0n) unknownRun(id)
  }

  async prepareStep(runId: string, prepared: PreparedStep): Promise<void> {
    const { step } = prepared.metric
    const result = await this.db
      .updateTable('runs')
      .set({ prepared: preparedText(prepared) })
      .where('id', '=', runId)
      .where('step', '=', step - 1)
      .executeTakeFirst()
    if (result.numUpdatedRows === 0n) await this.refuseStep(this.db, runId, step)
  }

  async commitStep(...[runId, metric, entries = []]: Parameters<Store['commitStep']>): Promise<void> {
    const { gradNorm, durationMs, ...same } = metric
    await this.db.transaction().execute(async (tx) => {
      const result = await tx
        .updateTable('runs')
        .set({ step: metric.step, prepared: null })
        .where('id', '=', runId)
        .where('step', '=', metric.step - 1)
        .executeTakeFirst()
      if (result.numUpdatedRows === 0n) await this.refuseStep(tx, runId, metric.step)
      const row = { ...same, run_id: runId, grad_norm: gradNorm, duration_ms: durationMs }
      await tx.insertInto('metrics').values(row).execute()
      this.ledger.appendNow(entries, metric.at)
    })
  }

  private async refuseStep(db: Kysely<Tables>, runId: string, step: number): Promise<never> {
    const run = await db.selectFrom('runs').select('step').where('id', '=', runId).executeTakeFirst()
    if (!run) return unknownRun(runId)
    return fail(
      'store.step_order',
      `Step ${step} cannot be committed after step ${run.step}: each step counts exactly once.`,
      'Restart the server; the run goes on from where it stood.',
    )
  }

  async metrics(runId: string): ReturnType<Store['metrics']> {
    const rows = await this.db.selectFrom('metrics').selectAll().where('run_id', '=', runId).orderBy('step').execute()
    return rows.map(metricOf)
  }

  async insertCheckpoint(checkpoint: CheckpointRecord): Promise<void> {
    const row = checkpointRow(checkpoint)
    await this.db
      .insertInto('checkpoints')
      .values(row)
      // A step saved again after a rollback replaces what the voided one left.
      .onConflict((conflict) => conflict.columns(['run_id', 'step']).doUpdateSet(row))
      .execute()
  }

  async latestCheckpoint(runId: string): Promise<CheckpointRecord | null> {
    const row = await this.db
      .selectFrom('checkpoints')
      .selectAll()
      .where('run_id', '=', runId)
      .orderBy('step', 'desc')
      .limit(1)
      .executeTakeFirst()
    return row ? checkpointOf(row) : null
  }

  async checkpoints(runId: string): Promise<CheckpointRecord[]> {
    const query = this.db.selectFrom('checkpoints').selectAll().where('run_id', '=', runId).orderBy('step')
    return (await query.execute()).map(checkpointOf)
  }

  async recut(config: RunConfig, checkpoint: CheckpointRecord): Promise<void> {
    const { runId, step } = checkpoint
    const row = checkpointRow(checkpoint)
    await this.db.transaction().execute(async (tx) => {
      const result = await tx
        .updateTable('runs')
        .set((eb) => ({ config: JSON.stringify(config), generation: eb('generation', '+', 1), prepared: null }))
        .where('id', '=', runId)
        .where('step', '=', step)
        .executeTakeFirst()
      if (result.numUpdatedRows === 0n) {
        const run = await tx.selectFrom('runs').select('step').where('id', '=', runId).executeTakeFirst()
        if (!run) unknownRun(runId)
        fail(
          'store.step_order',
          `The checkpoint of step ${step} cannot be cut anew: the run stands at step ${run!.step}.`,
          'The layers can be cut anew at the next checkpoint.',
        )
      }
      await tx
        .insertInto('checkpoints')
        .values(row)
        .onConflict((conflict) => conflict.columns(['run_id', 'step']).doUpdateSet(row))
        .execute()
    })
  }

  async rollBack(runId: string, toStep: number): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      const result = await tx
        .updateTable('runs')
        .set((eb) => ({ step: toStep, rollbacks: eb('rollbacks', '+', 1), prepared: null }))
        .where('id', '=', runId)
        .executeTakeFirst()
      if (result.numUpdatedRows === 0n) unknownRun(runId)
      await tx.deleteFrom('metrics').where('run_id', '=', runId).where('step', '>', toStep).execute()
      await tx.deleteFrom('checkpoints').where('run_id', '=', runId).where('step', '>', toStep).execute()
    })
  }

  async reserve({ runId, deviceId, stage, at }: Reservation): Promise<void> {
    await this.db
      .insertInto('reservations')
      .values({ run_id: runId, device_id: deviceId, stage, at })
      .onConflict((conflict) => conflict.columns(['run_id', 'device_id']).doUpdateSet({ stage, at }))
      .execute()
  }

  async reservations(runId: string, limit: number): Promise<Map<string, number>> {
    const rows = await this.db
      .selectFrom('reservations')
      .select(['device_id', 'stage'])
      .where('run_id', '=', runId)
      .orderBy('at', 'desc')
      .orderBy('device_id')
      .limit(limit)
      .execute()
    return new Map(rows.map((row) => [row.device_id, row.stage]))
  }

  async dropReservations(runId: string): Promise<void> {
    await this.db.deleteFrom('reservations').where('run_id', '=', runId).execute()
  }

  async addRecovered(runId: string, leases: number): Promise<void> {
    const result = await this.db
      .updateTable('runs')
      .set((eb) => ({ recovered: eb('recovered', '+', leases) }))
      .where('id', '=', runId)
      .executeTakeFirst()
    if (result.numUpdatedRows === 0n) unknownRun(runId)
  }

  async appendEvent(runId: string, event: Parameters<Store['appendEvent']>[1]): Promise<void> {
    const { at, step, text } = event
    await this.db.insertInto('events').values({ run_id: runId, at, step, text }).execute()
  }

  async eventCount(runId: string): Promise<number> {
    const count = this.db.selectFrom('events').where('run_id', '=', runId)
    const row = await count.select((eb) => eb.fn.countAll<number>().as('events')).executeTakeFirstOrThrow()
    return Number(row.events)
  }

  async events(runId: string, limit: number): ReturnType<Store['events']> {
    const rows = await this.db
      .selectFrom('events')
      .select(['at', 'step', 'text'])
      .where('run_id', '=', runId)
      .orderBy('id', 'desc')
      .limit(limit)
      .execute()
    return rows.reverse()
  }

  async close(): Promise<void> {
    await this.db.destroy()
  }
}

/**
 * Opens the file, creating and migrating it as needed; `:memory:` gives a store that ends with the process.
 * @throws SkeinError `store.open` when the file cannot be opened, is no database or comes from a newer version
 */
export async function openSqliteStore(
  path: string,
): Promise<Store & { readonly payouts: PayoutStore; readonly audits: AuditStore; readonly deposits: DepositStore }> {
  let database: Database.Database | undefined
  try {
    database = new Database(path, { timeout: BUSY_MS })
    database.pragma('journal_mode = WAL')
    database.pragma('synchronous = FULL')
    database.pragma('foreign_keys = ON')
    const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database }) })
    const { error } = await new Migrator({ db, provider: migrations }).migrateToLatest()
    if (error) throw error
    return new SqliteStore(db, database)
  } catch (caught) {
    database?.close()
    const why = caught instanceof Error ? caught.message : String(caught)
    throw new SkeinError(
      {
        code: 'store.open',
        message: `The database ${path} cannot be opened: ${why}`,
        remedy: 'Check that the data folder is writable and belongs to this version of Skein, or choose another one.',
      },
      { cause: caught },
    )
  }
}
