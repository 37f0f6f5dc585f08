/** Owns the backward pass of a stage's layers on the GPU: recorded, not yet run. */
import type { BufferView, PooledBuffer } from '../gpu/buffers.ts'
import { releaseLayer } from './forward.ts'
import type { LayerActivations, StageActivations } from './forward.ts'
import { gradient, giveBack, layerWork, lend, multiply, parameter, submitIfLong } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'

/**
 * Takes `dOutput` [rows, d], the gradient of the stage's output, back through the layers; adds every weight's share to
 * the gradient sum and returns the gradient of the stage's input. Releases the activations and `dOutput`.
 */
export function backwardLayers(stage: StageContext, kept: StageActivations, dOutput: PooledBuffer): PooledBuffer {
  const { rows, layers, output } = kept
  giveBack(stage, output)
  let dStream = dOutput
  let work = 0
  for (const activations of layers.toReversed()) {
    dStream = backwardLayer(stage, activations, dStream, rows)
    work = submitIfLong(stage, work + 2 * layerWork(stage, rows))
  }
  return dStream
}

/** Releases `dOutput` and the layer's activations; returns the gradient of the layer's input. */
function backwardLayer(stage: StageContext, kept: LayerActivations, dOutput: PooledBuffer, rows: number): PooledBuffer {
  const { kernels, recorder, config } = stage
  const { dModel: d, ffn, heads, kvHeads, blockSize } = config.model
  const kv = (d / heads) * kvHeads
  const nameOf = (name: string) => `model.layers.${kept.layer}.${name}.weight`
  const lendRows = (columns: number, label: string) => lend(stage, rows, columns, label)

  /** Adds dyᵀ·x to the weight's gradient and writes (or adds) dy·W to `dx`. */
  const back = (name: string, x: BufferView, dy: BufferView, dx: BufferView, inputs: number, add = false) => {
    const outputs = dy.size / 4 / rows
    multiply(stage, {
      form: 'nn',
      a: dy,
      b: parameter(stage, nameOf(name)),
      c: dx,
      m: rows,
      n: inputs,
      k: outputs,
      accumulate: add,
    })
    const dWeight = gradient(stage, nameOf(name))
    multiply(stage, { form: 'tn', a: dy, b: x, c: dWeight, m: outputs, n: inputs, k: rows, accumulate: true })
  }
  const normBack = (name: string, x: BufferView, inverse: BufferView, dy: PooledBuffer, residual: PooledBuffer) => {
    const dx = lendRows(d, 'stream gradient')
    const shape = { rows, columns: d }
    const weight = parameter(stage, nameOf(name))
    kernels.rmsNorm.backward(recorder, { x, weight, inverse, dy, residual, dx }, shape)
    kernels.rmsNorm.backwardWeight(recorder, { x, inverse, dy, dWeight: gradient(stage, nameOf(name)) }, shape)
    giveBack(stage, dy, residual)
    return dx
  }

  const dGated = lendRows(ffn, 'gated gradient')
  back('mlp.down_proj', kept.gated, dOutput, dGated, ffn)
  const [dGate, dUp] = [lendRows(ffn, 'gate gradient'), lendRows(ffn, 'up gradient')]
  kernels.swiglu.backward(recorder, { gate: kept.gate, up: kept.up, dy: dGated, dGate, dUp }, rows * ffn)
  giveBack(stage, dGated)
  const dMiddleNormed = lendRows(d, 'normed gradient')
  back('mlp.gate_proj', kept.middleNormed, dGate, dMiddleNormed, d)
  back('mlp.up_proj', kept.middleNormed, dUp, dMiddleNormed, d, true)
  giveBack(stage, dGate, dUp)
  const dMiddle = normBack('post_attention_layernorm', kept.middle, kept.middleInverse, dMiddleNormed, dOutput)

  const dMixed = lendRows(d, 'mixed gradient')
  back('self_attn.o_proj', kept.mixed, dMiddle, dMixed, d)
  const [dq, dk, dv] = [lendRows(d, 'q gradient'), lendRows(kv, 'k gradient'), lendRows(kv, 'v gradient')]
  const rowDots = lendRows(heads, 'row dots')
  const { q, k, v, mixed, logSumExp } = kept
  const tensors = { q, k, v, out: mixed, logSumExp, dOut: dMixed, rowDots, dq, dk, dv }
  kernels.attention.backward(recorder, tensors, { batch: rows / blockSize, sequence: blockSize })
  giveBack(stage, dMixed, rowDots)
  const table = kernels.ropeTable
  kernels.rope.backward(recorder, { x: dq, table }, { rows, heads, sequence: blockSize })
  kernels.rope.backward(recorder, { x: dk, table }, { rows, heads: kvHeads, sequence: blockSize })
  const dNormed = lendRows(d, 'normed gradient')
  back('self_attn.q_proj', kept.normed, dq, dNormed, d)
  back('self_attn.k_proj', kept.normed, dk, dNormed, d, true)
  back('self_attn.v_proj', kept.normed, dv, dNormed, d, true)
  giveBack(stage, dq, dk, dv)
  const dInput = normBack('input_layernorm', kept.input, kept.inverse, dNormed, dMiddle)
  releaseLayer(stage, kept)
  return dInput
}
