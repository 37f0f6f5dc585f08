/** Owns how floating point operations are counted; a multiply-add is two. */
import { parameterCount, stageLayouts } from '../../src/model/layout.ts'
import type { ModelConfig } from '../../src/protocol/runConfig.ts'
import type { KernelCase } from './works.ts'

/**
 * A product counts 2mnk. Attention counts the causal half of its scores, after FlashAttention-2 (Dao 2023): two products
 * forward, five more backward.
 */
export function kernelFlops(kernel: KernelCase): number {
  if (kernel.op === 'matmul') return 2 * kernel.m * kernel.n * kernel.k
  const product = kernel.batch * kernel.heads * kernel.seq ** 2 * kernel.headDim
  return product * (kernel.pass === 'forward' ? 2 : 7)
}

/**
 * Model FLOPs of one trained token: six for each parameter that is multiplied (the embedding is looked up) and
 * 12·layers·d·block for attention, causal or not (Chowdhery et al. 2022, PaLM, appendix B).
 */
export function trainFlopsPerToken(model: ModelConfig): number {
  const { layers, dModel, blockSize, vocabSize, tieEmbeddings } = model
  const lookedUp = tieEmbeddings ? 0 : vocabSize * dModel
  return 6 * (parameters(model) - lookedUp) + 12 * layers * dModel * blockSize
}

export function parameters(model: ModelConfig): number {
  return parameterCount(stageLayouts(model, 1))
}
