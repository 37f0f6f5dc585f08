/** Owns the checks of a run's configuration that go beyond its schema: what cannot be trained, and what to do about it. */
import { codeWidthOf } from '../codec/boundary.ts'
import type { DatasetView } from '../protocol/api.ts'
import { fail } from '../protocol/errors.ts'
import { MAX_FRAME_PAYLOAD_BYTES } from '../protocol/frame.ts'
import { laneCount, stepMicrobatches } from '../protocol/lanes.ts'
import { shardCount } from '../protocol/routing.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import { sharedVectors } from '../stage/model.ts'
import { runLayouts } from './layout.ts'
import type { StageLayout } from './layout.ts'
import { layoutMemory, microbatchRows } from './memory.ts'
import { stageShards } from './optimizerShards.ts'

/** The most that a stage may ask of a device. */
export const MAX_STAGE_BYTES = 4 * 1024 ** 3

/** The longest storage binding that every WebGPU device grants; no tensor and no activation may be longer. */
export const MAX_BINDING_BYTES = 128 * 1024 ** 2

/** The longest head the attention kernels hold in registers. */
export const MAX_HEAD_DIM = 128

const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20).toLocaleString('en')} MiB`

/** What of a dataset decides whether a run can be trained on it. */
export type DatasetFacts = Pick<DatasetView, 'tokens' | 'trainTokens' | 'tokenizer' | 'vocabSize'>

/**
 * Throws the first reason why `config` cannot be trained (on `dataset`, where one is given): `run.heads_do_not_divide`,
 * `run.kv_heads`, `run.head_dim`, `run.stages_exceed_layers`, `run.partition`, `run.tied_stages`, `run.code_width`,
 * `run.local_bottleneck`, `run.microbatch_does_not_divide`, `run.lanes_do_not_divide`, `run.inner_steps`, `run.overlap`, `run.memory`,
 * `run.vocabulary`, `run.block_exceeds_dataset`.
 */
export function validateRunConfig(config: RunConfig, dataset?: DatasetFacts): void {
  checkShape(config)
  checkCode(config)
  checkBatch(config)
  checkMemory(config)
  if (dataset) checkDataset(config, dataset)
}

function checkShape({ model, stages, partition }: RunConfig): void {
  const { dModel, heads, kvHeads, layers } = model
  if (dModel % heads !== 0) {
    const near = divisors(dModel).filter((n) => n <= 2 * heads)
    fail(
      'run.heads_do_not_divide',
      `dModel ${dModel} cannot be split into ${heads} heads.`,
      `Choose a number of heads that divides dModel: ${near.slice(-4).join(', ')}.`,
    )
  }
  if (heads % kvHeads !== 0) {
    fail(
      'run.kv_heads',
      `${heads} heads cannot share ${kvHeads} key and value heads evenly.`,
      `Choose kvHeads among ${divisors(heads).join(', ')}.`,
    )
  }
  const headDim = dModel / heads
  if (headDim % 2 !== 0 || headDim > MAX_HEAD_DIM) {
    fail(
      'run.head_dim',
      `dModel / heads gives heads of ${headDim}; rotary positions need an even number, the kernels at most ${MAX_HEAD_DIM}.`,
      'Change dModel or heads so that dModel / heads is even and within the limit, such as 32 or 64.',
    )
  }
  if (stages > layers) {
    fail(
      'run.stages_exceed_layers',
      `${stages} stages cannot each hold one of ${layers} layers.`,
      `Use at most ${layers} stages, or more layers.`,
    )
  }
  const given = partition?.reduce((sum, count) => sum + count, 0) ?? layers
  if (given !== layers || (partition && partition.length !== stages)) {
    fail(
      'run.partition',
      `A partition of ${given} layers into ${partition!.length} stages does not fit ${layers} layers in ${stages} stages.`,
      'Give one number of layers for each stage, all layers together, or leave the partition out.',
    )
  }
  if (model.tieEmbeddings && stages > 1) {
    fail(
      'run.tied_stages',
      'Tied embeddings put embedding and head into one matrix, which one stage must hold.',
      'Use one stage, or set tieEmbeddings to false.',
    )
  }
}

function checkCode(config: RunConfig): void {
  const width = codeWidthOf(config)
  const { dModel, blockSize } = config.model
  if (width === null) return
  if (config.sync === 'local') {
    fail(
      'run.local_bottleneck',
      `Lanes with steps of their own cannot share the learned boundary of the codec ${config.codec}.`,
      'Choose the codec f32, f16, int8 or int4, or sync exact.',
    )
  }
  if (width > dModel) {
    fail(
      'run.code_width',
      `A code of ${width} values a token is no bottleneck of a stream of ${dModel}.`,
      `Choose a codecWidth of at most ${dModel}, such as ${Math.max(1, Math.floor(dModel / 16))}.`,
    )
  }
  if ((width * blockSize) % 2 !== 0) {
    fail(
      'run.code_width',
      `Codes of ${width} values for ${blockSize} tokens are an odd number of halves; they travel in pairs.`,
      'Choose an even codecWidth or an even blockSize.',
    )
  }
}

function checkBatch(config: RunConfig): void {
  const { batch, microbatch } = config
  if (batch % microbatch !== 0) {
    fail(
      'run.microbatch_does_not_divide',
      `A batch of ${batch} sequences cannot be cut into microbatches of ${microbatch}.`,
      `Choose a microbatch among ${divisors(batch).join(', ')}.`,
    )
  }
  if (config.sync === 'local') checkLanes(config)
}

/** More microbatches than a node's leases may name at once. */
const MOST_MICROBATCHES = 4096

function checkLanes(config: RunConfig): void {
  const { batch, microbatch, local } = config
  const lanes = laneCount(config)
  if (batch % (lanes * microbatch) !== 0) {
    fail(
      'run.lanes_do_not_divide',
      `A batch of ${batch} sequences cannot be parted among ${lanes} lanes in microbatches of ${microbatch}.`,
      `Use a batch that is a multiple of ${lanes * microbatch}, or fewer lanes.`,
    )
  }
  const count = stepMicrobatches(config)
  if (count > MOST_MICROBATCHES) {
    fail(
      'run.inner_steps',
      `${local.innerSteps} inner steps make ${count} microbatches between two merges; ${MOST_MICROBATCHES} is the most.`,
      'Use fewer inner steps or a larger microbatch.',
    )
  }
  if (local.overlap >= local.innerSteps) {
    fail(
      'run.overlap',
      `Shards cannot become final over the last ${local.overlap} of ${local.innerSteps} inner steps: one would never be trained.`,
      `Use an overlap of ${local.innerSteps - 1} at most, or more inner steps.`,
    )
  }
}

function checkMemory(config: RunConfig): void {
  const { model, stages, replicas } = config
  const layouts = runLayouts(config)
  for (const layout of layouts) {
    for (const tensor of layout.tensors) {
      if (tensor.length * 4 <= MAX_BINDING_BYTES) continue
      fail(
        'run.memory',
        `${tensor.name} takes ${mib(tensor.length * 4)}; a device binds at most ${mib(MAX_BINDING_BYTES)} at once.`,
        'Use a smaller vocabSize, dModel or ffn.',
      )
    }
  }
  const activation = microbatchRows(config) * Math.max(model.dModel, model.ffn) * 4
  if (activation > MAX_BINDING_BYTES) {
    fail(
      'run.memory',
      `An activation of one microbatch takes ${mib(activation)}; a device binds at most ${mib(MAX_BINDING_BYTES)} at once.`,
      'Use a smaller microbatch or blockSize.',
    )
  }
  for (const layout of layouts) {
    const shard = shardBytes(config, layout)
    if (replicas > 1 && shard > MAX_FRAME_PAYLOAD_BYTES) {
      fail(
        'run.memory',
        `A replica of stage ${layout.stage} would exchange shards of ${mib(shard)}; ${mib(MAX_FRAME_PAYLOAD_BYTES)} is the most.`,
        config.optimizer.kind === 'muon'
          ? 'Use more stages or more replicas, or the optimizer adamw, whose shards may cut a matrix.'
          : 'Use more stages or more replicas.',
      )
    }
    const { total } = layoutMemory(config, layout)
    if (total <= MAX_STAGE_BYTES) continue
    fail(
      'run.memory',
      `Stage ${layout.stage} needs about ${mib(total)} on each device; ${mib(MAX_STAGE_BYTES)} is the most.`,
      stages < model.layers
        ? 'Use more stages or a smaller microbatch.'
        : 'Use a smaller microbatch or a smaller model.',
    )
  }
}

/**
 * Bytes of a stage's largest shard in the largest frame that carries it, f32: of both moments, or with local steps of all
 * that the replicas share.
 */
export function shardBytes(config: RunConfig, layout: StageLayout): number {
  const shards = stageShards(layout, shardCount(config), config.optimizer)
  const vectors = config.sync === 'local' ? sharedVectors(config).length : 2
  return 4 * vectors * Math.max(...shards.map(({ length }) => length))
}

function checkDataset({ model }: RunConfig, dataset: DatasetFacts): void {
  if (model.vocabSize < dataset.vocabSize) {
    const tokens = dataset.tokenizer === 'byte' ? 'bytes' : 'characters'
    fail(
      'run.vocabulary',
      `A vocabulary of ${model.vocabSize} cannot hold the ${dataset.vocabSize} ${tokens} that the dataset is made of.`,
      `Set vocabSize to ${dataset.vocabSize} or more, or leave it out.`,
    )
  }
  const heldOut = dataset.tokens - dataset.trainTokens
  const least = Math.min(dataset.trainTokens, heldOut)
  if (least <= model.blockSize) {
    fail(
      'run.block_exceeds_dataset',
      `The dataset has ${dataset.trainTokens} tokens to train on and ${heldOut} held out; a sequence takes ${model.blockSize + 1}.`,
      'Upload a longer text or use a smaller blockSize.',
    )
  }
}

function divisors(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1).filter((i) => n % i === 0)
}
