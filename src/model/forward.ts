/** Owns the forward pass of a stage on the GPU: recorded, not yet run. */
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { parameter, giveBack, layerWork, lend, multiply, submitIfLong } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

/** What a layer's backward needs. All f32; rows are the microbatch's tokens. */
export interface LayerActivations {
  readonly layer: number
  /** The residual stream entering the layer [rows, d]. */
  readonly input: PooledBuffer
  readonly inverse: PooledBuffer
  readonly normed: PooledBuffer
  /** Turned by their positions. */
  readonly q: PooledBuffer
  readonly k: PooledBuffer
  readonly v: PooledBuffer
  readonly mixed: PooledBuffer
  /** Of attention's rows [rows, heads]. */
  readonly logSumExp: PooledBuffer
  /** The residual stream between attention and SwiGLU [rows, d]. */
  readonly middle: PooledBuffer
  readonly middleInverse: PooledBuffer
  readonly middleNormed: PooledBuffer
  readonly gate: PooledBuffer
  readonly up: PooledBuffer
  readonly gated: PooledBuffer
}

export interface StageActivations {
  readonly rows: number
  readonly layers: readonly LayerActivations[]
  /** The residual stream leaving the last layer [rows, d]. */
  readonly output: PooledBuffer
}

/** Runs the stage's layers over `input` [rows, d], which becomes theirs. Without `keep` only `output` survives. */
export function forwardLayers(stage: StageContext, input: PooledBuffer, rows: number, keep: boolean): StageActivations {
  const { firstLayer, layerCount } = stage.layout
  const layers: LayerActivations[] = []
  let stream = input
  let work = 0
  for (let layer = firstLayer; layer < firstLayer + layerCount; layer++) {
    const { activations, output } = forwardLayer(stage, layer, stream, rows)
    if (keep) layers.push(activations)
    else releaseLayer(stage, activations)
    stream = output
    work = submitIfLong(stage, work + layerWork(stage, rows))
  }
  return { rows, layers, output: stream }
}

export function releaseLayer(stage: StageContext, { layer: _, ...buffers }: LayerActivations): void {
  giveBack(stage, ...Object.values(buffers))
}

export function releaseActivations(stage: StageContext, { layers, output }: StageActivations): void {
  for (const layer of layers) releaseLayer(stage, layer)
  giveBack(stage, output)
}

function forwardLayer(stage: StageContext, layer: number, input: PooledBuffer, rows: number) {
  const { kernels, recorder, config } = stage
  const { dModel: d, ffn, heads, kvHeads, blockSize, normEps } = config.model
  const kv = (d / heads) * kvHeads
  const weight = (name: string) => parameter(stage, `model.layers.${layer}.${name}.weight`)
  const lendRows = (columns: number, label: string) => lend(stage, rows, columns, label)
  /** y [rows, outputs] = x·Wᵀ */
  const project = (name: string, x: BufferView, inputs: number, outputs: number) => {
    const y = lendRows(outputs, name)
    multiply(stage, { form: 'nt', a: x, b: weight(name), c: y, m: rows, n: outputs, k: inputs })
    return y
  }
  const norm = (name: string, x: BufferView) => {
    const [y, inverse] = [lendRows(d, name), lendRows(1, name)]
    kernels.rmsNorm.forward(recorder, { x, weight: weight(name), y, inverse }, { rows, columns: d }, normEps)
    return [y, inverse] as const
  }
  const addTo = (stream: BufferView, delta: PooledBuffer) => {
    const sum = lendRows(d, 'residual')
    kernels.add.add(recorder, { a: stream, b: delta, out: sum }, rows * d)
    giveBack(stage, delta)
    return sum
  }

  const [normed, inverse] = norm('input_layernorm', input)
  const q = project('self_attn.q_proj', normed, d, d)
  const k = project('self_attn.k_proj', normed, d, kv)
  const v = project('self_attn.v_proj', normed, d, kv)
  kernels.rope.forward(recorder, { x: q, table: kernels.ropeTable }, { rows, heads, sequence: blockSize })
  kernels.rope.forward(recorder, { x: k, table: kernels.ropeTable }, { rows, heads: kvHeads, sequence: blockSize })
  const [mixed, logSumExp] = [lendRows(d, 'mixed'), lendRows(heads, 'log sum exp')]
  const sequences = { batch: rows / blockSize, sequence: blockSize }
  kernels.attention.forward(recorder, { q, k, v, out: mixed, logSumExp }, sequences)
  const middle = addTo(input, project('self_attn.o_proj', mixed, d, d))

  const [middleNormed, middleInverse] = norm('post_attention_layernorm', middle)
  const gate = project('mlp.gate_proj', middleNormed, d, ffn)
  const up = project('mlp.up_proj', middleNormed, d, ffn)
  const gated = lendRows(ffn, 'gated')
  kernels.swiglu.forward(recorder, { gate, up, out: gated }, rows * ffn)
  const output = addTo(middle, project('mlp.down_proj', gated, ffn, d))

  const attention = { input, inverse, normed, q, k, v, mixed, logSumExp }
  const feedForward = { middle, middleInverse, middleNormed, gate, up, gated }
  const activations: LayerActivations = { layer, ...attention, ...feedForward }
  return { activations, output }
}
