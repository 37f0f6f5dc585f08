/** Owns the bodies of `/api/v1/ledger` and `/api/v1/accounts`. */
import { z } from 'zod'
import { deviceIdSchema } from './identity.ts'
import { errorSchema } from './errors.ts'
import {
  accountIdSchema,
  clockUnitSchema,
  creditSchema,
  hashSchema,
  ledgerRowSchema,
  planckSchema,
  sealRowSchema,
  walletIdSchema,
} from './ledger.ts'

export const ledgerViewSchema = z.object({
  /** Rows so far, which is the last row's `seq`. */
  rows: z.int(),
  /** The hash of the last row; 64 zeros when there is none. */
  head: hashSchema,
  lastSeal: sealRowSchema.nullable(),
  epochLength: z.object({ unit: clockUnitSchema, length: z.int() }),
  /** Why nothing is sealed any more: a row that the rules of the ledger do not allow. */
  fault: errorSchema.extend({ seq: z.int() }).nullable(),
})
export type LedgerView = z.infer<typeof ledgerViewSchema>

/** Rows of a page at most. */
export const MAX_ROWS = 1000
export const rowsQuerySchema = z.object({
  from: z.coerce.number().int().min(1).default(1),
  limit: z.coerce.number().int().min(1).max(MAX_ROWS).default(100),
})
export const rowsAnswerSchema = z.object({ rows: z.array(ledgerRowSchema), head: z.int() })
export type RowsAnswer = z.infer<typeof rowsAnswerSchema>

export const epochsQuerySchema = z.object({
  /** Only epochs before this one. */
  before: z.coerce.number().int().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(MAX_ROWS).default(100),
})
/** Newest first. */
export const epochsAnswerSchema = z.array(sealRowSchema)

/** Credit lists in FLOPs, money lists in planck: `pending` is not yet sealed, `verified` is sealed and not paid. */
export const accountViewSchema = z.object({
  account: accountIdSchema,
  /** Of a device: the wallet it earns for. */
  wallet: walletIdSchema.nullable(),
  /** The last epoch, when the account has a leaf in it, and so a proof. */
  epoch: z.int().nullable(),
  credit: z.object({
    earned: creditSchema,
    /** Parts of `earned`: for standing by, and for recomputing what others claimed. */
    standby: creditSchema,
    audit: creditSchema,
    voided: creditSchema,
    pending: creditSchema,
    verified: creditSchema,
    paid: creditSchema,
  }),
  planck: z.object({ worth: planckSchema, pending: planckSchema, verified: planckSchema, paid: planckSchema }),
  /** The most earning first. */
  runs: z.array(z.object({ run: z.string(), earned: creditSchema, voided: creditSchema, worth: planckSchema })),
  /** UTC days, newest first. */
  days: z.array(z.object({ day: z.iso.date(), earned: creditSchema })),
  /** Newest first. */
  convictions: z.array(
    z.object({
      seq: z.int(),
      at: z.int(),
      device: deviceIdSchema,
      run: z.string(),
      fromStep: z.int(),
      toStep: z.int(),
      credit: creditSchema,
      reason: z.string(),
      /** The credit was given back. */
      waived: z.boolean(),
    }),
  ),
  /** Newest first. */
  payouts: z.array(
    z.object({
      seq: z.int(),
      at: z.int(),
      epoch: z.int(),
      planck: planckSchema,
      block: hashSchema,
      extrinsic: hashSchema,
    }),
  ),
  /** Of a wallet: the devices bound to it; of a device: itself. All that they earned, for whom ever. */
  devices: z.array(z.object({ device: deviceIdSchema, earned: creditSchema, voided: creditSchema })),
})
export type AccountView = z.infer<typeof accountViewSchema>
