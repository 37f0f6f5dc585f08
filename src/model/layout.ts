/**
 * Owns the cut of a model into stages and the place of every tensor in a stage's one flat f32 vector.
 *
 * A stage keeps its parameters, gradients and moments as four flat vectors of the same layout: the merge cuts them into
 * shards, AdamW walks them, a checkpoint stores them, and none of these needs to know what a tensor is.
 * Matrices come first, so that weight decay is `index < decayLength`.
 */
import type { ModelConfig } from '../protocol/runConfig.ts'

/** Tensors start at multiples of 64 elements (256 bytes), where WebGPU allows a storage binding to start. */
export const TENSOR_ALIGNMENT = 64

export interface TensorSpec {
  /** The Hugging Face Llama name, such as `model.layers.3.self_attn.q_proj.weight`. */
  readonly name: string
  /** `[out, in]` for a projection, `[vocab, d]` for embedding and head, `[d]` for a norm. */
  readonly shape: readonly number[]
  /** Elements from the start of the stage's flat vector. */
  readonly offset: number
  readonly length: number
  /** Standard deviation of the initial normal, or `ones` for norms. */
  readonly init: number | 'ones'
}

export interface StageLayout {
  readonly stage: number
  readonly firstLayer: number
  readonly layerCount: number
  /** The first stage turns token ids into the residual stream. */
  readonly hasEmbedding: boolean
  /** The last stage ends in the final norm, the head and the loss. */
  readonly hasHead: boolean
  readonly tensors: readonly TensorSpec[]
  /** Elements of the flat vector, padding included; a multiple of {@link TENSOR_ALIGNMENT}. */
  readonly length: number
  /** Elements below this index take weight decay. */
  readonly decayLength: number
}

/** Layers of each stage: as even as can be, the earlier stages taking one less where it does not divide (the head costs too). */
export function layersPerStage(layers: number, stages: number): number[] {
  const base = Math.floor(layers / stages)
  const extra = layers % stages
  return Array.from({ length: stages }, (_, s) => base + (s > 0 && s <= extra ? 1 : 0))
}

const align = (n: number) => Math.ceil(n / TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT

/** The layouts of all stages. A config that passed `validateRunConfig` cannot make it throw. */
export function stageLayouts(model: ModelConfig, stages: number): StageLayout[] {
  const { dModel: d, ffn, vocabSize } = model
  const headDim = d / model.heads
  const kvDim = headDim * model.kvHeads
  // GPT-2's rule: projections that write into the residual stream start smaller by the square root of their number.
  const std = 0.02
  const residualStd = std / Math.sqrt(2 * model.layers)
  let firstLayer = 0
  return layersPerStage(model.layers, stages).map((layerCount, stage) => {
    const hasEmbedding = stage === 0
    const hasHead = stage === stages - 1
    const matrices: [string, number[], number][] = []
    const norms: string[] = []
    if (hasEmbedding) matrices.push(['model.embed_tokens.weight', [vocabSize, d], std])
    for (let layer = firstLayer; layer < firstLayer + layerCount; layer++) {
      const p = `model.layers.${layer}`
      matrices.push(
        [`${p}.self_attn.q_proj.weight`, [d, d], std],
        [`${p}.self_attn.k_proj.weight`, [kvDim, d], std],
        [`${p}.self_attn.v_proj.weight`, [kvDim, d], std],
        [`${p}.self_attn.o_proj.weight`, [d, d], residualStd],
        [`${p}.mlp.gate_proj.weight`, [ffn, d], std],
        [`${p}.mlp.up_proj.weight`, [ffn, d], std],
        [`${p}.mlp.down_proj.weight`, [d, ffn], residualStd],
      )
      norms.push(`${p}.input_layernorm.weight`, `${p}.post_attention_layernorm.weight`)
    }
    if (hasHead && !model.tieEmbeddings) matrices.push(['lm_head.weight', [vocabSize, d], std])
    if (hasHead) norms.push('model.norm.weight')

    const tensors: TensorSpec[] = []
    let offset = 0
    const place = (name: string, shape: number[], init: number | 'ones') => {
      const length = shape.reduce((a, b) => a * b, 1)
      tensors.push({ name, shape, offset, length, init })
      offset = align(offset + length)
    }
    for (const [name, shape, init] of matrices) place(name, shape, init)
    const decayLength = offset
    for (const name of norms) place(name, [d], 'ones')
    const layout = { stage, firstLayer, layerCount, hasEmbedding, hasHead, tensors, length: offset, decayLength }
    firstLayer += layerCount
    return layout
  })
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
