/** Owns what of a run's record decides what it can pay for. */
import { stepCredit } from '../../src/model/credit.ts'
import { fail } from '../../src/protocol/errors.ts'
import type { Payment } from '../../src/protocol/payment.ts'
import type { RunRecord } from '../db/store.ts'
import type { Purse } from '../orchestrator/types.ts'

/** @param credit all that was earned in the run */
export function purseFor({ payment, config }: RunRecord, credit: bigint): Purse | null {
  if (!payment) return null
  const [planckPerPflop, budget] = [BigInt(payment.planckPerPflop), BigInt(payment.budget)]
  return { planckPerPflop, budget, credit, stepCredit: stepCredit(config) }
}

/** @param budget in all, in planck. @throws SkeinError `run.unpaid`, `run.budget_lowered` */
export function raised({ name, payment }: Pick<RunRecord, 'name' | 'payment'>, budget: string): Payment {
  if (!payment)
    return fail('run.unpaid', `Run ${name} pays nobody.`, 'Launch a run with a price for its work and a budget.')
  if (BigInt(budget) >= BigInt(payment.budget)) return { ...payment, budget }
  return fail(
    'run.budget_lowered',
    `The budget is ${payment.budget} planck; it can be raised and not lowered.`,
    'Cancel the run to spend no more.',
  )
}
