/** Owns the backward pass of a stage's layers on the GPU: recorded, not yet run. */
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { releaseLayer } from './forward.ts'
import type { Keeping, LayerActivations, StageActivations } from './forward.ts'
import { giveBack, layerGradient, layerParameter, lend, multiply } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

/**
 * Takes `dOutput` [rows, d], the gradient of the stage's output, back through the layers; adds every weight's share to
 * the gradient sum and returns the gradient of the stage's input. Releases the activations and `dOutput`.
 */
export function backwardLayers(
  stage: StageContext,
  { rows, layers }: StageActivations,
  keeping: Keeping,
  dOutput: PooledBuffer,
): PooledBuffer {
  let dStream = dOutput
  for (const activations of layers.toReversed()) {
    dStream = backwardLayer(stage, activations, dStream, rows)
    releaseLayer(keeping, activations)
  }
  return dStream
}

/** Releases `dOutput`; returns the gradient of the layer's input. */
function backwardLayer(stage: StageContext, kept: LayerActivations, dOutput: PooledBuffer, rows: number): PooledBuffer {
  const { kernels, recorder, config } = stage
  const { dModel: d, ffn, heads, kvHeads, blockSize } = config.model
  const width = d + 2 * (d / heads) * kvHeads
  const lendRows = (columns: number, label: string) => lend(stage, rows, columns, label)

  /** Adds dyᵀ·x to the gradient of the weight [outputs, inputs]; returns dy·W [rows, inputs]. */
  const back = (name: string, x: BufferView, dy: BufferView, outputs: number, inputs: number) => {
    const dx = lendRows(inputs, `${name} input gradient`)
    const weight = layerParameter(stage, kept.layer, name)
    multiply(stage, { form: 'nn', a: dy, b: weight, c: dx, m: rows, n: inputs, k: outputs })
    const dWeight = layerGradient(stage, kept.layer, name)
    multiply(stage, { form: 'tn', a: dy, b: x, c: dWeight, m: outputs, n: inputs, k: rows, accumulate: true })
    return dx
  }
  const normBack = (name: string, x: BufferView, inverse: BufferView, dy: PooledBuffer, residual: PooledBuffer) => {
    const dx = lendRows(d, 'stream gradient')
    const shape = { rows, columns: d }
    const weight = layerParameter(stage, kept.layer, name)
    kernels.rmsNorm.backward(recorder, { x, weight, inverse, dy, residual, dx }, shape)
    const dWeight = layerGradient(stage, kept.layer, name)
    kernels.rmsNorm.backwardWeight(recorder, { x, inverse, dy, dWeight }, shape)
    giveBack(stage, dy, residual)
    return dx
  }

  const dGated = back('mlp.down_proj', kept.gated, dOutput, d, ffn)
  const dGateUp = lendRows(2 * ffn, 'gate and up gradient')
  kernels.swiglu.backward(recorder, { gateUp: kept.gateUp, dy: dGated, dGateUp }, { rows })
  giveBack(stage, dGated)
  const dMiddleNormed = back('mlp.gate_proj', kept.middleNormed, dGateUp, 2 * ffn, d)
  giveBack(stage, dGateUp)
  const dMiddle = normBack('post_attention_layernorm', kept.middle, kept.middleInverse, dMiddleNormed, dOutput)

  const dOut = back('self_attn.o_proj', kept.mixed, dMiddle, d, d)
  const [dqkv, rowDots] = [lendRows(width, 'qkv gradient'), lendRows(heads, 'row dots')]
  const { qkv, mixed, logSumExp } = kept
  const sequences = { batch: rows / blockSize, sequence: blockSize }
  kernels.attention.backward(recorder, { qkv, out: mixed, logSumExp, dOut, rowDots, dqkv }, sequences)
  recorder.spent(3 * rows * blockSize * d)
  giveBack(stage, dOut, rowDots)
  const turned = { rows, heads: heads + kvHeads, sequence: blockSize, stride: width }
  kernels.rope.backward(recorder, { x: dqkv, table: kernels.ropeTable }, turned)
  const dNormed = back('self_attn.q_proj', kept.normed, dqkv, width, d)
  giveBack(stage, dqkv)
  return normBack('input_layernorm', kept.input, kept.inverse, dNormed, dMiddle)
}
