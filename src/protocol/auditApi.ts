/** Owns the bodies of `/api/v1/audits`: what was audited, what came of it, and how devices stand. */
import { z } from 'zod'
import { deviceIdSchema } from './identity.ts'
import { creditSchema } from './ledger.ts'

export const auditVerdictSchema = z.enum(['passed', 'convicted', 'open'])
export type AuditVerdict = z.infer<typeof auditVerdictSchema>

/** Largest ratio of a quantile to what its tolerance allows, of all tensors of a kind: above 1 is beyond it. */
export const auditDistanceSchema = z.object({
  tensor: z.enum(['activation', 'inputGradient', 'parameterGradient', 'update', 'loss']),
  quantile: z.enum(['median', 'upper', 'largest']),
  /** Null where it is not a finite number: values that are none in one of both. */
  distance: z.number().nullable(),
  tolerance: z.number(),
})
export type AuditDistance = z.infer<typeof auditDistanceSchema>

export const auditJurorSchema = z.object({
  device: deviceIdSchema,
  /** Whether it recomputed the claim; one that did not was excused or did not answer in time. */
  answered: z.boolean(),
})
export type AuditJuror = z.infer<typeof auditJurorSchema>

export const auditViewSchema = z.object({
  /** Raised with each audit. */
  number: z.int(),
  id: z.string(),
  run: z.string(),
  generation: z.int(),
  step: z.int(),
  stage: z.int(),
  claimant: deviceIdSchema,
  /** SHA-256 of the signed receipt: rows of the ledger name it. */
  receipt: z.string(),
  /** Of the claim; `shown.microbatch` is the one whose tensors were compared, `shown.shard` that of the gradient. */
  microbatches: z.int(),
  shown: z.object({ microbatch: z.int(), shard: z.int() }),
  /** FLOPs of one recomputation. */
  credit: creditSchema,
  jurors: z.array(auditJurorSchema),
  /** Null while it goes on. `open`: nobody was there to settle it. */
  verdict: auditVerdictSchema.nullable(),
  /** Why, in words; empty where it passed. */
  reason: z.string(),
  /** Of the claim from the last recomputation, for each kind of tensor; empty before one came. */
  distances: z.array(auditDistanceSchema),
  openedAt: z.int(),
  closedAt: z.int().nullable(),
})
export type AuditView = z.infer<typeof auditViewSchema>

export const auditsQuerySchema = z.object({
  run: z.string().min(1).max(64).optional(),
  /** The claimant. */
  device: deviceIdSchema.optional(),
  /** Only audits with numbers below this one. */
  before: z.coerce.number().int().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(200).default(50),
})

export const incidentSchema = z.object({
  reason: z.string(),
  /** Convictions from then on are waived; Unix milliseconds. */
  since: z.int(),
  declaredAt: z.int(),
})
export type Incident = z.infer<typeof incidentSchema>

/** What `POST /api/v1/audits/incident` takes. */
export const incidentRequestSchema = z.strictObject({
  reason: z.string().trim().min(1).max(300),
  since: z.int().min(0).optional().describe('Unix milliseconds; from now on when left out.'),
})

export const auditsViewSchema = z.object({
  /** Newest first. */
  audits: z.array(auditViewSchema),
  /** Of all audits that the query, but for its page, is about. */
  totals: z.object({
    audits: z.int(),
    passed: z.int(),
    convicted: z.int(),
    open: z.int(),
    /** FLOPs that jurors recomputed. */
    recomputed: creditSchema,
    /** FLOPs of the run's committed steps; null where the query is about no run. */
    trained: creditSchema.nullable(),
  }),
  /** Whether claims are audited at all on this server. */
  drawn: z.boolean(),
  incident: incidentSchema.nullable(),
})
export type AuditsView = z.infer<typeof auditsViewSchema>

/** What is known of a device. */
export const standingViewSchema = z.object({
  device: deviceIdSchema,
  audited: z.int(),
  passed: z.int(),
  /** Share of its next claim's being audited, from 0 to 1. */
  rate: z.number(),
  /** Claims that are audited for sure, because of something odd. */
  watched: z.int(),
  convictions: z.int(),
  /** Unix milliseconds; null while it may take part. */
  shutUntil: z.int().nullable(),
  /** Why it is shut out, in words. */
  reason: z.string().nullable(),
})
export type StandingView = z.infer<typeof standingViewSchema>
