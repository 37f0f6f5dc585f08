/** Owns deposits in SQLite: who sent what to the addresses of runs. */
import type { Kysely } from 'kysely'
import type { Transfer, WalletId } from '../chain/port.ts'
import type { DepositRecord, DepositStore } from './depositStore.ts'
import type { RefundTables } from './refundMigration.ts'

export class SqliteDeposits implements DepositStore {
  readonly #db: Kysely<RefundTables>

  constructor(db: Kysely<RefundTables>) {
    this.#db = db
  }

  async scanned(): Promise<number | null> {
    return (await this.#db.selectFrom('deposit_scan').select('block').executeTakeFirst())?.block ?? null
  }

  async record(block: number, deposits: readonly DepositRecord[]): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      for (const { wallet, from: sender, planck, position } of deposits)
        await tx
          .insertInto('deposits')
          .values({ wallet, sender, planck: String(planck), block, position })
          .onConflict((conflict) => conflict.doNothing())
          .execute()
      await tx
        .insertInto('deposit_scan')
        .values({ id: 1, block })
        .onConflict((conflict) => conflict.column('id').doUpdateSet({ block }))
        .execute()
    })
  }

  async senders(wallet: WalletId, after: number): Promise<Transfer[]> {
    const rows = await this.#db
      .selectFrom('deposits')
      .select(['sender', 'planck'])
      .where('wallet', '=', wallet)
      .where('block', '>', after)
      .orderBy('block')
      .orderBy('position')
      .execute()
    const sums = new Map<WalletId, bigint>()
    for (const { sender, planck } of rows) sums.set(sender, (sums.get(sender) ?? 0n) + BigInt(planck))
    return [...sums].map(([sender, planck]) => ({ wallet: sender, planck }))
  }
}
