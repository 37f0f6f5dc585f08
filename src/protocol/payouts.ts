/** Owns what `/api/v1` says of the chain and of payouts; amounts are planck in decimal. */
import { z } from 'zod'
import { errorSchema } from './errors.ts'

const planck = z.string().regex(/^\d{1,39}$/)
const hash = z.string().regex(/^0x[0-9a-f]{64}$/)
const hex32 = z.string().regex(/^[0-9a-f]{64}$/)

export const chainViewSchema = z.object({
  name: z.string(),
  genesis: hash,
  /** SS58 prefix of addresses. */
  prefix: z.number(),
  /** A token is 10 to the power of this many planck. */
  decimals: z.number(),
  symbol: z.string(),
  /** Planck below which an account cannot exist. */
  existentialDeposit: planck,
  finalized: z.number(),
  /** The account that pays, and its free balance; null where the server has no key. */
  hot: z.object({ address: z.string(), wallet: hex32, balance: planck }).nullable(),
})
export type ChainView = z.infer<typeof chainViewSchema>

export const batchStateSchema = z.enum(['frozen', 'paid', 'released', 'disputed'])

export const payoutBatchSchema = z.object({
  id: z.number(),
  /** 0 for a refund. */
  epoch: z.number(),
  /** The run whose address sends back what is left there; null for a payout. */
  run: z.string().nullable(),
  root: hex32,
  /**
   * `frozen`: set aside, on its way. `paid`: final on chain. `released`: nothing was paid, the amounts are owed as before.
   * `disputed`: an operator has to look.
   */
  state: batchStateSchema,
  /** Says why, where the state needs it. */
  detail: z.string(),
  total: planck,
  transfers: z.number(),
  /** How often it was signed; more than 1 after an era ran out. */
  attempts: z.number(),
  /** Of the newest signature, whatever became of it; `death` is the block from which on it can be included no more. */
  lastAttempt: z.object({ hash, nonce: z.number(), death: z.number() }).nullable(),
  block: z.object({ number: z.number(), hash }).nullable(),
  extrinsic: hash.nullable(),
  /** What the wallet that was asked for gets; null where none was. */
  amount: planck.nullable(),
  createdAt: z.number(),
  changedAt: z.number(),
})
export type PayoutBatch = z.infer<typeof payoutBatchSchema>

export const payoutsViewSchema = z.object({
  /** What payouts are doing; null without a chain, a key or a ledger to pay from. */
  status: z
    .object({
      /** The step under way, such as `submit`. */
      doing: z.string().nullable(),
      finalized: z.number().nullable(),
      /** Why nobody is paid now, though somebody is owed something. */
      idle: errorSchema.nullable(),
      /** Why nothing happens until an operator has looked. */
      halted: errorSchema.nullable(),
      /** What failed last and is tried again at the next block. */
      trouble: errorSchema.nullable(),
    })
    .nullable(),
  /** Newest first. */
  batches: z.array(payoutBatchSchema),
})
export type PayoutsView = z.infer<typeof payoutsViewSchema>

export const payoutsQuerySchema = z.object({
  /** Only batches that pay this wallet (public key in hex). */
  wallet: hex32.optional(),
  /** Only batches with ids below this one. */
  before: z.coerce.number().int().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(200).default(50),
})
