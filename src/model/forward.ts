/** Owns the forward pass of a stage on the GPU: recorded, not yet run. */
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { sendsCode } from './layout.ts'
import { giveBack, layerParameter, lend, multiply } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

/** What a layer's backward needs. All f32; rows are the microbatch's tokens. */
export interface LayerActivations {
  readonly layer: number
  /** The residual stream entering the layer [rows, d]. */
  readonly input: PooledBuffer
  readonly inverse: PooledBuffer
  readonly normed: PooledBuffer
  /** Queries and keys, turned by their positions, and values, side by side [rows, d + 2·kv]. */
  readonly qkv: PooledBuffer
  readonly mixed: PooledBuffer
  /** Of attention's rows [rows, heads]. */
  readonly logSumExp: PooledBuffer
  /** The residual stream between attention and SwiGLU [rows, d]. */
  readonly middle: PooledBuffer
  readonly middleInverse: PooledBuffer
  readonly middleNormed: PooledBuffer
  /** Side by side [rows, 2·ffn]. */
  readonly gateUp: PooledBuffer
  readonly gated: PooledBuffer
}

/** Where a pass keeps its activations: among the plan's scratch until backward, or in a place of their own. */
export interface Keeping {
  /** An f32 [rows, columns] buffer. */
  lend(rows: number, columns: number, label: string): PooledBuffer
  giveBack(...buffers: readonly PooledBuffer[]): void
}

/** Activations live among the scratch of the plan that is recorded. */
export function keptInScratch(stage: StageContext): Keeping {
  return {
    lend: (rows, columns, label) => lend(stage, rows, columns, label),
    giveBack: (...buffers) => giveBack(stage, ...buffers),
  }
}

export interface StageActivations {
  readonly rows: number
  readonly layers: readonly LayerActivations[]
}

/**
 * Runs the stage's layers over `input` [rows, d], which is theirs and was lent by `keeping`. Without one nothing but the
 * output survives. Returns it, the residual stream leaving the last layer [rows, d], as scratch, or lent by `keeping` before a
 * learned boundary.
 */
export function forwardLayers(
  stage: StageContext,
  input: PooledBuffer,
  rows: number,
  keeping: Keeping | null,
): { activations: StageActivations; output: PooledBuffer } {
  const { firstLayer, layerCount } = stage.layout
  const kept = keeping ?? keptInScratch(stage)
  const layers: LayerActivations[] = []
  let stream = input
  for (let i = 0; i < layerCount; i++) {
    // A learned boundary needs the stream again on its way back.
    const output = i === layerCount - 1 && !sendsCode(stage.layout) ? keptInScratch(stage) : kept
    const activations = forwardLayer(stage, firstLayer + i, stream, rows, kept)
    stream = feedForward(stage, activations, rows, output)
    if (keeping) layers.push(activations)
    else releaseLayer(kept, activations)
  }
  return { activations: { rows, layers }, output: stream }
}

export function releaseLayer(keeping: Keeping, { layer: _, ...buffers }: LayerActivations): void {
  keeping.giveBack(...Object.values(buffers))
}

/** Everything of a layer but its last product. */
function forwardLayer(
  stage: StageContext,
  layer: number,
  input: PooledBuffer,
  rows: number,
  kept: Keeping,
): LayerActivations {
  const { kernels, recorder, config } = stage
  const { dModel: d, ffn, heads, kvHeads, blockSize, normEps } = config.model
  const width = d + 2 * (d / heads) * kvHeads
  const weight = (name: string) => layerParameter(stage, layer, name)
  const norm = (name: string, x: BufferView) => {
    const [y, inverse] = [kept.lend(rows, d, name), kept.lend(rows, 1, name)]
    kernels.rmsNorm.forward(recorder, { x, weight: weight(name), y, inverse }, { rows, columns: d }, normEps)
    return [y, inverse] as const
  }

  const [normed, inverse] = norm('input_layernorm', input)
  const qkv = kept.lend(rows, width, 'qkv')
  multiply(stage, { form: 'nt', a: normed, b: weight('self_attn.q_proj'), c: qkv, m: rows, n: width, k: d })
  const turned = { rows, heads: heads + kvHeads, sequence: blockSize, stride: width }
  kernels.rope.forward(recorder, { x: qkv, table: kernels.ropeTable }, turned)
  const [mixed, logSumExp] = [kept.lend(rows, d, 'mixed'), kept.lend(rows, heads, 'log sum exp')]
  kernels.attention.forward(recorder, { qkv, out: mixed, logSumExp }, { batch: rows / blockSize, sequence: blockSize })
  recorder.spent(rows * blockSize * d)
  const middle = kept.lend(rows, d, 'residual')
  const attended = { form: 'nt', a: mixed, b: weight('self_attn.o_proj'), c: middle, m: rows, n: d, k: d } as const
  multiply(stage, { ...attended, residual: input })

  const [middleNormed, middleInverse] = norm('post_attention_layernorm', middle)
  const [gateUp, gated] = [kept.lend(rows, 2 * ffn, 'gate and up'), kept.lend(rows, ffn, 'gated')]
  const both = {
    form: 'nt',
    a: middleNormed,
    b: weight('mlp.gate_proj'),
    c: gateUp,
    m: rows,
    n: 2 * ffn,
    k: d,
  } as const
  multiply(stage, { ...both, gated })
  const attention = { input, inverse, normed, qkv, mixed, logSumExp }
  return { layer, ...attention, middle, middleInverse, middleNormed, gateUp, gated }
}

/** The layer's last product: the residual stream that leaves it. */
function feedForward(stage: StageContext, kept: LayerActivations, rows: number, keeping: Keeping): PooledBuffer {
  const { dModel: d, ffn } = stage.config.model
  const c = keeping.lend(rows, d, 'residual')
  const b = layerParameter(stage, kept.layer, 'mlp.down_proj')
  multiply(stage, { form: 'nt', a: kept.gated, b, c, m: rows, n: d, k: ffn, residual: kept.middle })
  return c
}
