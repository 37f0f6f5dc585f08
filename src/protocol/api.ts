/** Owns the bodies of `/api/v1`, which the console, the command line and the OpenAPI document share. */
import { z } from 'zod'
import { adapterSchema, nodePhaseSchema, nodeStatsSchema } from './control.ts'
import { errorSchema } from './errors.ts'
import { paymentSchema, paymentViewSchema } from './payment.ts'
import { modelConfigSchema, runConfigSchema } from './runConfig.ts'

export const runStateSchema = z.enum([
  'waiting',
  'preparing',
  'training',
  'evaluating',
  // Until its budget is raised.
  'paused',
  'finished',
  'cancelled',
  'failed',
])
export type RunState = z.infer<typeof runStateSchema>

/** `byte`: a token is a byte of UTF-8. `character`: a token is a Unicode character out of those the text holds. */
export const tokenizerKindSchema = z.enum(['byte', 'character'])
export type TokenizerKind = z.infer<typeof tokenizerKindSchema>

export const datasetSchema = z.object({
  id: z.string(),
  name: z.string(),
  bytes: z.number(),
  tokens: z.number(),
  /** Tokens before the held-out tail. */
  trainTokens: z.number(),
  tokenizer: tokenizerKindSchema,
  /** Token ids are below this: 256 for bytes, the number of distinct characters otherwise. */
  vocabSize: z.number(),
  createdAt: z.number(),
})
export type DatasetView = z.infer<typeof datasetSchema>

/** A run's configuration whose vocabulary may be left to the dataset. */
const launchConfigSchema = runConfigSchema.extend({
  model: modelConfigSchema
    .extend({
      vocabSize: modelConfigSchema.shape.vocabSize
        .removeDefault()
        .optional()
        .describe('As many tokens as the dataset has when left out.'),
    })
    .prefault({}),
})

export const launchRequestSchema = z.object({
  name: z.string().trim().min(1).max(120),
  datasetId: z.string().min(1).max(64),
  config: launchConfigSchema,
  payment: paymentSchema.optional().describe('Nobody is paid when left out.'),
})
/** What a client may send: defaults filled in by the server. */
export type LaunchRequest = z.input<typeof launchRequestSchema>

/** One committed step; loss is the mean over the batch's tokens, in nats. */
export const stepMetricSchema = z.object({
  step: z.number(),
  loss: z.number(),
  gradNorm: z.number(),
  lr: z.number(),
  tokens: z.number(),
  /** Milliseconds from the step's start to its commit. */
  durationMs: z.number(),
  /** Unix milliseconds of the commit. */
  at: z.number(),
})
export type StepMetric = z.infer<typeof stepMetricSchema>

export const nodeViewSchema = z.object({
  nodeId: z.string(),
  kind: z.enum(['browser', 'agent']),
  adapter: adapterSchema,
  phase: nodePhaseSchema,
  progress: z.number().nullable(),
  stats: nodeStatsSchema,
  /** Milliseconds since the last heartbeat. */
  silentMs: z.number(),
  runId: z.string().nullable(),
  stage: z.number().nullable(),
  replica: z.number().nullable(),
  /** Holds a stage and has no microbatch of the step under way. */
  standby: z.boolean(),
  /** Not heard for so long that its microbatches went to others. */
  suspect: z.boolean(),
})
export type NodeView = z.infer<typeof nodeViewSchema>

/** A line of a run's story, in words. */
export const runEventSchema = z.object({ at: z.number(), step: z.number(), text: z.string() })
export type RunEvent = z.infer<typeof runEventSchema>

export const checkpointViewSchema = z.object({ step: z.number(), bytes: z.number(), createdAt: z.number() })
export type CheckpointView = z.infer<typeof checkpointViewSchema>

export const runSummarySchema = z.object({
  id: z.string(),
  name: z.string(),
  state: runStateSchema,
  /** Says why in a sentence: which stage waits, what failed. */
  detail: z.string(),
  datasetId: z.string(),
  config: runConfigSchema,
  parameters: z.number(),
  step: z.number(),
  loss: z.number().nullable(),
  valLoss: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  boundaryBytesPerToken: z.number().nullable(),
  rollbacks: z.number(),
  /** Microbatches whose volunteer was lost or too slow, and that others of its stage computed. */
  recovered: z.number(),
  /** Null for a run that pays nobody. */
  payment: paymentViewSchema.nullable(),
  createdAt: z.number(),
  startedAt: z.number().nullable(),
  finishedAt: z.number().nullable(),
})
export type RunSummary = z.infer<typeof runSummarySchema>

/**
 * `grid[stage]` lists the nodes that hold the stage, standbys too; null stands where one of the configured replicas is missing.
 */
export const runDetailSchema = runSummarySchema.extend({
  generation: z.number(),
  grid: z.array(z.array(z.string().nullable())),
  nodes: z.array(nodeViewSchema),
  /** Formula estimate, in bytes, of what a node of each stage needs. */
  stageMemoryBytes: z.array(z.number()),
  checkpoints: z.array(checkpointViewSchema),
  /** The newest, oldest first. */
  events: z.array(runEventSchema),
  /** How many came before these. */
  olderEvents: z.number(),
  error: errorSchema.nullable(),
})
export type RunDetail = z.infer<typeof runDetailSchema>

export const fleetSchema = z.object({
  protocol: z.number(),
  version: z.string(),
  nodes: z.number(),
  working: z.number(),
  standby: z.number(),
  runsActive: z.number(),
})
export type FleetView = z.infer<typeof fleetSchema>

/**
 * The server-sent event stream `GET /api/v1/runs/:id/live`. It opens with one `snapshot`; `metric` carries each newly
 * committed step, `detail` the run whenever something but metrics changed (at most once a second), `rollback` the step
 * after which metrics are void.
 */
export const liveEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('snapshot'), detail: runDetailSchema, metrics: z.array(stepMetricSchema) }),
  z.object({ type: z.literal('metric'), metric: stepMetricSchema }),
  z.object({ type: z.literal('detail'), detail: runDetailSchema }),
  z.object({ type: z.literal('rollback'), toStep: z.number() }),
])
export type LiveEvent = z.infer<typeof liveEventSchema>
