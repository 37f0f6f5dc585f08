/** Owns what a run pays for its work: the price of credit, the budget, and what of it is spent. */
import { z } from 'zod'
import { planckSchema, walletIdSchema } from './ledger.ts'

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

/** What a run's deposit address holds, as far as finalized blocks have ever said; it may spend no more. */
export const depositSchema = z.strictObject({ wallet: walletIdSchema, held: planckSchema })

export const paymentViewSchema = paymentSchema.extend({
  /** Null where the server has no chain to be paid on; `address` is null until the chain has answered. */
  deposit: depositSchema
    .extend({
      address: z.string().nullable(),
      /** Transfers back of what an ended run left, oldest first; `block` and `extrinsic` are null until one is final. */
      refunds: z.array(
        z.object({
          state: z.enum(['frozen', 'paid', 'released', 'disputed']),
          block: z.int().nullable(),
          extrinsic: z.string().nullable(),
        }),
      ),
    })
    .nullable(),
  /** What the ledger's credit for the run costs, rounded up; null while the ledger is damaged. */
  spent: planckSchema.nullable(),
})
export type PaymentView = z.infer<typeof paymentViewSchema>

/**
 * Percent of a stage's credit for a step that those who stand by there share: each what this is of the mean member's, or less
 * where more stand by than work. The work of a step comes first: they get nothing of a budget that would not reach for both.
 */
export const STANDBY_PERCENT = 2n

/** FLOPs that 'a PFLOP' of a price is. */
export const FLOPS_PER_PFLOP = 10n ** 15n

/** Planck, rounded up: what accounts are owed for it together is never more. */
export function costOf(credit: bigint, planckPerPflop: bigint): bigint {
  return (credit * planckPerPflop + FLOPS_PER_PFLOP - 1n) / FLOPS_PER_PFLOP
}
