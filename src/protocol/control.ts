/** Owns every message on the control WebSocket between a node and the server, as JSON, named by its sender. */
import { z } from 'zod'
import { errorSchema } from './errors.ts'
import { runConfigSchema } from './runConfig.ts'

/** Bytes of one control message; a longer one closes the socket. */
export const MAX_CONTROL_BYTES = 256 * 1024

const id = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[A-Za-z0-9_-]+$/)
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
const uint = z.int().min(0).max(0xffff_ffff)
const finite = z.number()
/** A result that may have diverged: JSON writes NaN and infinities as null, which reads back as NaN. */
const measured = z
  .number()
  .nullable()
  .transform((value) => value ?? NaN)

export const adapterSchema = z.object({
  vendor: z.string().max(80),
  architecture: z.string().max(80),
  description: z.string().max(200),
  /** True for SwiftShader, llvmpipe and their like: correct, and slow. */
  software: z.boolean(),
  maxBufferSize: z.number().min(0),
  maxStorageBufferBindingSize: z.number().min(0),
})
export type AdapterDescription = z.infer<typeof adapterSchema>

/** What a node is doing, in the words the pages show. `progress` goes from 0 to 1 where the phase has one. */
export const nodePhaseSchema = z.enum([
  'standby',
  'loading',
  'compiling',
  'connecting',
  'ready',
  'training',
  'merging',
  'evaluating',
  'checkpointing',
  'paused',
])
export type NodePhase = z.infer<typeof nodePhaseSchema>

export const linkKindSchema = z.enum(['direct', 'relayed', 'unknown'])
export type LinkKind = z.infer<typeof linkKindSchema>

/** Totals since the node's session began. */
export const nodeStatsSchema = z.object({
  /** Tokens whose forward and backward this node's stage computed. */
  tokens: z.number().min(0),
  steps: z.number().min(0),
  upBytes: z.number().min(0),
  downBytes: z.number().min(0),
  /** Boundary payload sent, headers left out. */
  boundaryBytes: z.number().min(0),
  /** Tokens behind `boundaryBytes`. */
  boundaryTokens: z.number().min(0),
  link: linkKindSchema,
})
export type NodeStats = z.infer<typeof nodeStatsSchema>

/** Elements of the largest chunk that a checkpoint is cut into: 4 MiB of f32. */
export const CHUNK_ELEMENTS = 1_048_576

/** A slice of a stage's flat f32 vector, kept as a content-addressed blob of little-endian f32. */
export const chunkSchema = z.object({
  kind: z.enum(['parameters', 'firstMoment', 'secondMoment']),
  /** Offset and length count f32 elements of the stage's flat vector. */
  offset: uint,
  length: uint,
  hash: sha256,
})
export type Chunk = z.infer<typeof chunkSchema>

/** Everything of one stage at one step; a kind that has no chunks is all zeros. */
export const stageCheckpointSchema = z.object({ stage: uint, chunks: z.array(chunkSchema).max(65_536) })
export type StageCheckpoint = z.infer<typeof stageCheckpointSchema>

/** node → server */
export const clientMessageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    protocol: uint,
    /** Lasts as long as the browser profile; two sockets with one id are one device. */
    deviceId: id,
    kind: z.enum(['browser', 'agent']),
    adapter: adapterSchema,
    /** Bytes the node offers for weights, gradients, moments and activations. */
    memoryBytes: z.number().min(0),
  }),
  z.object({
    type: z.literal('heartbeat'),
    phase: nodePhaseSchema,
    progress: z.number().min(0).max(1).nullable(),
    stats: nodeStatsSchema,
  }),
  /** Weights are on the GPU, pipelines compiled, channels to every neighbour open. */
  z.object({ type: z.literal('ready'), generation: uint }),
  /** Sent by the owner of the last stage, for training and for evaluation. Sum of token losses in nats. */
  z.object({
    type: z.literal('loss'),
    generation: uint,
    step: uint,
    microbatch: uint,
    lossSum: measured,
    tokens: uint,
  }),
  /** The owner of a shard holds the gradient sum of all replicas; `squaredNorm` is over that shard. */
  z.object({ type: z.literal('shardReduced'), generation: uint, step: uint, shard: uint, squaredNorm: measured }),
  /** Every shard's new parameters are in place here. */
  z.object({ type: z.literal('stepApplied'), generation: uint, step: uint }),
  /** The chunks of this node's shard are uploaded; `parametersHash` covers the whole stage's parameters. */
  z.object({
    type: z.literal('shardSaved'),
    generation: uint,
    step: uint,
    shard: uint,
    chunks: z.array(chunkSchema).max(4096),
    parametersHash: sha256,
  }),
  /** The node cannot go on with this generation. */
  z.object({ type: z.literal('failed'), generation: uint, error: errorSchema }),
  z.object({ type: z.literal('pause') }),
  z.object({ type: z.literal('resume') }),
  z.object({ type: z.literal('leaving') }),
])
export type ClientMessage = z.infer<typeof clientMessageSchema>

export const iceServerSchema = z.object({
  urls: z.array(z.string().max(300)).max(8),
  username: z.string().max(300).optional(),
  credential: z.string().max(300).optional(),
})
export type IceServers = z.infer<typeof iceServerSchema>[]

/** Who holds what: `members[stage][replica]` is a node id, which is its PeerJS id as well. */
export const membersSchema = z.array(z.array(id).min(1).max(64)).min(1).max(64)
export type Members = z.infer<typeof membersSchema>

export const assignmentSchema = z.object({
  runId: id,
  runName: z.string().max(120),
  /** Raised at each change of membership; anything that carries an older one is stale and is dropped. */
  generation: uint,
  stage: uint,
  replica: uint,
  config: runConfigSchema,
  members: membersSchema,
  dataset: z.object({ id, tokens: uint, trainTokens: uint }),
  checkpoint: z.object({ step: uint, stage: stageCheckpointSchema }),
})
export type Assignment = z.infer<typeof assignmentSchema>

/** server → node */
export const serverMessageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('welcome'),
    nodeId: id,
    /** Bearer token for blobs and for the PeerJS broker. */
    token: z.string().max(300),
    heartbeatMs: uint,
    iceServers: z.array(iceServerSchema).max(8),
  }),
  /** The socket closes after it. */
  z.object({ type: z.literal('rejected'), error: errorSchema }),
  /** Nothing to do yet; `reason` is a sentence for the volunteer. */
  z.object({ type: z.literal('standby'), reason: z.string().max(300) }),
  z.object({ type: z.literal('assign'), assignment: assignmentSchema }),
  /** Drop the assignment of this generation and everything computed in it. */
  z.object({ type: z.literal('release'), generation: uint, reason: z.string().max(300) }),
  z.object({
    type: z.literal('step'),
    generation: uint,
    /** Training steps count from 1; the rounds of an evaluation count on from the last of them. */
    step: uint,
    mode: z.enum(['train', 'evaluate']),
    /** The round covers microbatches `first` to `first + microbatches - 1`; `first` is 0 in training. */
    first: uint,
    microbatches: uint,
  }),
  /** `scale` multiplies the gradient sum (clipping over all stages); `lr` is this step's rate. */
  z.object({ type: z.literal('apply'), generation: uint, step: uint, lr: finite, scale: finite }),
  z.object({ type: z.literal('save'), generation: uint, step: uint }),
])
export type ServerMessage = z.infer<typeof serverMessageSchema>
