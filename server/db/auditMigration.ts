/** Owns the tables of audits: what is known of devices, every audit that was drawn, convictions, and the operator's incidents. */
import { sql } from 'kysely'
import type { Generated, Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'

export const audits: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema
      .createTable('audit_standings')
      .addColumn('device', 'text', (c) => c.primaryKey())
      .addColumn('passed', 'integer', (c) => c.notNull())
      .addColumn('convictions', 'integer', (c) => c.notNull())
      .addColumn('shut_until', 'integer', (c) => c.notNull())
      .addColumn('watched', 'integer', (c) => c.notNull())
      .addColumn('unshown', 'integer', (c) => c.notNull())
      .addColumn('cleared', 'text', (c) => c.notNull().check(sql`json_valid(cleared)`))
      .execute()
    await db.schema
      .createTable('audits')
      .addColumn('number', 'integer', (c) => c.primaryKey().autoIncrement())
      .addColumn('id', 'text', (c) => c.notNull().unique())
      .addColumn('run_id', 'text', (c) => c.notNull().references('runs.id').onDelete('cascade'))
      .addColumn('generation', 'integer', (c) => c.notNull())
      .addColumn('step', 'integer', (c) => c.notNull())
      .addColumn('stage', 'integer', (c) => c.notNull())
      .addColumn('claimant', 'text', (c) => c.notNull())
      .addColumn('receipt', 'text', (c) => c.notNull())
      .addColumn('microbatches', 'integer', (c) => c.notNull())
      .addColumn('shown', 'text', (c) => c.notNull().check(sql`json_valid(shown)`))
      .addColumn('credit', 'text', (c) => c.notNull())
      .addColumn('opened_at', 'integer', (c) => c.notNull())
      .addColumn('closed_at', 'integer')
      .addColumn('verdict', 'text', (c) =>
        c.check(sql`(verdict is null) = (closed_at is null) and verdict in ('passed', 'convicted', 'open')`),
      )
      .addColumn('reason', 'text', (c) => c.notNull())
      .addColumn('jurors', 'text', (c) => c.notNull().check(sql`json_valid(jurors)`))
      .addColumn('distances', 'text', (c) => c.notNull().check(sql`json_valid(distances)`))
      .execute()
    await db.schema.createIndex('audits_by_run').on('audits').columns(['run_id', 'number']).execute()
    await db.schema.createIndex('audits_by_claimant').on('audits').columns(['claimant', 'number']).execute()
    await db.schema
      .createIndex('audits_open')
      .on('audits')
      .column('number')
      .where(sql.ref('verdict'), 'is', null)
      .execute()
    await db.schema
      .createTable('audit_convictions')
      .addColumn('number', 'integer', (c) => c.primaryKey().autoIncrement())
      .addColumn('audit', 'text', (c) => c.notNull().references('audits.id').onDelete('cascade'))
      .addColumn('device', 'text', (c) => c.notNull())
      .addColumn('run_id', 'text', (c) => c.notNull())
      .addColumn('from_step', 'integer', (c) => c.notNull())
      .addColumn('to_step', 'integer', (c) => c.notNull())
      .addColumn('at', 'integer', (c) => c.notNull())
      .addColumn('reason', 'text', (c) => c.notNull())
      .addColumn('waived_at', 'integer')
      .execute()
    await db.schema
      .createIndex('audit_convictions_by_device')
      .on('audit_convictions')
      .columns(['device', 'at'])
      .execute()
    await db.schema
      .createTable('audit_incidents')
      .addColumn('number', 'integer', (c) => c.primaryKey().autoIncrement())
      .addColumn('reason', 'text', (c) => c.notNull())
      .addColumn('since', 'integer', (c) => c.notNull())
      .addColumn('declared_at', 'integer', (c) => c.notNull())
      .addColumn('ended_at', 'integer')
      .execute()
  },
}

/** The tables as Kysely sees them. */
export interface AuditTables {
  audit_standings: {
    device: string
    passed: number
    convictions: number
    /** Unix milliseconds; 0 when it never was. */
    shut_until: number
    watched: number
    unshown: number
    /** JSON: by run, the last step whose claim passed. */
    cleared: string
  }
  audits: {
    number: Generated<number>
    id: string
    run_id: string
    generation: number
    step: number
    stage: number
    claimant: string
    receipt: string
    microbatches: number
    /** JSON of a `Drawn`. */
    shown: string
    /** FLOPs in decimal, of one recomputation. */
    credit: string
    opened_at: number
    closed_at: number | null
    verdict: string | null
    reason: string
    /** JSON of `AuditJuror[]`. */
    jurors: string
    /** JSON of `AuditDistance[]`. */
    distances: string
  }
  audit_convictions: {
    number: Generated<number>
    audit: string
    device: string
    run_id: string
    from_step: number
    to_step: number
    at: number
    reason: string
    waived_at: number | null
  }
  audit_incidents: {
    number: Generated<number>
    reason: string
    since: number
    declared_at: number
    ended_at: number | null
  }
}
