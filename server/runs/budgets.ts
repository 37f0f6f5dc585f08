/** Owns what runs have to spend: what is offered at launch, raised and deposited, each durable before the run hears of it. */
import type { RunState } from '../../src/protocol/api.ts'
import { fail } from '../../src/protocol/errors.ts'
import { costOf, type Payment } from '../../src/protocol/payment.ts'
import type { BatchState } from '../payouts/types.ts'
import type { EndedRun } from '../payouts/refund.ts'
import type { RunPayment, RunRecord, Store } from '../db/store.ts'
import type { Purse } from '../orchestrator/types.ts'
import type { BooksOptions } from './books.ts'
import type { Outbox } from './outbox.ts'
import { deposited, purseFor, raised, spendable } from './purse.ts'

/** Ended runs whose addresses are still looked at, the newest ones. */
const ENDED_WATCHED = 500

const hasEnded = (state: RunState) => state === 'finished' || state === 'cancelled' || state === 'failed'

/** What became of a deposit that was not spent. */
export type Refunds = { state: BatchState; block: number | null; extrinsic: string | null }[]

/** Where runs that pay get their money from. */
export interface DepositAddresses {
  /** Null where there is no chain to be paid on: then the budget is believed. */
  walletFor: (runId: string) => Promise<string | null>
  /** Null while the chain's way of writing addresses is not known. */
  addressOf: (wallet: string) => string | null
  refundsOf: (runId: string) => Promise<Refunds>
}

export interface BudgetsOptions {
  store: Store
  /** All credit that the ledger has for a run. @throws SkeinError `ledger.fault` */
  creditOf: (runId: string) => Promise<bigint>
  deposits: DepositAddresses
  log: BooksOptions['log']
}

export class Budgets {
  readonly #options: BudgetsOptions
  readonly #outbox: Outbox

  constructor(options: BudgetsOptions, outbox: Outbox) {
    this.#options = options
    this.#outbox = outbox
  }

  /** With a deposit address that holds nothing yet, where there is a chain. */
  async offered(runId: string, payment: Payment | undefined): Promise<RunPayment | null> {
    if (!payment) return null
    const wallet = await this.#options.deposits.walletFor(runId)
    return { ...payment, deposit: wallet === null ? null : { wallet, held: '0' } }
  }

  /** `unknown` while the ledger cannot tell what is spent: such a run might spend what it has not. */
  async purseOf(run: RunRecord): Promise<Purse | null | 'unknown'> {
    if (!run.payment) return null
    try {
      return purseFor(run, await this.#options.creditOf(run.id))
    } catch (caught) {
      this.#options.log.error({ err: caught, runId: run.id }, 'a run that pays is not taken up')
      return 'unknown'
    }
  }

  /**
   * @param budget in all, in planck
   * @returns what the run can spend from then on. @throws SkeinError `run.unpaid`, `run.budget_lowered`
   */
  async raise(runId: string, budget: string): Promise<bigint> {
    return (await this.#change(runId, (run) => raised(run, budget)))!
  }

  /** What a finalized block says that the address holds. @returns what the run can spend; null where that is nothing new */
  deposited(runId: string, planck: bigint): Promise<bigint | null> {
    return this.#change(runId, (run) => deposited(run, planck))
  }

  /** Those of the runs whose money comes to an address of their own. */
  async depositors(runIds: Iterable<string>): Promise<{ runId: string; wallet: string }[]> {
    const runs = await Promise.all([...runIds].map((id) => this.#options.store.run(id)))
    return runs.flatMap((run) => (run?.payment?.deposit ? [{ runId: run.id, wallet: run.payment.deposit.wallet }] : []))
  }

  /** Runs that have ended and whose money came to an address of their own, the newest first, with what was earned in each. */
  async ended(): Promise<EndedRun[]> {
    const runs = (await this.#options.store.runs()).filter(({ state, payment }) => payment?.deposit && hasEnded(state))
    return Promise.all(
      runs.slice(0, ENDED_WATCHED).map(async ({ id, payment }) => ({
        runId: id,
        wallet: payment!.deposit!.wallet,
        spent: costOf(await this.#options.creditOf(id), BigInt(payment!.planckPerPflop)),
      })),
    )
  }

  #change(runId: string, change: (run: RunRecord) => RunPayment | null): Promise<bigint | null> {
    const { store } = this.#options
    return this.#outbox.write(runId, async () => {
      const run = await store.run(runId)
      if (!run) return fail('run.unknown', `There is no run ${runId}.`, 'The list of runs has the ids that exist.')
      const payment = change(run)
      if (payment) await store.updateRun(runId, { payment })
      return payment && spendable(payment)
    })
  }
}
