/** Owns everything a stage compiles before it can work: its kernels, tuned for its shapes, and its constant tables. */
import { carrierOf } from '../codec/boundary.ts'
import { codecKernels } from '../codec/codec.ts'
import type { CodecKernels } from '../codec/codec.ts'
import { tuneMatmul } from '../gpu/autotune.ts'
import type { Matmul, TuneOptions } from '../gpu/autotune.ts'
import type { PooledBuffer } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import { attentionKernels } from '../gpu/kernels/attention.ts'
import type { AttentionKernels, AttentionVariant } from '../gpu/kernels/attention.ts'
import { bottleneckKernels } from '../gpu/kernels/bottleneck.ts'
import type { BottleneckKernels } from '../gpu/kernels/bottleneck.ts'
import { crossEntropyKernels } from '../gpu/kernels/crossEntropy.ts'
import type { CrossEntropyKernels } from '../gpu/kernels/crossEntropy.ts'
import { embeddingKernels } from '../gpu/kernels/embedding.ts'
import type { EmbeddingKernels } from '../gpu/kernels/embedding.ts'
import type { MatmulEpilogue, MatmulShape } from '../gpu/kernels/matmul.ts'
import { reduceKernels } from '../gpu/kernels/reduce.ts'
import type { ReduceKernels } from '../gpu/kernels/reduce.ts'
import { rmsNormKernels } from '../gpu/kernels/rmsNorm.ts'
import type { RmsNormKernels } from '../gpu/kernels/rmsNorm.ts'
import { ropeKernels, ropeTable } from '../gpu/kernels/rope.ts'
import type { RopeKernels } from '../gpu/kernels/rope.ts'
import { swigluKernels } from '../gpu/kernels/swiglu.ts'
import type { SwigluKernels } from '../gpu/kernels/swiglu.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import { codeHidden, paddedVocabulary, receivesCode, sendsCode } from './layout.ts'
import type { StageLayout } from './layout.ts'
import { logitRows, microbatchRows } from './memory.ts'
import { optimizerProducts, stageOptimizer } from './optimizer.ts'
import type { StageOptimizer } from './optimizer.ts'

export interface StageKernels {
  readonly matmul: Matmul
  readonly rmsNorm: RmsNormKernels
  readonly swiglu: SwigluKernels
  readonly attention: AttentionKernels
  readonly rope: RopeKernels
  readonly optimizer: StageOptimizer
  readonly reduce: ReduceKernels
  readonly codec: CodecKernels
  /** The first stage's. */
  readonly embedding: EmbeddingKernels | null
  /** The last stage's. */
  readonly crossEntropy: CrossEntropyKernels | null
  /** Of a stage at a learned boundary. */
  readonly bottleneck: BottleneckKernels | null
  /** cos and sin of every position. */
  readonly ropeTable: PooledBuffer
  /** f32 [d]: the weight of a norm that has none, at a learned boundary. */
  readonly ones: PooledBuffer | null
}

/** Kernels that are taken instead of the adapter's own best; tests and the bench run every one of them. */
export interface KernelChoice {
  /** Names of matmul variants, of which the fastest is taken. */
  readonly matmul?: readonly string[]
  readonly attention?: AttentionVariant
}

/** Where the choice of kernels is kept, and how far it is. */
export type Tuning = Pick<TuneOptions, 'store' | 'runtime' | 'onProgress'>

/** Compiles and measures; takes seconds where the driver is slow. Throws `gpu.shader` and `gpu.lost`. */
export async function stageKernels(
  gpu: GpuContext,
  config: RunConfig,
  layout: StageLayout,
  { choice = {}, tuning = {} }: { choice?: KernelChoice; tuning?: Tuning } = {},
): Promise<StageKernels> {
  const { dModel: d, heads, kvHeads, ffn, blockSize, ropeTheta } = config.model
  const headDim = d / heads
  const learned = sendsCode(layout) || receivesCode(layout)
  const [rmsNorm, swiglu, attention, rope, reduce, codec, embedding, crossEntropy, bottleneck] = await Promise.all([
    rmsNormKernels(gpu, { columns: d }),
    swigluKernels(gpu, { ffn }),
    attentionKernels(gpu, { heads, kvHeads, headDim }, choice.attention ? { variant: choice.attention } : {}),
    ropeKernels(gpu, { headDim }),
    reduceKernels(gpu),
    codecKernels(gpu, carrierOf(config.codec)),
    layout.hasEmbedding ? embeddingKernels(gpu, { d }) : null,
    layout.hasHead ? crossEntropyKernels(gpu) : null,
    learned ? bottleneckKernels(gpu) : null,
  ])
  // Alone, so that nothing else compiles while it measures.
  const shapes = [...matmulShapes(config, layout), ...optimizerProducts(layout, config.optimizer)]
  const matmul = await tuneMatmul(gpu, shapes, {
    halves: config.products === 'f16',
    ...(choice.matmul ? { variants: choice.matmul } : tuning),
  })
  const optimizer = await stageOptimizer(gpu, config.optimizer, layout, matmul)
  const table = gpu.pool.upload(ropeTable(blockSize, headDim, ropeTheta), 'rope table')
  const ones = learned ? gpu.pool.upload(new Float32Array(d).fill(1), 'ones') : null
  const common = { matmul, rmsNorm, swiglu, attention, rope, optimizer, reduce, codec }
  return { ...common, embedding, crossEntropy, bottleneck, ropeTable: table, ones }
}

/** Every product of forward and backward: for each weight [out, in] the output, the input's gradient and the weight's. */
export function matmulShapes(config: RunConfig, layout: StageLayout): MatmulShape[] {
  const { dModel: d, heads, kvHeads, ffn } = config.model
  const rows = microbatchRows(config)
  const products = (tokens: number, outputs: number, inputs: number, epilogue?: MatmulEpilogue): MatmulShape[] => [
    { form: 'nt', m: tokens, n: outputs, k: inputs, ...(epilogue && { epilogue }) },
    { form: 'nn', m: tokens, n: inputs, k: outputs },
    { form: 'tn', m: outputs, n: inputs, k: tokens },
  ]
  const layer = [
    ...products(rows, d + 2 * (d / heads) * kvHeads, d),
    ...products(rows, d, d, 'residual'),
    ...products(rows, 2 * ffn, d, 'swiglu'),
    ...products(rows, d, ffn, 'residual'),
  ]
  const hidden = codeHidden(config.model)
  const { codeWidth: k } = layout
  return [
    ...layer,
    ...(layout.hasHead ? products(logitRows(config, rows), paddedVocabulary(config.model), d) : []),
    ...(receivesCode(layout) ? [...products(rows, hidden, k!), ...products(rows, d, hidden)] : []),
    ...(sendsCode(layout) ? [...products(rows, hidden, d), ...products(rows, k!, hidden)] : []),
  ]
}
