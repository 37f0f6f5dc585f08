/** Owns the shape of the ledger: what a row can say, how rows are chained, what a seal promises, what a proof holds. */
import { z } from 'zod'
import { deviceIdSchema } from './identity.ts'

/** A SHA-256, a block or an extrinsic hash, in lower-case hex. */
export const hashSchema = z.string().regex(/^[0-9a-f]{64}$/, 'must be 32 bytes in lower-case hex')
/** A Substrate public key; SS58 exists at the edges alone. */
export const walletIdSchema = hashSchema
const decimal = z.string().regex(/^(0|[1-9]\d{0,38})$/, 'must be a whole number in decimal')
const signedDecimal = z.string().regex(/^(0|-?[1-9]\d{0,38})$/, 'must be a whole number in decimal')
/** Model FLOPs, forward and backward. */
export const creditSchema = decimal
/** The chain's smallest unit. */
export const planckSchema = decimal

export const accountIdSchema = z
  .string()
  .regex(/^(device|wallet):[0-9a-f]{64}$/, 'must be device:<hex> or wallet:<hex>')
export type AccountId = z.infer<typeof accountIdSchema>

const run = z.string().min(1).max(64)
const count = z.int().min(0)
const reason = z.string().min(1).max(500)

const earnedFor = { run, step: count, stage: count.max(4095), device: deviceIdSchema, credit: creditSchema }

/** Microbatches of a committed step: one row for each device and stage of the step. */
export const workEntrySchema = z.strictObject({
  kind: z.literal('work'),
  ...earnedFor,
  generation: count,
  microbatches: count,
  /** SHA-256 of the signed receipt. */
  receipt: hashSchema.nullable(),
})

/** Who closed an epoch when: the server's Unix milliseconds, or a finalized block's height. */
export const clockUnitSchema = z.enum(['ms', 'block'])
export type ClockUnit = z.infer<typeof clockUnitSchema>

/**
 * Closes an epoch: rows `first` to `last`, in which the seal before this one is the first. The seal's own row follows `last` at
 * once. `root` is over one leaf for each account that ever held credit, as the accounts stood after `last`.
 */
export const sealEntrySchema = z.strictObject({
  kind: z.literal('seal'),
  /** 1, 2, 3 and so on. */
  epoch: count.min(1),
  first: count.min(1),
  last: count.min(1),
  root: hashSchema,
  /** Leaves under the root. */
  accounts: count,
  /** Accepted credit of all accounts, over all epochs. */
  credit: creditSchema,
  unit: clockUnitSchema,
  /** The clock when the epoch was closed. */
  clock: count,
})
export type SealEntry = z.infer<typeof sealEntrySchema>

export const ledgerEntrySchema = z.discriminatedUnion('kind', [
  workEntrySchema,
  z.strictObject({ kind: z.literal('standby'), ...earnedFor }),
  z.strictObject({ kind: z.literal('audit'), ...earnedFor }),
  /** From here on the device earns for the wallet, and what it earned unbound is the wallet's too. */
  z.strictObject({
    kind: z.literal('bind'),
    device: deviceIdSchema,
    wallet: walletIdSchema,
    /** SHA-256 of the signed challenge. */
    proof: hashSchema,
  }),
  /** From here on the device earns for itself again; what it earned for its wallet stays there. */
  z.strictObject({ kind: z.literal('revoke'), device: deviceIdSchema }),
  /** Voids credit that the device earned in the run between the two steps, both included, and that is not paid. */
  z.strictObject({
    kind: z.literal('conviction'),
    device: deviceIdSchema,
    run,
    fromStep: count,
    toStep: count,
    credit: creditSchema,
    reason,
  }),
  /**
   * Gives back what convictions voided: all of the device's, or with `since` those of that time (Unix milliseconds) and later;
   * for null, all that came after the last seal.
   */
  z.strictObject({
    kind: z.literal('waiver'),
    reason,
    device: deviceIdSchema.nullable(),
    since: count.optional(),
  }),
  /** What 10^15 FLOPs of the run are worth from here on; a run without a price is worth nothing. */
  z.strictObject({ kind: z.literal('price'), run, planckPerPflop: planckSchema }),
  sealEntrySchema,
  /** A transfer in a finalized block. */
  z.strictObject({
    kind: z.literal('payout'),
    epoch: count.min(1),
    wallet: walletIdSchema,
    planck: planckSchema,
    block: hashSchema,
    extrinsic: hashSchema,
  }),
])
export type LedgerEntry = z.infer<typeof ledgerEntrySchema>
export type EntryOf<K extends LedgerEntry['kind']> = Extract<LedgerEntry, { kind: K }>

export const ledgerRowSchema = z.strictObject({
  /** 1 for the first row. */
  seq: count.min(1),
  /** Unix milliseconds; never less than in the row before. */
  at: count,
  /** The hash of the row before; 64 zeros in the first one. */
  prev: hashSchema,
  entry: ledgerEntrySchema,
  /** SHA-256 of `skein-ledger-row-v1`, a line feed and the canonical JSON of [seq, at, prev, entry]. */
  hash: hashSchema,
})
export type LedgerRow = z.infer<typeof ledgerRowSchema>
export const sealRowSchema = ledgerRowSchema.extend({ entry: sealEntrySchema })
export type SealRow = z.infer<typeof sealRowSchema>

/** What an epoch's root states of an account, over all epochs until then. */
export const leafSchema = z.strictObject({
  epoch: count.min(1),
  account: accountIdSchema,
  earned: creditSchema,
  voided: creditSchema,
  /** Planck that the accepted credit is worth, each run rounded down. */
  worth: planckSchema,
  /** Planck. */
  paid: planckSchema,
  /** `worth` less `paid`; below zero when credit was voided that had just been paid. */
  balance: signedDecimal,
})
export type Leaf = z.infer<typeof leafSchema>

/** That a leaf is under an epoch's root: the audit path of RFC 6962, section 2.1.1, from the leaf upwards. */
export const inclusionProofSchema = z.strictObject({
  leaf: leafSchema,
  index: count,
  path: z.array(hashSchema).max(64),
})
export type InclusionProof = z.infer<typeof inclusionProofSchema>

export const proofAnswerSchema = z.object({ proof: inclusionProofSchema, seal: sealRowSchema })
export type ProofAnswer = z.infer<typeof proofAnswerSchema>

export const EXPORT_FORMAT = 'skein-ledger'
/** The first line of an export; each further line is the canonical JSON of a row. */
export const exportHeaderSchema = z.strictObject({
  format: z.literal(EXPORT_FORMAT),
  version: z.literal(1),
  rows: count,
  /** The hash of the last row; 64 zeros when there is none. */
  head: hashSchema,
})
export type ExportHeader = z.infer<typeof exportHeaderSchema>
