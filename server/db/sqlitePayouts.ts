/** Owns payouts in SQLite. */
import { sql } from 'kysely'
import type { Kysely, Selectable, SelectQueryBuilder, Transaction } from 'kysely'
import { fail } from '../../src/protocol/errors.ts'
import type { Hex, Inclusion, WalletId } from '../chain/port.ts'
import type { Attempt, Batch, BatchDraft, BatchState, PaidEntry } from '../payouts/types.ts'
import type { PayoutTables } from './payoutMigration.ts'
import type { BatchRecord, PayoutStore } from './payoutStore.ts'

/** Rows of one insert: SQLite bounds the parameters of a statement. */
const ROWS_AT_ONCE = 500

/** Appends to the ledger inside the transaction that is open on the same connection. */
export type AppendPaid = (entries: readonly PaidEntry[], at: number) => void

const refuse = (batchId: number, what: string) =>
  fail(
    'payout.state',
    `Batch ${batchId} cannot be ${what}: it is not in the state that this follows.`,
    'Let one server alone use this database; started again, it goes on from what is there.',
  )

const attemptOf = (row: Selectable<PayoutTables['payout_attempts']>): Attempt => ({
  number: row.number,
  bytes: row.bytes as Hex,
  hash: row.hash as Hex,
  nonce: row.nonce,
  birth: { number: row.birth_number, hash: row.birth_hash as Hex },
  death: row.death,
  specVersion: row.spec_version,
})

type Change = Partial<Selectable<PayoutTables['payout_batches']>>
type BatchRow = Selectable<PayoutTables['payout_batches']>
type Tx = Transaction<PayoutTables>

export class SqlitePayouts implements PayoutStore {
  readonly #db: Kysely<PayoutTables>
  readonly #append: AppendPaid

  constructor(db: Kysely<PayoutTables>, append: AppendPaid) {
    this.#db = db
    this.#append = append
  }

  async open(): Promise<Batch | null> {
    const row = await this.#db.selectFrom('payout_batches').selectAll().where('open', '=', 1).executeTakeFirst()
    if (!row) return null
    const transfers = await this.#db
      .selectFrom('payout_transfers')
      .select(['wallet', 'planck'])
      .where('batch_id', '=', row.id)
      .orderBy('position')
      .execute()
    const last = await this.#attempts(this.#db).where('batch_id', '=', row.id).executeTakeFirst()
    return {
      id: row.id,
      epoch: row.epoch,
      root: row.root,
      genesis: row.genesis as Hex,
      hot: row.hot,
      refund: row.run_id === null ? null : { run: row.run_id, from: row.hot, rest: row.rest! },
      transfers: transfers.map(({ wallet, planck }) => ({ wallet, planck: BigInt(planck) })),
      attempts: last?.number ?? 0,
      attempt: last && last.expired_at === null ? attemptOf(last) : null,
    }
  }

  async disputed(): Promise<number | null> {
    const rows = this.#db.selectFrom('payout_batches').select('id').where('state', '=', 'disputed')
    return (await rows.orderBy('id').limit(1).executeTakeFirst())?.id ?? null
  }

  async freeze(draft: BatchDraft, payer: { genesis: Hex; hot: WalletId }, at: number): Promise<Batch> {
    const { epoch, root, transfers, refund } = draft
    const total = transfers.reduce((sum, { planck }) => sum + planck, 0n)
    const id = await this.#db.transaction().execute(async (tx) => {
      const other = await tx.selectFrom('payout_batches').select('id').where('open', '=', 1).executeTakeFirst()
      if (other) refuse(other.id, 'followed by another one')
      const row = { ...payer, epoch, root, total: String(total), state: 'frozen', open: 1, detail: '' }
      const whose = { run_id: refund?.run ?? null, rest: refund?.rest ?? null }
      const made = await tx
        .insertInto('payout_batches')
        .values({ ...row, ...whose, created_at: at, changed_at: at })
        .returning('id')
        .executeTakeFirstOrThrow()
      const rows = transfers.map(({ wallet, planck }, position) => ({
        batch_id: made.id,
        position,
        wallet,
        planck: String(planck),
      }))
      for (let start = 0; start < rows.length; start += ROWS_AT_ONCE)
        await tx
          .insertInto('payout_transfers')
          .values(rows.slice(start, start + ROWS_AT_ONCE))
          .execute()
      return made.id
    })
    return { ...draft, ...payer, id, attempts: 0, attempt: null }
  }

  async addAttempt(batchId: number, attempt: Attempt, at: number): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      const last = await this.#attempts(tx).where('batch_id', '=', batchId).executeTakeFirst()
      const follows = last ? last.expired_at !== null && attempt.number === last.number + 1 : attempt.number === 1
      if (!follows) refuse(batchId, 'signed again')
      await this.#change(tx, batchId, 'signed', { changed_at: at })
      await tx
        .insertInto('payout_attempts')
        .values({
          batch_id: batchId,
          number: attempt.number,
          bytes: attempt.bytes,
          hash: attempt.hash,
          nonce: attempt.nonce,
          birth_number: attempt.birth.number,
          birth_hash: attempt.birth.hash,
          death: attempt.death,
          spec_version: attempt.specVersion,
          signed_at: at,
          expired_at: null,
        })
        .execute()
    })
  }

  async expire(batchId: number, attempt: number, at: number): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      await this.#change(tx, batchId, 'signed again', { changed_at: at })
      const result = await tx
        .updateTable('payout_attempts')
        .set({ expired_at: at })
        .where('batch_id', '=', batchId)
        .where('number', '=', attempt)
        .where('expired_at', 'is', null)
        .executeTakeFirst()
      if (result.numUpdatedRows === 0n) refuse(batchId, 'signed again')
    })
  }

  async settle(
    batchId: number,
    attempt: Attempt,
    inclusion: Inclusion,
    entries: readonly PaidEntry[],
    at: number,
  ): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      const last = await this.#attempts(tx).where('batch_id', '=', batchId).executeTakeFirst()
      if (!last || last.expired_at !== null || last.hash !== attempt.hash) refuse(batchId, 'paid')
      const found = { ...where(inclusion), extrinsic_hash: attempt.hash }
      await this.#change(tx, batchId, 'paid', { ...found, state: 'paid', open: null, detail: '', changed_at: at })
      this.#append(entries, at)
    })
  }

  async release(batchId: number, reason: string, inclusion: Inclusion | null, at: number): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      const last = await this.#attempts(tx).where('batch_id', '=', batchId).executeTakeFirst()
      if (inclusion === null && last && last.expired_at === null) refuse(batchId, 'released')
      const found = inclusion ? { ...where(inclusion), extrinsic_hash: last?.hash ?? null } : {}
      const change = { ...found, state: 'released', open: null, detail: reason, changed_at: at }
      await this.#change(tx, batchId, 'released', change)
    })
  }

  async dispute(batchId: number, reason: string, inclusion: Inclusion | null, at: number): Promise<void> {
    const found = inclusion ? where(inclusion) : {}
    const change = { ...found, state: 'disputed', open: null, detail: reason, changed_at: at }
    await this.#db.transaction().execute((tx) => this.#change(tx, batchId, 'disputed', change))
  }

  async frozenInEpoch(epoch: number): Promise<bigint> {
    const rows = await this.#db
      .selectFrom('payout_batches')
      .select('total')
      .where('epoch', '=', epoch)
      .where('run_id', 'is', null)
      .where('state', '!=', 'released')
      .execute()
    return rows.reduce((sum, { total }) => sum + BigInt(total), 0n)
  }

  async frozen(): Promise<Map<WalletId, bigint>> {
    const rows = await this.#db
      .selectFrom('payout_transfers')
      .innerJoin('payout_batches', 'payout_batches.id', 'payout_transfers.batch_id')
      .select(['wallet', 'planck'])
      .where('state', 'in', ['frozen', 'disputed'])
      .where('run_id', 'is', null)
      .execute()
    const frozen = new Map<WalletId, bigint>()
    for (const { wallet, planck } of rows) frozen.set(wallet, (frozen.get(wallet) ?? 0n) + BigInt(planck))
    return frozen
  }

  async batches(limit: number, before: number | null, wallet: WalletId | null): Promise<BatchRecord[]> {
    let query = this.#db.selectFrom('payout_batches').selectAll().orderBy('id', 'desc').limit(limit)
    if (before !== null) query = query.where('id', '<', before)
    if (wallet !== null)
      query = query.where('id', 'in', (eb) =>
        eb.selectFrom('payout_transfers').select('batch_id').where('wallet', '=', wallet),
      )
    return this.#records(query)
  }

  async refundsOf(runId: string): Promise<BatchRecord[]> {
    const query = this.#db.selectFrom('payout_batches').selectAll().where('run_id', '=', runId).orderBy('id')
    return this.#records(query.where('state', '!=', 'released'))
  }

  async #records(query: SelectQueryBuilder<PayoutTables, 'payout_batches', BatchRow>): Promise<BatchRecord[]> {
    const counts = sql<number>`(select count(*) from payout_transfers where batch_id = payout_batches.id)`
    const rows = await query.select(counts.as('transfers')).execute()
    return Promise.all(
      rows.map(async (row) => {
        const last = await this.#attempts(this.#db).where('batch_id', '=', row.id).executeTakeFirst()
        return {
          id: row.id,
          epoch: row.epoch,
          root: row.root,
          run: row.run_id,
          state: row.state as BatchState,
          detail: row.detail,
          total: BigInt(row.total),
          transfers: row.transfers,
          attempts: last?.number ?? 0,
          lastAttempt: last ? { hash: last.hash as Hex, nonce: last.nonce, death: last.death } : null,
          block: row.block_hash === null ? null : { number: row.block_number!, hash: row.block_hash as Hex },
          extrinsic: row.extrinsic_hash as Hex | null,
          createdAt: row.created_at,
          changedAt: row.changed_at,
        }
      }),
    )
  }

  async amountsOf(wallet: WalletId, batches: readonly number[]): Promise<Map<number, bigint>> {
    if (batches.length === 0) return new Map()
    const rows = await this.#db
      .selectFrom('payout_transfers')
      .select(['batch_id', 'planck'])
      .where('wallet', '=', wallet)
      .where('batch_id', 'in', batches)
      .execute()
    return new Map(rows.map((row) => [row.batch_id, BigInt(row.planck)]))
  }

  /** Newest first. */
  #attempts(db: Kysely<PayoutTables>) {
    return db.selectFrom('payout_attempts').selectAll().orderBy('number', 'desc').limit(1)
  }

  /** Changes a batch that is frozen, and no other. */
  async #change(tx: Tx, batchId: number, what: string, change: Change): Promise<void> {
    const result = await tx
      .updateTable('payout_batches')
      .set(change)
      .where('id', '=', batchId)
      .where('open', '=', 1)
      .executeTakeFirst()
    if (result.numUpdatedRows === 0n) refuse(batchId, what)
  }
}

const where = ({ block }: Inclusion) => ({ block_number: block.number, block_hash: block.hash })
