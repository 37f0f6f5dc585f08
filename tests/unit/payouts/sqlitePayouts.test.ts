/** Owns the proof that the SQLite store of payouts complies, over a ledger that is played. */
import Database from 'better-sqlite3'
import { Kysely, SqliteDialect } from 'kysely'
import { Migrator } from 'kysely/migration'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { migrations } from '../../../server/db/migrations.ts'
import type { PayoutTables } from '../../../server/db/payoutMigration.ts'
import { SqlitePayouts } from '../../../server/db/sqlitePayouts.ts'
import type { PaidEntry } from '../../../server/payouts/types.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { describeDepositStore } from './deposits.compliance.ts'
import { describePayoutStore } from './payoutStore.compliance.ts'

describePayoutStore('the SQLite store of payouts', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skein-payouts-'))
  const closers: (() => Promise<void>)[] = []
  let broken = false
  let ledger = (): PaidEntry[] => []
  const open = async () => {
    const database = new Database(join(folder, 'skein.db'))
    const db = new Kysely<PayoutTables>({ dialect: new SqliteDialect({ database }) })
    closers.push(() => db.destroy())
    const { error } = await new Migrator({ db, provider: migrations }).migrateToLatest()
    if (error) throw error
    database.exec('create table if not exists ledger_rows (entry text)')
    ledger = () =>
      (database.prepare('select entry from ledger_rows').pluck().all() as string[]).map(
        (row) => JSON.parse(row) as PaidEntry,
      )
    return new SqlitePayouts(db, (entries) => {
      const insert = database.prepare('insert into ledger_rows values (?)')
      for (const entry of entries) insert.run(JSON.stringify(entry))
      if (broken) throw new Error('the ledger refuses')
    })
  }
  return {
    store: await open(),
    ledger: () => ledger(),
    breakLedger: () => (broken = true),
    reopen: open,
    clean: async () => {
      for (const close of closers) await close()
      await rm(folder, { recursive: true })
    },
  }
})

describeDepositStore('the SQLite store of deposits', async () => (await openSqliteStore(':memory:')).deposits)
