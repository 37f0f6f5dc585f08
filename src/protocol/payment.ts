/** Owns what a run pays for its work: the price of credit, the budget, and what of it is spent. */
import { z } from 'zod'
import { planckSchema } from './ledger.ts'

/** In the chain's smallest unit, as decimal strings. */
export const paymentSchema = z.strictObject({
  /** For 10^15 model FLOPs of accepted work, fixed at launch. */
  planckPerPflop: planckSchema.refine((planck) => planck !== '0', 'must be more than 0'),
  /** What the run may cost in all; no step begins that could cost more than is left of it. */
  budget: planckSchema,
})
export type Payment = z.infer<typeof paymentSchema>

/** What `POST /api/v1/runs/:id/budget` takes: the new total, not what is added. */
export const budgetRequestSchema = paymentSchema.pick({ budget: true })

export const paymentViewSchema = paymentSchema.extend({
  /** What the ledger's credit for the run costs, rounded up; null while the ledger is damaged. */
  spent: planckSchema.nullable(),
})
export type PaymentView = z.infer<typeof paymentViewSchema>

/** FLOPs that 'a PFLOP' of a price is. */
export const FLOPS_PER_PFLOP = 10n ** 15n

/** Planck, rounded up: what accounts are owed for it together is never more. */
export function costOf(credit: bigint, planckPerPflop: bigint): bigint {
  return (credit * planckPerPflop + FLOPS_PER_PFLOP - 1n) / FLOPS_PER_PFLOP
}
