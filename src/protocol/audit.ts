/** Owns what is said in an audit: what a claimant shows and what a juror tells. */
import { z } from 'zod'
import { digestSchema, MAX_RECEIPT_MICROBATCHES } from './receipt.ts'

/** Little-endian f32 in base64, so many at most. */
const floats = (most: number) =>
  z
    .string()
    .max(4 * Math.ceil((4 * most) / 3))
    .regex(/^[A-Za-z0-9+/]*={0,2}$/)

/** Rows of a boundary tensor, and tensors of a shard's gradient, that evidence speaks of: drawn by its seed where there are more. */
export const MAX_EVIDENCE_ROWS = 512
export const MAX_EVIDENCE_TENSORS = 192

/** Sketches of what a juror computed (src/audit): at most two thirds of a control message. What its stage does not make is left out. */
export const evidenceSchema = z.object({
  /** [rows, 16] of one microbatch's tensors as they are sent, and of the input that they were made of. */
  activation: floats(16 * MAX_EVIDENCE_ROWS).optional(),
  input: floats(16 * MAX_EVIDENCE_ROWS).optional(),
  inputGradient: floats(16 * MAX_EVIDENCE_ROWS).optional(),
  /** [tensors, 64] of one shard's share of the gradient sum, all microbatches of the claim in it. */
  parameterGradient: floats(64 * MAX_EVIDENCE_TENSORS).optional(),
  /** Mean loss of a token in nats, by microbatch in the order of the claim. */
  loss: floats(MAX_RECEIPT_MICROBATCHES).optional(),
})
export type EvidenceMessage = z.infer<typeof evidenceSchema>

/** Names an audit: the SHA-256 of the signed receipt that is audited, in hex. */
export const auditIdSchema = z.string().regex(/^[0-9a-f]{64}$/)

/** What a claimant shows of its claim: the boundary tensors that it made of one microbatch, and one shard's share. */
export const exhibitKindSchema = z.enum(['activation', 'gradient', 'share'])
export type ExhibitKind = z.infer<typeof exhibitKindSchema>

const id = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[A-Za-z0-9_-]+$/)
const uint = z.int().min(0).max(0xffff_ffff)
const shard = z.int().min(0).max(63)

/** node → server */
export const auditClientMessages = [
  /** The answer to `recompute`. */
  z.object({
    type: z.literal('recomputed'),
    generation: uint,
    step: uint,
    audit: auditIdSchema,
    evidence: evidenceSchema,
  }),
  /** This node cannot do what `recompute` or `show` asked of it, or not any more: other work came, or inputs did not. */
  z.object({
    type: z.literal('declined'),
    generation: uint,
    step: uint,
    audit: auditIdSchema,
    reason: z.string().max(200),
  }),
] as const

/** server → node */
export const auditServerMessages = [
  /**
   * To a claimant: give the server the bytes that these digests of its receipt are of, as exhibits of the audit
   * (PUT /api/v1/audits/:audit/exhibits/:kind).
   */
  z.object({
    type: z.literal('show'),
    generation: uint,
    step: uint,
    audit: auditIdSchema,
    microbatch: uint,
    shard,
  }),
  /**
   * To who took it of `maker`, whose claim is audited: give the server the bytes, as `show` has it. Both signed for the same
   * ones, and the maker does not show them. Who has none says nothing.
   */
  z.object({
    type: z.literal('showTaken'),
    generation: uint,
    step: uint,
    audit: auditIdSchema,
    kind: exhibitKindSchema,
    maker: id,
    microbatch: uint,
    shard,
  }),
  /**
   * To a replica of the claimant's stage whose own work is done: compute these microbatches as if they were its own and say
   * what came of it, without having seen the claim. `[microbatch, up, down, activation, gradient]` as in a receipt: places in
   * `peers` of who keeps the inputs, and the digests that they have to have. Said again, it names others who keep them now.
   */
  z.object({
    type: z.literal('recompute'),
    generation: uint,
    step: uint,
    audit: auditIdSchema,
    peers: z.array(id).max(2 * MAX_RECEIPT_MICROBATCHES),
    leases: z
      .array(
        z.tuple([
          uint,
          z.int().min(-1).max(4095),
          z.int().min(-1).max(4095),
          digestSchema.nullable(),
          digestSchema.nullable(),
        ]),
      )
      .min(1)
      .max(MAX_RECEIPT_MICROBATCHES),
    /** Whose boundary tensors, and of which shard the gradient, are told. */
    microbatch: uint,
    shard,
    /** What tensors are sketched by. */
    seed: z.tuple([uint, uint]),
  }),
] as const
