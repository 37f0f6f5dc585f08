/** Owns the schema of a run's configuration, as a researcher writes it and as every node receives it. */
import { z } from 'zod'

const count = (max: number) => z.int().min(1).max(max)

/** A Llama-style decoder: RMSNorm, rotary positions, grouped KV heads, SwiGLU, no biases. */
export const modelConfigSchema = z.object({
  vocabSize: z.int().min(2).max(65_536).default(256),
  dModel: count(16_384).default(128),
  layers: count(256).default(4),
  heads: count(256).default(4),
  /** Key and value heads; `heads` must be a multiple of it. */
  kvHeads: count(256).default(4),
  /** Hidden width of the SwiGLU block. */
  ffn: count(65_536).default(384),
  /** Tokens in one sequence. */
  blockSize: count(8192).default(64),
  ropeTheta: z.number().min(1).max(1e8).default(10_000),
  normEps: z.number().min(1e-12).max(1e-2).default(1e-5),
  /** One matrix for the embedding and the head; needs a run of one stage. */
  tieEmbeddings: z.boolean().default(false),
})

/**
 * `adamw` (Loshchilov & Hutter 2019), or `muon` (Jordan et al. 2024) for the layers' matrices and AdamW for embedding, head
 * and norms. Decay touches matrices only, the rate warms up linearly and falls as a cosine.
 */
export const optimizerConfigSchema = z.object({
  kind: z.enum(['adamw', 'muon']).default('adamw'),
  /** How devices hold the moments; checkpoints hold f32. */
  moments: z.enum(['f32', 'bf16']).default('f32'),
  lr: z.number().positive().max(1).default(3e-3),
  minLr: z.number().min(0).max(1).default(3e-4),
  warmupSteps: z.int().min(0).max(1_000_000).default(20),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.99),
  eps: z.number().positive().max(1e-2).default(1e-8),
  /** Muon's. */
  momentum: z.number().min(0).lt(1).default(0.95),
  weightDecay: z.number().min(0).max(10).default(0.1),
  /** Largest gradient norm over all stages; 0 turns clipping off. */
  gradClip: z.number().min(0).max(1e6).default(1),
})

/**
 * How boundary tensors are compressed: number by number, or by a learned bottleneck whose code of `codecWidth` numbers a token
 * travels as f16 or, for tests, f32.
 */
export const codecNameSchema = z.enum(['f32', 'f16', 'int8', 'int4', 'bottleneck-f32', 'bottleneck-f16'])
export type CodecName = z.infer<typeof codecNameSchema>

/** How pseudo-gradients, and the change of the weights that follows from them, travel; see `src/codec/groups.ts`. */
export const mergeCodecSchema = z.enum(['f32', 'int8', 'int4'])
export type MergeCodec = z.infer<typeof mergeCodecSchema>

/**
 * With `sync: local` (DiLoCo, Douillard et al. 2023, arXiv 2311.08105). Each lane takes `innerSteps` steps of the optimizer by
 * itself, from the same weights and momentum, each on its even part of the batch; then the lanes' mean change is taken as a
 * gradient by SGD with Nesterov momentum.
 */
export const localConfigSchema = z.object({
  innerSteps: count(1000).default(30),
  /** One a replica when left out. `batch` must be a multiple of `lanes` times `microbatch`. */
  lanes: count(64).optional(),
  outer: z
    .object({ lr: z.number().positive().max(10).default(0.9), momentum: z.number().min(0).lt(1).default(0.7) })
    .prefault({}),
  mergeCodec: mergeCodecSchema.default('int4'),
  /**
   * What the lanes' moments are as a step begins: the mean of what they left, or zero. The mean merges too: Muon's makes a merge twice
   * as large, AdamW's three times.
   */
  moments: z.enum(['mean', 'zero']).default('mean'),
  /**
   * Of a step's inner steps the last ones, over which the stage's shards become final and are sent one after another while lanes go
   * on with the rest; fewer than there are inner steps. At 0 all is sent after the last. As fragments of Streaming DiLoCo (Douillard
   * et al. 2025, arXiv 2501.18512), except that no lane goes on with a fragment that is on its way.
   */
  overlap: z.int().min(0).max(999).default(0),
})

export const runConfigSchema = z.object({
  model: modelConfigSchema.prefault({}),
  optimizer: optimizerConfigSchema.prefault({}),
  /** Feeds the initial weights and the order of the data. */
  seed: z.int().min(0).max(0xffff_ffff).default(1),
  stages: count(64).default(2),
  /** Layers of each stage, first to last; as even as can be when left out. A run that is cut anew gets another. */
  partition: z.array(count(256)).min(1).max(64).optional(),
  /** Replicas wanted of each stage; a run starts when every stage has them all. */
  replicas: count(64).default(2),
  /** Sequences in one step; with local steps, in one inner step of all lanes together. */
  batch: count(4096).default(12),
  /** Sequences in one microbatch; must divide `batch`. */
  microbatch: count(4096).default(3),
  /** Merges: with local steps each holds `local.innerSteps` updates. Warm-up and cosine count updates. */
  steps: count(10_000_000).default(150),
  codec: codecNameSchema.default('f16'),
  /** Numbers that a bottleneck sends for each token and boundary; other codecs send all dModel. */
  codecWidth: count(16_384).default(8),
  /**
   * `f16` lets a GPU that has halves round the operands of products to them on their way; sums and all else stay f32. A
   * device without them computes in f32, so that devices then agree only as far as halves do.
   */
  products: z.enum(['f32', 'f16']).default('f32'),
  /** Replicas merge gradients in every step, or each lane's change after some steps of its own. */
  sync: z.enum(['exact', 'local']).default('exact'),
  local: localConfigSchema.prefault({}),
  /** Steps between two checkpoints; the last step always makes one. */
  checkpointEvery: count(1_000_000).default(25),
  /** Held-out tokens scored after the last step, spread evenly over the tail. */
  evalTokens: count(100_000_000).default(131_072),
  /** Refuse nodes whose adapter is software. */
  requireHardware: z.boolean().default(false),
})

export type ModelConfig = z.infer<typeof modelConfigSchema>
export type OptimizerConfig = z.infer<typeof optimizerConfigSchema>
export type RunConfig = z.infer<typeof runConfigSchema>
/** What a researcher may leave out. */
export type RunConfigInput = z.input<typeof runConfigSchema>
