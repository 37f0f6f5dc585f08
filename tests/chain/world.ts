/** Owns what the tests of payouts share: a server's database and its payouts, that can be killed at a call and started again. */
import Database from 'better-sqlite3'
import { Kysely, SqliteDialect } from 'kysely'
import { Migrator } from 'kysely/migration'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { blake2AsHex } from '@polkadot/util-crypto'
import type { LocalChain } from '../../server/chain/local/localChain.ts'
import type { Chain, Signer, Transfer } from '../../server/chain/port.ts'
import { migrations } from '../../server/db/migrations.ts'
import type { PayoutTables } from '../../server/db/payoutMigration.ts'
import type { PayoutStore } from '../../server/db/payoutStore.ts'
import { SqlitePayouts } from '../../server/db/sqlitePayouts.ts'
import { Payouts } from '../../server/payouts/payouts.ts'
import type { PayoutLimits, PayoutSource } from '../../server/payouts/types.ts'

export const FINALITY = 2
export const limits: PayoutLimits = { batch: 100, epochCap: null, least: 0n, eraBlocks: 8 }

/** A call that never returns, as for a process that was killed there: not made, or made without its answer being heard. */
export interface Kill {
  of: keyof Chain | keyof PayoutStore
  when: 'before' | 'after'
}

function deadly<T extends object>(port: T, kill: Kill | null, died: () => void): T {
  return new Proxy(port, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown
      if (typeof value !== 'function') return value
      return async (...args: unknown[]) => {
        const doomed = kill !== null && name === kill.of
        if (!doomed || kill.when === 'after') {
          const answer: unknown = await value.apply(target, args)
          if (!doomed) return answer
        }
        died()
        return new Promise(() => {})
      }
    },
  })
}

interface Opened {
  payouts: Payouts
  store: SqlitePayouts
  close(): Promise<void>
}

export interface PaidRow {
  wallet: string
  planck: string
  block: string
  extrinsic: string
}

/** One deployment: what it owes, its database file, and the process that runs now. */
export class World {
  readonly debts: Transfer[]
  readonly #local: LocalChain
  readonly #chain: Chain
  readonly #hot: Signer
  readonly #folder: string
  #opened: Opened | null = null
  dead = false

  private constructor(local: LocalChain, chain: Chain, hot: Signer, folder: string, debts: Transfer[]) {
    this.#local = local
    this.#chain = chain
    this.#hot = hot
    this.#folder = folder
    this.debts = debts
  }

  static async create(local: LocalChain, chain: Chain, hot: Signer, name: string): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), 'skein-payouts-'))
    const debts = Array.from({ length: 5 }, (_, n) => ({
      wallet: blake2AsHex(`${name} ${n}`, 256).slice(2),
      planck: 10n ** 10n * BigInt(n + 1) + BigInt(n) + 7n,
    }))
    return new World(local, chain, hot, folder, debts)
  }

  /** Starts the server's payouts over what the file holds. */
  async start(options: { kill?: Kill; chain?: Chain; limits?: Partial<PayoutLimits> } = {}): Promise<Payouts> {
    const database = new Database(join(this.#folder, 'skein.db'))
    database.pragma('journal_mode = WAL')
    const db = new Kysely<PayoutTables>({ dialect: new SqliteDialect({ database }) })
    const { error } = await new Migrator({ db, provider: migrations }).migrateToLatest()
    if (error) throw error
    database.exec('create table if not exists paid_rows (wallet text, planck text, block text, extrinsic text)')
    const insert = database.prepare('insert into paid_rows values (?, ?, ?, ?)')
    const store = new SqlitePayouts(db, (entries) => {
      for (const { wallet, planck, block, extrinsic } of entries) insert.run(wallet, planck, block, extrinsic)
    })
    const paid = database.prepare('select * from paid_rows')
    const source: PayoutSource = {
      sealed: () => Promise.resolve({ epoch: 1, root: 'cd'.repeat(32) }),
      owed: () => {
        const rows = paid.all() as PaidRow[]
        const got = (wallet: string) =>
          rows.filter((row) => row.wallet === wallet).reduce((sum, row) => sum + BigInt(row.planck), 0n)
        return Promise.resolve(this.debts.map(({ wallet, planck }) => ({ wallet, planck: planck - got(wallet) })))
      },
    }
    this.dead = false
    const kill = options.kill ?? null
    const died = () => (this.dead = true)
    const payouts = new Payouts({
      chain: deadly(options.chain ?? this.#chain, kill, died),
      store: deadly<PayoutStore>(store, kill, died),
      source,
      refunds: null,
      hot: this.#hot,
      limits: { ...limits, ...options.limits },
      now: () => 1_800_000_000_000,
      log: { info: () => {}, error: () => {} },
    })
    this.#opened = {
      payouts,
      store,
      close: async () => {
        if (!this.dead) await payouts.close()
        await db.destroy()
      },
    }
    await payouts.start()
    return payouts
  }

  get payouts(): Payouts {
    return this.#opened!.payouts
  }
  get store(): SqlitePayouts {
    return this.#opened!.store
  }

  /** The process ends, whatever it was at. */
  async end(): Promise<void> {
    await this.#opened?.close()
    this.#opened = null
  }

  /** Waits until the driver has heard of the finalized head and done what followed from it. */
  async catchUp(): Promise<void> {
    const finalized = this.#local.chain.head.number - FINALITY
    const deadline = performance.now() + 20_000
    while (!this.dead && (this.payouts.status().finalized ?? 0) < finalized) {
      if (performance.now() > deadline) throw new Error(`The driver has not heard of block ${finalized}.`)
      await sleep(5)
    }
    while (!this.dead) {
      const quiet = await Promise.race([this.payouts.settled().then(() => true), sleep(50).then(() => false)])
      if (quiet) return
      if (performance.now() > deadline) throw new Error('The driver does not come to rest.')
    }
  }

  /** Builds blocks until `done`, at most `blocks` of them. */
  async advance(blocks: number, done: () => boolean | Promise<boolean> = () => false): Promise<void> {
    await this.catchUp()
    for (let n = 0; n < blocks && !this.dead && !(await done()); n++) {
      await this.#local.build(1)
      await this.catchUp()
    }
  }

  async isPaid(): Promise<boolean> {
    return (await this.states()).includes('paid')
  }
  /** Oldest first. */
  async states(): Promise<string[]> {
    return (await this.store.batches(50, null, null)).map(({ state }) => state).reverse()
  }
  rows(): PaidRow[] {
    const database = new Database(join(this.#folder, 'skein.db'), { readonly: true })
    const rows = database.prepare('select * from paid_rows order by rowid').all() as PaidRow[]
    database.close()
    return rows
  }

  async remove(): Promise<void> {
    await this.end()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
