/** Owns the receipt: what a node signs about the microbatches of a step, the bytes that it signs, and what they earn it. */
import { z } from 'zod'

export const RECEIPT_VERSION = 2
/** Says what is signed, so that no signature made for anything else passes for a receipt's. */
const DOMAIN = 'skein-receipt-v2'

/** Shards of a stage, at most; see `shardCount`. */
const MAX_SHARDS = 64

/** Microbatches of one receipt, about 170 bytes each: a control message holds it. Who has more leases signs several. */
export const MAX_RECEIPT_MICROBATCHES = 1024

const id = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[A-Za-z0-9_-]+$/)
const uint = z.int().min(0).max(0xffff_ffff)
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`))

/**
 * SHA-256 cut to its first 16 bytes, in hex: of a boundary tensor's encoded bytes, headers left out, or of a shard's gradient
 * as little-endian f32.
 */
export const digestSchema = hex(16)
export type Digest = z.infer<typeof digestSchema>

const peer = z
  .int()
  .min(-1)
  .max(2 * MAX_RECEIPT_MICROBATCHES - 1)

/**
 * `[microbatch, up, down, activation taken, activation made, gradient taken, gradient made]`: `up` and `down` are places in
 * `peers` of the nodes whose activation and whose gradient were taken; -1 and null where the stage has none. What was made
 * is the same for whoever had it.
 */
export const receiptRowSchema = z.tuple([
  uint,
  peer,
  peer,
  digestSchema.nullable(),
  digestSchema.nullable(),
  digestSchema.nullable(),
  digestSchema.nullable(),
])

export const receiptSchema = z.object({
  version: z.literal(RECEIPT_VERSION),
  run: id,
  generation: uint,
  step: uint,
  /** The version of the node's leases that were computed. */
  leases: uint,
  stage: uint,
  /** The Ed25519 public key that verifies the signature. */
  device: hex(32),
  peers: z.array(id).max(2 * MAX_RECEIPT_MICROBATCHES),
  microbatches: z.array(receiptRowSchema).min(1).max(MAX_RECEIPT_MICROBATCHES),
  /**
   * By shard: this node's share of the gradient sum, with all leases of this version in it. Several receipts of one version
   * name the same. Empty where the stage had nobody else when the step began: then nobody takes a share.
   */
  shares: z.array(digestSchema).max(MAX_SHARDS),
})
export type Receipt = z.infer<typeof receiptSchema>

export const signedReceiptSchema = z.object({
  receipt: receiptSchema,
  /** Ed25519 (RFC 8032) over {@link receiptText} in UTF-8. */
  signature: hex(64),
})
export type SignedReceipt = z.infer<typeof signedReceiptSchema>

/** What is signed: one text for each receipt, since every field has its place. */
export function receiptText(receipt: Receipt): string {
  const { version, run, generation, step, leases, stage, device, peers, microbatches, shares } = receipt
  return `${DOMAIN}\n${JSON.stringify([version, run, generation, step, leases, stage, device, peers, microbatches, shares])}`
}

/** What a ledger row names by its SHA-256. */
export function signedReceiptText({ receipt, signature }: SignedReceipt): string {
  return `${receiptText(receipt)}\n${signature}`
}

/** A row in words: nodes by their names, and digests as whoever collects them has them. */
export interface ReceiptEntry<D> {
  readonly microbatch: number
  /** Whose activation, and whose gradient, was taken. */
  readonly up: string | null
  readonly down: string | null
  readonly activationTaken: D | null
  readonly activationMade: D | null
  readonly gradientTaken: D | null
  readonly gradientMade: D | null
}

/** The receipts of one version of a node's leases: one, but for a great many leases. */
export function receiptsOf(
  { shares, ...about }: Omit<Receipt, 'version' | 'peers' | 'microbatches'>,
  entries: readonly ReceiptEntry<Digest>[],
): Receipt[] {
  const receipts: Receipt[] = []
  for (let from = 0; from < entries.length; from += MAX_RECEIPT_MICROBATCHES) {
    const part = entries.slice(from, from + MAX_RECEIPT_MICROBATCHES)
    const peers = [...new Set(part.flatMap(({ up, down }) => [up, down]).filter((node) => node !== null))]
    const place = new Map(peers.map((node, i) => [node, i]))
    const placeOf = (node: string | null) => (node === null ? -1 : place.get(node)!)
    const microbatches = part.map((entry): Receipt['microbatches'][number] => [
      entry.microbatch,
      placeOf(entry.up),
      placeOf(entry.down),
      entry.activationTaken,
      entry.activationMade,
      entry.gradientTaken,
      entry.gradientMade,
    ])
    receipts.push({ version: RECEIPT_VERSION, ...about, peers, microbatches, shares })
  }
  return receipts
}

/** A row with its nodes by name; one that is named by no place of `peers` is nobody. */
export function entryOf({ peers }: Receipt, row: Receipt['microbatches'][number]): ReceiptEntry<Digest> {
  const [microbatch, up, down, activationTaken, activationMade, gradientTaken, gradientMade] = row
  return {
    microbatch,
    up: peers[up] ?? null,
    down: peers[down] ?? null,
    activationTaken,
    activationMade,
    gradientTaken,
    gradientMade,
  }
}

/** What the digest of a sum is of: the digests of the shares in it, in their order, as hexadecimal text. SHA-256, cut as they are. */
export const sumText = (shares: readonly Digest[]): string => shares.join('')

/** Accepted work of one device in one committed step, as the ledger has it. */
export const workCreditSchema = z.object({
  kind: z.literal('work'),
  run: id,
  generation: uint,
  step: uint,
  stage: uint,
  device: id,
  /** How many were accepted. */
  microbatches: uint,
  /** Model FLOPs, forward and backward, as a decimal number. */
  credit: z.string().regex(/^(0|[1-9][0-9]{0,38})$/),
  /** SHA-256 of the signed receipt, in hex; of several, of their hashes in the order they came, a line each. */
  receipt: hex(32).nullable(),
})
export type WorkCredit = z.infer<typeof workCreditSchema>

/** A device that held a stage's weights through a committed step, ready to take leases, and had none. */
export const standbyCreditSchema = workCreditSchema
  .pick({ run: true, step: true, stage: true, device: true, credit: true })
  .extend({ kind: z.literal('standby') })
export type StandbyCredit = z.infer<typeof standbyCreditSchema>

/** What a committed step earns a device. */
export const earnedCreditSchema = z.discriminatedUnion('kind', [workCreditSchema, standbyCreditSchema])
export type EarnedCredit = z.infer<typeof earnedCreditSchema>

/** Of what was earned, what was worked for. */
export const workIn = (earned: readonly EarnedCredit[]): WorkCredit[] => earned.filter((entry) => entry.kind === 'work')
