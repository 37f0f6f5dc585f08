/** Owns audits in the embedded database. */
import { sql } from 'kysely'
import type { Kysely, Selectable, SelectQueryBuilder, Transaction } from 'kysely'
import { z } from 'zod'
import {
  auditDistanceSchema,
  auditJurorSchema,
  auditVerdictSchema,
  auditViewSchema,
} from '../../src/protocol/auditApi.ts'
import type { AuditView, Incident } from '../../src/protocol/auditApi.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { LedgerEntry } from '../../src/protocol/ledger.ts'
import type { Conviction, Standing } from '../audits/types.ts'
import type { AuditTables } from './auditMigration.ts'
import type { AuditFilter, AuditStore, AuditTotals, Closing, NewAudit, Waiving } from './auditStore.ts'
import { readJson } from './rows.ts'

/** Runs of which a device's last clear step is kept, those audited last. */
const CLEARED_KEPT = 64

const clearedSchema = z.record(z.string(), z.int())

/** Appends to the ledger inside the transaction that is open on the same connection. @throws SkeinError `ledger.moved` */
export type AppendVerdict = (entries: readonly LedgerEntry[], at: number, after: number) => void

type Tx = Transaction<AuditTables>

export class SqliteAudits implements AuditStore {
  readonly #db: Kysely<AuditTables>
  readonly #append: AppendVerdict

  constructor(db: Kysely<AuditTables>, append: AppendVerdict) {
    this.#db = db
    this.#append = append
  }

  async standings(): Promise<Map<string, Standing>> {
    const rows = await this.#db.selectFrom('audit_standings').selectAll().execute()
    return new Map(rows.map((row) => [row.device, standingOf(row)]))
  }

  async convictions(): Promise<Conviction[]> {
    const rows = await this.#db
      .selectFrom('audit_convictions')
      .selectAll()
      .where('waived_at', 'is', null)
      .orderBy('number')
      .execute()
    return rows.map(({ device, run_id: run, from_step: fromStep, to_step: toStep, at, reason }) => ({
      device,
      run,
      fromStep,
      toStep,
      at,
      reason,
    }))
  }

  async incident(): Promise<Incident | null> {
    const row = await this.#db
      .selectFrom('audit_incidents')
      .select(['reason', 'since', 'declared_at'])
      .where('ended_at', 'is', null)
      .orderBy('number', 'desc')
      .executeTakeFirst()
    return row ? { reason: row.reason, since: row.since, declaredAt: row.declared_at } : null
  }

  async open(audit: NewAudit): Promise<void> {
    const { run, shown, openedAt, ...same } = audit
    const row = { ...same, run_id: run, shown: JSON.stringify(shown), opened_at: openedAt }
    await this.#db
      .insertInto('audits')
      .values({ ...row, closed_at: null, verdict: null, reason: '', jurors: '[]', distances: '[]' })
      .execute()
  }

  async close(closing: Closing): Promise<void> {
    const { id, verdict, reason, jurors, distances, standings, convictions, entries, at, after } = closing
    const row = { verdict, reason, closed_at: at, jurors: JSON.stringify(jurors), distances: JSON.stringify(distances) }
    await this.#db.transaction().execute(async (tx) => {
      const result = await tx
        .updateTable('audits')
        .set(row)
        .where('id', '=', id)
        .where('verdict', 'is', null)
        .executeTakeFirst()
      if (result.numUpdatedRows === 0n)
        fail('audit.closed', `Audit ${id} is not under way.`, 'Nothing to do: what was decided first stands.')
      await keep(tx, standings)
      for (const { run, fromStep, toStep, ...same } of convictions)
        await tx
          .insertInto('audit_convictions')
          .values({ ...same, audit: id, run_id: run, from_step: fromStep, to_step: toStep, waived_at: null })
          .execute()
      if (entries.length > 0) this.#append(entries, at, after)
    })
  }

  async keepStandings(standings: ReadonlyMap<string, Standing>): Promise<void> {
    await this.#db.transaction().execute((tx) => keep(tx, standings))
  }

  async interrupt(reason: string, at: number): Promise<string[]> {
    return this.#db.transaction().execute(async (tx) => {
      const rows = await tx.selectFrom('audits').select('claimant').where('verdict', 'is', null).execute()
      const row = { verdict: 'open', reason, closed_at: at }
      await tx.updateTable('audits').set(row).where('verdict', 'is', null).execute()
      return [...new Set(rows.map(({ claimant }) => claimant))]
    })
  }

  async declareIncident({ reason, since, declaredAt }: Incident): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      await tx.updateTable('audit_incidents').set({ ended_at: declaredAt }).where('ended_at', 'is', null).execute()
      const row = { reason, since, declared_at: declaredAt, ended_at: null }
      await tx.insertInto('audit_incidents').values(row).execute()
    })
  }

  async endIncident(at: number): Promise<void> {
    await this.#db.updateTable('audit_incidents').set({ ended_at: at }).where('ended_at', 'is', null).execute()
  }

  async waive({ standings, since, entries, at, after }: Waiving): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      await keep(tx, standings)
      for (const device of standings.keys())
        await tx
          .updateTable('audit_convictions')
          .set({ waived_at: at })
          .where('device', '=', device)
          .where('at', '>=', since)
          .where('waived_at', 'is', null)
          .execute()
      if (entries.length > 0) this.#append(entries, at, after)
    })
  }

  async audits(filter: AuditFilter, before: number | null, limit: number): Promise<AuditView[]> {
    let query = filtered(this.#db.selectFrom('audits').selectAll(), filter)
    if (before !== null) query = query.where('number', '<', before)
    return (await query.orderBy('number', 'desc').limit(limit).execute()).map(viewOf)
  }

  async totals(filter: AuditFilter): Promise<AuditTotals> {
    const of = (verdict: string) => sql<number>`coalesce(sum(verdict = ${verdict}), 0)`
    const counted = await filtered(this.#db.selectFrom('audits'), filter)
      .select((eb) => eb.fn.countAll<number>().as('audits'))
      .select([of('passed').as('passed'), of('convicted').as('convicted'), of('open').as('open')])
      .executeTakeFirstOrThrow()
    // Recomputations of one size are counted together: FLOPs are beyond what SQLite adds up exactly.
    const answered = sql<number>`(select count(*) from json_each(jurors) where json_extract(value, '$.answered'))`
    const sizes = await filtered(this.#db.selectFrom('audits'), filter)
      .select(['credit', sql<number>`sum(${answered})`.as('times')])
      .groupBy('credit')
      .execute()
    const recomputed = sizes.reduce((sum, { credit, times }) => sum + BigInt(credit) * BigInt(times), 0n)
    const { audits, passed, convicted, open } = counted
    return { audits: Number(audits), passed, convicted, open, recomputed }
  }
}

function filtered<O>(
  query: SelectQueryBuilder<AuditTables, 'audits', O>,
  { run, device }: AuditFilter,
): SelectQueryBuilder<AuditTables, 'audits', O> {
  let chosen = query
  if (run !== null) chosen = chosen.where('run_id', '=', run)
  if (device !== null) chosen = chosen.where('claimant', '=', device)
  return chosen
}

async function keep(tx: Tx, standings: ReadonlyMap<string, Standing>): Promise<void> {
  for (const [device, { passed, convictions, shutUntil, watched, unshown, cleared }] of standings) {
    const row = {
      ...{ passed, convictions, watched, unshown, shut_until: shutUntil },
      cleared: JSON.stringify(Object.fromEntries([...cleared].slice(-CLEARED_KEPT))),
    }
    await tx
      .insertInto('audit_standings')
      .values({ device, ...row })
      .onConflict((conflict) => conflict.column('device').doUpdateSet(row))
      .execute()
  }
}

function standingOf(row: Selectable<AuditTables['audit_standings']>): Standing {
  const { device, passed, convictions, watched, unshown } = row
  const cleared = readJson(clearedSchema, row.cleared, `What device ${device} is cleared of`)
  return { passed, convictions, watched, unshown, shutUntil: row.shut_until, cleared: new Map(Object.entries(cleared)) }
}

function viewOf(row: Selectable<AuditTables['audits']>): AuditView {
  const { number, id, generation, step, stage, claimant, receipt, microbatches, credit, reason } = row
  const what = `Audit ${id}`
  return {
    ...{ number, id, generation, step, stage, claimant, receipt, microbatches, credit, reason },
    run: row.run_id,
    shown: readJson(auditViewSchema.shape.shown, row.shown, what),
    jurors: readJson(z.array(auditJurorSchema), row.jurors, what),
    distances: readJson(z.array(auditDistanceSchema), row.distances, what),
    verdict: row.verdict === null ? null : auditVerdictSchema.parse(row.verdict),
    openedAt: row.opened_at,
    closedAt: row.closed_at,
  }
}
