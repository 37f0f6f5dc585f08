/** Owns every message on the control WebSocket between a node and the server, as JSON, named by its sender. */
import { z } from 'zod'
import { auditClientMessages, auditServerMessages } from './audit.ts'
import { errorSchema } from './errors.ts'
import { deviceIdSchema, nonceSchema, sessionProofSchema } from './identity.ts'
import { digestSchema, earnedCreditSchema, signedReceiptSchema } from './receipt.ts'
import { runConfigSchema } from './runConfig.ts'
import { MAX_SPANS, spanSchema } from './timeline.ts'

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

/** The way of a link: straight, through a TURN server, or through Skein's own server. */
export const linkKindSchema = z.enum(['direct', 'relayed', 'server', 'unknown'])
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

/** Cuts of a stage's vectors that an optimizer owns one by one; see `shardCount`. */
const shard = z.int().min(0).max(63)

/**
 * What a node has on its GPU, told when it dials in, so that a server that was away goes on with it instead of a checkpoint.
 */
export const holdingSchema = z.object({
  runId: id,
  generation: uint,
  stage: uint,
  /** The step after which its parameters stand, all shards of them; null while they are incomplete. */
  step: uint.nullable(),
  /** Shards whose moments it has, and after which step they stand. */
  moments: z.array(z.tuple([shard, uint])).max(64),
  /** Shards of step `step + 1` whose gradient is summed here and whose update has not come: nothing but `apply` is missing. */
  reduced: z.array(shard).max(64),
  /**
   * Shards whose bytes are of a step that it has not heard to be over, made here or taken from an owner: as the next step begins
   * it lets them go, unless whoever made them is their first owner then.
   */
  open: z.array(shard).max(64),
})
export type Holding = z.infer<typeof holdingSchema>

/**
 * The leases of one node at its stage, all of them: `[microbatch, up, down]`, where `up` and `down` are places in `peers` of
 * the owners of the same microbatch at the neighbouring stages, -1 where there is no such stage.
 */
export const leaseTableSchema = z.object({
  peers: z.array(id).max(4096),
  leases: z.array(z.tuple([uint, z.int().min(-1).max(4095), z.int().min(-1).max(4095)])).max(4096),
})
export type LeaseTable = z.infer<typeof leaseTableSchema>

/** `owners[shard]`: who holds the moments of that shard. The first two sum and update it, a third only keeps a copy. */
export const shardOwnersSchema = z.array(z.array(id).max(3)).max(64)
export type ShardOwners = z.infer<typeof shardOwnersSchema>

/** Partners of whom one message tells, and the longest round trip that it can tell of. */
export const MAX_LINK_MEASURES = 64
export const MAX_RTT_MS = 60_000

/** `[partner, round trip in milliseconds, bytes a second that this end can send]`; null where the link had too little to carry. */
export const linkMeasureSchema = z.tuple([
  id,
  z.number().min(0).max(MAX_RTT_MS),
  z.number().positive().max(1e12).nullable(),
])
export type LinkMeasure = z.infer<typeof linkMeasureSchema>

/** node → server */
export const clientMessageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    protocol: uint,
    /** The device's public key, which lasts as long as the browser profile; two sockets with one id are one device. */
    deviceId: deviceIdSchema,
    proof: sessionProofSchema,
    kind: z.enum(['browser', 'agent']),
    adapter: adapterSchema,
    /** Bytes the node offers for weights, gradients, moments and activations. */
    memoryBytes: z.number().min(0),
    /** The session to go on with, by the token of its `welcome`; null for a new one. `received`: see `Mailbox`. */
    session: z.object({ token: z.string().max(300), received: uint }).nullable(),
    holding: holdingSchema.nullable(),
  }),
  z.object({
    type: z.literal('heartbeat'),
    phase: nodePhaseSchema,
    progress: z.number().min(0).max(1).nullable(),
    stats: nodeStatsSchema,
  }),
  /**
   * Kernels are compiled and every shard's parameters stand after `step`: leases may come. `expectedMs`: what a microbatch
   * should keep this device busy, forward and backward together, going by its kernels; null when it cannot tell. `links`: as in
   * `finished`, of those whom a newcomer took its parameters from.
   */
  z.object({
    type: z.literal('ready'),
    generation: uint,
    step: uint,
    expectedMs: z.number().min(0).nullable(),
    links: z.array(linkMeasureSchema).max(MAX_LINK_MEASURES).optional(),
  }),
  /** As `expectedMs` of `ready`, once more: this node had no lease for a while. */
  z.object({ type: z.literal('measured'), generation: uint, expectedMs: z.number().min(0) }),
  /**
   * What this node signs about the microbatches of its leases, before it says that it has `finished` them: nobody can choose
   * what to claim by what is checked. Of a great many leases there are several.
   */
  z.object({ type: z.literal('receipt'), generation: uint, ...signedReceiptSchema.shape }),
  /**
   * Every lease of this version is computed, backward too where there is one. `losses`, from the last stage alone:
   * `[microbatch, sum of token losses in nats, tokens]`.
   */
  z.object({
    type: z.literal('finished'),
    generation: uint,
    step: uint,
    version: uint,
    losses: z.array(z.tuple([uint, measured, uint])).max(4096),
    /** Mean time that one microbatch kept this device busy, forward and backward together; null when nothing was computed. */
    busyMs: z.number().min(0).nullable(),
    /** What this node measured on its links to the owners of the same microbatches at the neighbouring stages, and of its own shards. */
    links: z.array(linkMeasureSchema).max(MAX_LINK_MEASURES).optional(),
  }),
  /**
   * How this node spent a step that the server traced, once the step after it has begun. `heardAt`: when it heard of the step,
   * from which the spans count; `toldAt`: when it sends this; both in milliseconds of its own clock, whatever that starts from.
   */
  z.object({
    type: z.literal('timeline'),
    generation: uint,
    step: uint,
    heardAt: finite,
    toldAt: finite,
    spans: z.array(spanSchema).max(MAX_SPANS),
  }),
  /** With local steps: a lane has taken the updates of so many inner steps here. */
  z.object({ type: z.literal('advanced'), generation: uint, step: uint, lane: uint, inner: uint }),
  /** Nothing to do for a while, with work outstanding: what it waits for would have to come from these nodes. */
  z.object({ type: z.literal('waiting'), generation: uint, step: uint, on: z.array(id).max(64) }),
  /** The answer to `lost` where that node's share of these shards did not come in time. */
  z.object({
    type: z.literal('missing'),
    generation: uint,
    step: uint,
    attempt: uint,
    node: id,
    shards: z.array(shard).max(64),
  }),
  /** An owner has the gradient sum of all contributors; `squaredNorm` is over that shard. */
  z.object({
    type: z.literal('reduced'),
    generation: uint,
    step: uint,
    attempt: uint,
    shard,
    squaredNorm: measured,
    /** Of the digests of what was summed, see `sumText`; null where this node's own share was all. */
    digest: digestSchema.nullable(),
  }),
  /** The answer to `tally`: the digests of what was summed, in the order of the contributors. */
  z.object({
    type: z.literal('tallied'),
    generation: uint,
    step: uint,
    attempt: uint,
    shard,
    digests: z.array(digestSchema).max(1024),
  }),
  /** A primary owner has updated the shard and is sending it to its stage. */
  z.object({ type: z.literal('updated'), generation: uint, step: uint, shard }),
  /** A second owner has the primary's bytes: whether they are what it computed itself, to within rounding. */
  z.object({ type: z.literal('compared'), generation: uint, step: uint, shard, agrees: z.boolean() }),
  /** The moments of this shard, as they stand after `step`, have come from another owner. */
  z.object({ type: z.literal('held'), generation: uint, step: uint, shard }),
  /**
   * With local steps, once somebody was `lost`: the mean of this shard is taken, and both its vectors stand here after `step`,
   * which is not yet committed.
   */
  z.object({ type: z.literal('taken'), generation: uint, step: uint, shard }),
  /** The chunks of one shard, parameters and moments, are uploaded. */
  z.object({
    type: z.literal('shardSaved'),
    generation: uint,
    step: uint,
    shard,
    chunks: z.array(chunkSchema).max(4096),
  }),
  /** The link to another node broke, or could not be opened. */
  z.object({ type: z.literal('linkLost'), generation: uint, node: id }),
  /** What came from another node can be no frame of this run, or no bytes of a link; said once a step and kind of fault. */
  z.object({ type: z.literal('distrusted'), generation: uint, node: id, error: errorSchema }),
  /** The node cannot go on with this generation. */
  z.object({ type: z.literal('failed'), generation: uint, error: errorSchema }),
  ...auditClientMessages,
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

export const assignmentSchema = z.object({
  runId: id,
  runName: z.string().max(120),
  /** Raised whenever a run starts from a checkpoint or under a new server; anything that carries another one is stale. */
  generation: uint,
  stage: uint,
  config: runConfigSchema,
  dataset: z.object({ id, tokens: uint, trainTokens: uint }),
  /**
   * Where the stage's vectors come from: all of them from `checkpoint`; the parameters from the owners of their shards, who
   * are named in each `step`; or from this device, which holds them.
   */
  source: z.enum(['checkpoint', 'peers', 'held']),
  checkpoint: z.object({ step: uint, stage: stageCheckpointSchema }),
  /** With `held`: shards that are summed and not updated in `step` are updated first; the server died amid its `apply`. */
  finish: z.object({ step: uint, lr: finite, scale: finite }).nullable(),
})
export type Assignment = z.infer<typeof assignmentSchema>

/** server → node */
export const serverMessageSchema = z.discriminatedUnion('type', [
  /** The first word on every socket; `hello` answers it. */
  z.object({ type: z.literal('challenge'), nonce: nonceSchema }),
  z.object({
    type: z.literal('welcome'),
    nodeId: id,
    /** Whether the session of `hello` goes on; then both sides send again what the other has not received. */
    resumed: z.boolean(),
    received: uint,
    /** Bearer token for blobs, for the PeerJS broker and for going on with this session. */
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
  /**
   * The step before is committed, this one begins. Sent to all of a stage: who has no lease stands by, takes the parameters
   * of the step before, and may be given leases at any time.
   */
  z.object({
    type: z.literal('step'),
    generation: uint,
    /** Training steps count from 1; the rounds of an evaluation count on from the last of them. */
    step: uint,
    mode: z.enum(['train', 'evaluate']),
    /** Of this node's set of leases; raised with each change of the set, 0 while there is none. */
    version: uint,
    ...leaseTableSchema.shape,
    owners: shardOwnersSchema,
    /** Training steps committed so far: the step after which the parameters stand. */
    committed: uint,
    /** Microbatches that this node may have between the start of their forward and the end of their backward. */
    window: uint.min(1),
    /** This node is to tell by `timeline` how it spent the step. */
    traced: z.boolean().optional(),
  }),
  /** Takes the place of the table before. With the same `version` only the neighbours changed. */
  z.object({ type: z.literal('leases'), generation: uint, step: uint, version: uint, ...leaseTableSchema.shape }),
  /** Every lease of this step went to others: the gradient sum is void, and the node sits out until the next step. */
  z.object({ type: z.literal('revoked'), generation: uint, step: uint }),
  /** An owner was lost: these are the owners from now on. */
  z.object({ type: z.literal('owners'), generation: uint, step: uint, owners: shardOwnersSchema }),
  /**
   * To the first two owners of each shard: every lease of the stage is finished; sum what these contributors have, each in
   * its `version`, in this order. A later `attempt` voids the one before. With `shards`, in a run whose merges overlap local steps:
   * these are final in every lane and are summed ahead; nothing is told of them until the same attempt comes without.
   */
  z.object({
    type: z.literal('reduce'),
    generation: uint,
    step: uint,
    attempt: uint,
    contributors: z.array(z.tuple([id, uint])).max(1024),
    shards: z.array(shard).max(64).optional(),
  }),
  /** What this owner summed in that attempt is not what its contributors signed for: it names the digests one by one. */
  z.object({ type: z.literal('tally'), generation: uint, step: uint, attempt: uint, shard }),
  /** A contributor of the sum under way is gone; who lacks its share says `missing`. */
  z.object({ type: z.literal('lost'), generation: uint, step: uint, attempt: uint, node: id }),
  /**
   * To the first two owners of each shard: `scale` multiplies the gradient sum (clipping over all stages); `lr` is this
   * step's rate. The first of them sends its new parameters to `receivers`. Sent again with other owners when the first
   * one is lost. Where merges overlap local steps, to all of the stage: the mean that first owners have sent ahead in this `attempt`
   * of the sum is the one to take.
   */
  z.object({
    type: z.literal('apply'),
    generation: uint,
    step: uint,
    attempt: uint,
    lr: finite,
    scale: finite,
    owners: shardOwnersSchema,
    receivers: z.array(id).max(1024),
  }),
  /**
   * A step that this device worked in, or stood by for, is committed: what of it was accepted, and why the rest was not. Sent
   * for all versions of its leases together.
   */
  z.object({
    type: z.literal('credited'),
    runId: id,
    step: uint,
    stage: uint,
    work: z.array(earnedCreditSchema).max(64),
    refused: z.array(z.object({ microbatches: uint, error: errorSchema })).max(16),
  }),
  /** Upload these shards as they stand after `step`; training goes on meanwhile. */
  z.object({ type: z.literal('save'), generation: uint, step: uint, shards: z.array(shard).max(64) }),
  /** Takes the place of the token of `welcome`, and of the credentials there, which would expire while the socket lives on. */
  z.object({ type: z.literal('token'), token: z.string().max(300), iceServers: z.array(iceServerSchema).max(8) }),
  ...auditServerMessages,
  /** Answered by the mailbox alone. */
  z.object({ type: z.literal('ping') }),
])
export type ServerMessage = z.infer<typeof serverMessageSchema>
