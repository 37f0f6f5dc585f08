/** Owns what of a run's record decides what it can pay for. */
import { stepCredit } from '../../src/model/credit.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { RunPayment, RunRecord } from '../db/store.ts'
import type { Purse } from '../orchestrator/types.ts'

/** @param credit all that was earned in the run */
export function purseFor({ payment, config }: RunRecord, credit: bigint): Purse | null {
  if (!payment) return null
  const { planckPerPflop, deposit } = payment
  const purse = { credit, stepCredit: stepCredit(config), deposited: deposit !== null }
  return { ...purse, planckPerPflop: BigInt(planckPerPflop), budget: spendable(payment) }
}

/** Planck in all: the budget, as far as it has been deposited where it has to be. */
export function spendable({ budget, deposit }: RunPayment): bigint {
  const most = BigInt(budget)
  return deposit !== null && BigInt(deposit.held) < most ? BigInt(deposit.held) : most
}

/**
 * What a finalized block says of the deposit address. Less than before means that the money was moved to where payouts come
 * from, and not that it was never there. @returns null where that is nothing new
 */
export function deposited({ payment }: Pick<RunRecord, 'payment'>, planck: bigint): RunPayment | null {
  if (!payment?.deposit || planck <= BigInt(payment.deposit.held)) return null
  return { ...payment, deposit: { ...payment.deposit, held: String(planck) } }
}

/** @param budget in all, in planck. @throws SkeinError `run.unpaid`, `run.budget_lowered` */
export function raised({ name, payment }: Pick<RunRecord, 'name' | 'payment'>, budget: string): RunPayment {
  if (!payment)
    return fail('run.unpaid', `Run ${name} pays nobody.`, 'Launch a run with a price for its work and a budget.')
  if (BigInt(budget) >= BigInt(payment.budget)) return { ...payment, budget }
  return fail(
    'run.budget_lowered',
    `The budget is ${payment.budget} planck; it can be raised and not lowered.`,
    'Cancel the run to spend no more.',
  )
}
