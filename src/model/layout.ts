/**
 * Owns the cut of a model into stages and the place of every tensor in a stage's one flat f32 vector.
 *
 * A stage keeps its parameters, gradients and moments as four flat vectors of the same layout: the merge cuts them into
 * shards, AdamW walks them, a checkpoint stores them, and none of these needs to know what a tensor is.
 * Matrices that decay come first, so that weight decay is `index < decayLength`.
 */
import { codeWidthOf, RECEIVED_TAPS } from '../codec/boundary.ts'
import type { ModelConfig, RunConfig } from '../protocol/runConfig.ts'

/** Tensors start at multiples of 64 elements (256 bytes), where WebGPU allows a storage binding to start. */
export const TENSOR_ALIGNMENT = 64

/**
 * The head's rows are padded with zero rows to a multiple of this, so that a vocabulary of any size gives products whose
 * sides are whole vectors and whole tiles. Padding is no part of a tensor: it is neither initialised nor exported.
 */
export const VOCABULARY_PADDING = 16

export interface TensorSpec {
  /** The Hugging Face Llama name, such as `model.layers.3.self_attn.q_proj.weight`. */
  readonly name: string
  /** `[out, in]` for a projection, `[vocab, d]` for embedding and head, `[d]` for a norm. */
  readonly shape: readonly number[]
  /** Elements from the start of the stage's flat vector. */
  readonly offset: number
  /** Lies right behind the tensor before it, without a gap: one product computes with both (Q, K, V; gate and up). */
  readonly joined: boolean
  readonly length: number
  /** Standard deviation of the initial normal, 0 for zeros, or `ones` for norms. */
  readonly init: number | 'ones'
}

/** What of the model a stage computes. */
export interface StageSlice {
  readonly stage: number
  readonly firstLayer: number
  readonly layerCount: number
  /** The first stage turns token ids into the residual stream. */
  readonly hasEmbedding: boolean
  /** The last stage ends in the final norm, the head and the loss. */
  readonly hasHead: boolean
}

export interface StageLayout extends StageSlice {
  /** Numbers a token of a learned boundary's code; null where boundaries have no weights. */
  readonly codeWidth: number | null
  readonly tensors: readonly TensorSpec[]
  /** Elements of the flat vector, padding included; a multiple of {@link TENSOR_ALIGNMENT}. */
  readonly length: number
  /** Elements below this index take weight decay. */
  readonly decayLength: number
}

/** The even cut, layers of each stage: as even as can be, the earlier stages taking one less where it does not divide (the head costs too). */
export function layersPerStage(layers: number, stages: number): number[] {
  const base = Math.floor(layers / stages)
  const extra = layers % stages
  return Array.from({ length: stages }, (_, s) => base + (s > 0 && s <= extra ? 1 : 0))
}

const align = (n: number) => Math.ceil(n / TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT

/** Rows of the head, and columns of the logits, as they lie in memory. */
export function paddedVocabulary({ vocabSize }: Pick<ModelConfig, 'vocabSize'>): number {
  return Math.ceil(vocabSize / VOCABULARY_PADDING) * VOCABULARY_PADDING
}

interface Placement {
  readonly joined?: boolean
  /** Rows to leave room for, where they are more than the tensor has. */
  readonly rows?: number
}

type Matrix = [name: string, shape: number[], init: number, placement?: Placement]

/** The layers of each stage of a run, first to last. */
export function runPartition({ model, stages, partition }: RunShape): readonly number[] {
  return partition ?? layersPerStage(model.layers, stages)
}

type RunShape = Pick<RunConfig, 'model' | 'stages' | 'partition'>

/** What of a run decides where its tensors lie. */
export type LayoutConfig = RunShape & Pick<RunConfig, 'codec' | 'codecWidth'>

/** The layouts of a run's stages. A config that passed `validateRunConfig` cannot make it throw. */
export function runLayouts(config: LayoutConfig): StageLayout[] {
  return stageLayouts(config.model, config.stages, config.partition, codeWidthOf(config))
}

/**
 * The layouts of all stages, cut evenly where no `partition` says how many layers each takes. With a `codeWidth` each boundary
 * has weights: the sender's in the stage before it, the receiver's in the one after it.
 * @throws RangeError when the partition is not one of `model.layers` layers into `stages` stages
 */
export function stageLayouts(
  model: ModelConfig,
  stages: number,
  partition: readonly number[] = layersPerStage(model.layers, stages),
  codeWidth: number | null = null,
): StageLayout[] {
  if (partition.length !== stages || partition.reduce((sum, count) => sum + count, 0) !== model.layers)
    throw new RangeError(`${partition.join(' + ')} is no cut of ${model.layers} layers into ${stages} stages.`)
  let firstLayer = 0
  return partition.map((layerCount, stage) => {
    const hasEmbedding = stage === 0
    const hasHead = stage === stages - 1
    const layout = stageLayout(model, { stage, firstLayer, layerCount, hasEmbedding, hasHead }, codeWidth)
    firstLayer += layerCount
    return layout
  })
}

/** The layout of one stage; its length depends on the number of its layers and on its ends, not on which layers they are. */
export function stageLayout(model: ModelConfig, slice: StageSlice, codeWidth: number | null = null): StageLayout {
  const { dModel: d, ffn, vocabSize } = model
  const { stage, firstLayer, layerCount, hasEmbedding, hasHead } = slice
  const headDim = d / model.heads
  const kvDim = headDim * model.kvHeads
  // GPT-2's rule: projections that write into the residual stream start smaller by the square root of their number.
  const std = 0.02
  const residualStd = std / Math.sqrt(2 * model.layers)
  const matrices: Matrix[] = []
  const norms: string[] = []
  const vocabularyRows = paddedVocabulary(model)
  if (hasEmbedding) matrices.push(['model.embed_tokens.weight', [vocabSize, d], std, { rows: vocabularyRows }])
  for (let layer = firstLayer; layer < firstLayer + layerCount; layer++) {
    const p = `model.layers.${layer}`
    matrices.push(
      [`${p}.self_attn.q_proj.weight`, [d, d], std],
      [`${p}.self_attn.k_proj.weight`, [kvDim, d], std, { joined: true }],
      [`${p}.self_attn.v_proj.weight`, [kvDim, d], std, { joined: true }],
      [`${p}.self_attn.o_proj.weight`, [d, d], residualStd],
      [`${p}.mlp.gate_proj.weight`, [ffn, d], std],
      [`${p}.mlp.up_proj.weight`, [ffn, d], std, { joined: true }],
      [`${p}.mlp.down_proj.weight`, [d, ffn], residualStd],
    )
    norms.push(`${p}.input_layernorm.weight`, `${p}.post_attention_layernorm.weight`)
  }
  if (hasHead && !model.tieEmbeddings) matrices.push(['lm_head.weight', [vocabSize, d], std, { rows: vocabularyRows }])
  if (hasHead) norms.push('model.norm.weight')

  const tensors: TensorSpec[] = []
  let end = 0
  const place = (name: string, shape: number[], init: number | 'ones', { rows, joined = false }: Placement = {}) => {
    const length = shape.reduce((a, b) => a * b, 1)
    const offset = joined ? end : align(end)
    tensors.push({ name, shape, offset, length, init, joined })
    end = offset + (rows ? rows * (shape[1] ?? 1) : length)
  }
  for (const matrix of matrices) place(...matrix)
  const decayLength = align(end)
  for (const name of norms) place(name, [d], 'ones')
  if (codeWidth !== null) {
    const hidden = codeHidden(model)
    // Second matrices of zeros: a boundary starts as a plain cut of the stream, and learns from there.
    if (!hasEmbedding) {
      place(boundaryTensor(stage - 1, 'receive_in'), [hidden, codeWidth], 1 / Math.sqrt(codeWidth))
      place(boundaryTensor(stage - 1, 'receive_out'), [d, hidden], 0)
      // Not zeros: columns that mix differently from the first step tell which token lies how far back.
      place(boundaryTensor(stage - 1, 'receive_taps'), [RECEIVED_TAPS, d], 0.3)
    }
    if (!hasHead) {
      place(boundaryTensor(stage, 'send_in'), [hidden, d], 1 / Math.sqrt(d))
      place(boundaryTensor(stage, 'send_out'), [codeWidth, hidden], 0)
    }
  }
  return { ...slice, codeWidth, tensors, length: align(end), decayLength }
}

/** Whether a learned boundary lies behind this stage. */
export const sendsCode = ({ codeWidth, hasHead }: StageLayout): boolean => codeWidth !== null && !hasHead

/** Whether a learned boundary lies before this stage. */
export const receivesCode = ({ codeWidth, hasEmbedding }: StageLayout): boolean => codeWidth !== null && !hasEmbedding

/** Hidden width of a learned boundary's two networks. */
export function codeHidden({ dModel }: Pick<ModelConfig, 'dModel'>): number {
  return Math.ceil(dModel / 4)
}

/** The name of a learned boundary's matrix; `boundary` is the one between the stage of that number and the next. */
export function boundaryTensor(
  boundary: number,
  matrix: 'send_in' | 'send_out' | 'receive_in' | 'receive_out' | 'receive_taps',
): string {
  return `model.boundaries.${boundary}.${matrix}.weight`
}

/** Parameters of the whole model, padding not counted. */
export function parameterCount(layouts: readonly StageLayout[]): number {
  return layouts.reduce((sum, layout) => sum + layout.tensors.reduce((n, t) => n + t.length, 0), 0)
}

/** Finds a tensor by its name. */
export function tensorNamed(layout: StageLayout, name: string): TensorSpec {
  const found = layout.tensors.find((t) => t.name === name)
  if (!found) throw new RangeError(`Stage ${layout.stage} holds no tensor ${name}.`)
  return found
}
