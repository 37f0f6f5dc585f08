/**
 * Owns the reference decoder: a Llama-style transformer (Touvron et al. 2023) in f64 and plain loops, forward and
 * backward, against which every kernel and the whole GPU model are judged.
 */
import type { ModelConfig, OptimizerConfig } from '../../protocol/runConfig.ts'
import { boundaryTensor, stageLayouts } from '../layout.ts'
import { boundariesByLayer, type LearnedBoundaries } from '../learnedBoundaries.ts'
import { takesMuon } from '../optimizerShards.ts'
import { adamw, clipScale, globalNorm } from './adamw.ts'
import * as bottleneck from './bottleneck.ts'
import { attention, attentionBackward, type AttentionShape } from './attention.ts'
import { crossEntropy, crossEntropyBackward } from './crossEntropy.ts'
import { embed, embedBackward } from './embedding.ts'
import { linear, linearBackward } from './linear.ts'
import { muon } from './muon.ts'
import { rmsNorm, rmsNormBackward } from './rmsNorm.ts'
import { rope } from './rope.ts'
import { swiglu, swigluBackward } from './swiglu.ts'

/** Tensors by their Hugging Face names, as `stageLayouts` lists them. */
export type Tensors = Map<string, Float64Array>

/** What one decoder layer remembers for its backward pass. */
interface LayerTrace {
  readonly input: Float64Array
  readonly normed: Float64Array
  readonly q: Float64Array
  readonly k: Float64Array
  readonly v: Float64Array
  readonly mixed: Float64Array
  readonly middle: Float64Array
  readonly middleNormed: Float64Array
  readonly gate: Float64Array
  readonly up: Float64Array
  readonly gated: Float64Array
}

export interface ReferenceModel {
  readonly config: ModelConfig
  readonly parameters: Tensors
  readonly boundaries: ReferenceBoundaries | null
  /** `tokens` [batch·T], row-major by sequence → logits [batch·T, vocab]. */
  forward(tokens: Uint32Array, batch: number): Float64Array
  /** The mean loss over all tokens, in nats, and the gradient of every parameter. */
  lossAndGradients(tokens: Uint32Array, targets: Uint32Array, batch: number): { loss: number; gradients: Tensors }
}

/** Codes are not rounded here. The table of tokens follows from the seed. */
export type ReferenceBoundaries = Pick<LearnedBoundaries, 'partition' | 'codeWidth'> & { readonly seed: number }

/** Wraps `parameters`, which stay the caller's: an update in place is seen by the next call. */
export function referenceModel(
  config: ModelConfig,
  parameters: Tensors,
  boundaries: ReferenceBoundaries | null = null,
): ReferenceModel {
  const { dModel: d, ffn, heads, kvHeads, vocabSize, normEps } = config
  const headDim = d / heads
  const kvDim = headDim * kvHeads
  const headName = config.tieEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight'

  const tensor = (name: string) => {
    const found = parameters.get(name)
    if (!found) throw new RangeError(`The reference model was given no tensor ${name}.`)
    return found
  }
  const layerTensor = (layer: number, name: string) => tensor(`model.layers.${layer}.${name}.weight`)
  const add = (a: Float64Array, b: Float64Array) => a.map((x, i) => x + b[i]!)

  function layerForward(layer: number, input: Float64Array, shape: AttentionShape) {
    const w = (name: string) => layerTensor(layer, name)
    const turn = (x: Float64Array, count: number) => rope(x, count, headDim, shape.sequence, config.ropeTheta)
    const normed = rmsNorm(input, w('input_layernorm'), normEps)
    const q = turn(linear(normed, w('self_attn.q_proj'), d, d), heads)
    const k = turn(linear(normed, w('self_attn.k_proj'), d, kvDim), kvHeads)
    const v = linear(normed, w('self_attn.v_proj'), d, kvDim)
    const mixed = attention(q, k, v, shape)
    const middle = add(input, linear(mixed, w('self_attn.o_proj'), d, d))
    const middleNormed = rmsNorm(middle, w('post_attention_layernorm'), normEps)
    const gate = linear(middleNormed, w('mlp.gate_proj'), d, ffn)
    const up = linear(middleNormed, w('mlp.up_proj'), d, ffn)
    const gated = swiglu(gate, up)
    const output = add(middle, linear(gated, w('mlp.down_proj'), ffn, d))
    return { output, trace: { input, normed, q, k, v, mixed, middle, middleNormed, gate, up, gated } }
  }

  /** Adds to `gradients`; returns the gradient of the layer's input. */
  function layerBackward(layer: number, trace: LayerTrace, dOutput: Float64Array, shape: AttentionShape, g: Tensors) {
    const back = (name: string, x: Float64Array, dy: Float64Array, inputs: number, outputs: number) =>
      linearBackward(x, layerTensor(layer, name), dy, g.get(`model.layers.${layer}.${name}.weight`)!, inputs, outputs)
    const normBack = (name: string, x: Float64Array, dy: Float64Array) =>
      rmsNormBackward(x, layerTensor(layer, name), dy, g.get(`model.layers.${layer}.${name}.weight`)!, normEps)
    const turnBack = (x: Float64Array, count: number) => rope(x, count, headDim, shape.sequence, config.ropeTheta, -1)

    const dGated = back('mlp.down_proj', trace.gated, dOutput, ffn, d)
    const { dGate, dUp } = swigluBackward(trace.gate, trace.up, dGated)
    const dMiddleNormed = add(
      back('mlp.gate_proj', trace.middleNormed, dGate, d, ffn),
      back('mlp.up_proj', trace.middleNormed, dUp, d, ffn),
    )
    const dMiddle = add(dOutput, normBack('post_attention_layernorm', trace.middle, dMiddleNormed))
    const dMixed = back('self_attn.o_proj', trace.mixed, dMiddle, d, d)
    const { dq, dk, dv } = attentionBackward(trace.q, trace.k, trace.v, dMixed, shape)
    const dNormed = [
      back('self_attn.q_proj', trace.normed, turnBack(dq, heads), d, d),
      back('self_attn.k_proj', trace.normed, turnBack(dk, kvHeads), d, kvDim),
      back('self_attn.v_proj', trace.normed, dv, d, kvDim),
    ].reduce(add)
    return add(dMiddle, normBack('input_layernorm', trace.input, dNormed))
  }

  const boundaryBehind = boundariesByLayer(boundaries ?? { partition: [] })
  const sizes = { d, k: boundaries?.codeWidth ?? 0, eps: normEps, seed: boundaries?.seed ?? 0 }

  function boundaryWeights(from: Tensors, boundary: number) {
    const of = (matrix: Parameters<typeof boundaryTensor>[1]) => from.get(boundaryTensor(boundary, matrix))!
    return {
      send: { first: of('send_in'), second: of('send_out') },
      receive: { first: of('receive_in'), second: of('receive_out'), taps: of('receive_taps') },
    }
  }

  function cross(boundary: number, stream: Float64Array, tokens: Uint32Array, sequence: number) {
    const weights = boundaryWeights(parameters, boundary)
    const sent = bottleneck.send(stream, weights.send, d, sizes.k, normEps)
    const received = bottleneck.receive(sent.code, weights.receive, tokens, { ...sizes, sequence })
    return { stream: received.stream, trace: { boundary, sequence, sent: sent.trace, received: received.trace } }
  }

  function crossBack(
    { boundary, sequence, sent, received }: ReturnType<typeof cross>['trace'],
    dStream: Float64Array,
    g: Tensors,
  ) {
    const [own, gradients] = [boundaryWeights(parameters, boundary), boundaryWeights(g, boundary)]
    const rows = { ...sizes, sequence }
    const dCode = bottleneck.receiveBackward(received, own.receive, dStream, gradients.receive, rows)
    return bottleneck.sendBackward(sent, own.send, dCode, gradients.send, sizes)
  }

  function run(tokens: Uint32Array, batch: number) {
    const shape: AttentionShape = { batch, sequence: tokens.length / batch, heads, kvHeads, headDim }
    let stream = embed(tensor('model.embed_tokens.weight'), tokens, d)
    const traces: LayerTrace[] = []
    const crossings = new Map<number, ReturnType<typeof cross>['trace']>()
    for (let layer = 0; layer < config.layers; layer++) {
      const { output, trace } = layerForward(layer, stream, shape)
      traces.push(trace)
      stream = output
      const boundary = boundaryBehind.get(layer)
      if (boundary === undefined) continue
      const crossed = cross(boundary, stream, tokens, shape.sequence)
      crossings.set(layer, crossed.trace)
      stream = crossed.stream
    }
    const normed = rmsNorm(stream, tensor('model.norm.weight'), normEps)
    const logits = linear(normed, tensor(headName), d, vocabSize)
    return { shape, traces, crossings, stream, normed, logits }
  }

  return {
    config,
    parameters,
    boundaries,
    forward: (tokens, batch) => run(tokens, batch).logits,
    lossAndGradients(tokens, targets, batch) {
      const { shape, traces, crossings, stream, normed, logits } = run(tokens, batch)
      const g: Tensors = new Map([...parameters].map(([name, values]) => [name, new Float64Array(values.length)]))
      const dLogits = crossEntropyBackward(logits, targets, vocabSize, 1 / targets.length)
      const dNormed = linearBackward(normed, tensor(headName), dLogits, g.get(headName)!, d, vocabSize)
      let dStream = rmsNormBackward(stream, tensor('model.norm.weight'), dNormed, g.get('model.norm.weight')!, normEps)
      for (let layer = config.layers - 1; layer >= 0; layer--) {
        const crossing = crossings.get(layer)
        if (crossing) dStream = crossBack(crossing, dStream, g)
        dStream = layerBackward(layer, traces[layer]!, dStream, shape, g)
      }
      embedBackward(g.get('model.embed_tokens.weight')!, tokens, dStream, d)
      const loss = crossEntropy(logits, targets, vocabSize).reduce((a, b) => a + b, 0) / targets.length
      return { loss, gradients: g }
    },
  }
}

export interface OptimizerState {
  readonly firstMoment: Tensors
  readonly secondMoment: Tensors
  /** Updates done so far. */
  step: number
}

export function zeroState(parameters: Tensors): OptimizerState {
  const zeros = (): Tensors => new Map([...parameters].map(([name, values]) => [name, new Float64Array(values.length)]))
  return { firstMoment: zeros(), secondMoment: zeros(), step: 0 }
}

/** One whole step in place: gradients, clipping by the global norm, the optimizer's update with decay on matrices only. */
export function trainStep(
  model: ReferenceModel,
  state: OptimizerState,
  optimizer: OptimizerConfig,
  lr: number,
  batch: { tokens: Uint32Array; targets: Uint32Array; size: number },
): { loss: number; gradNorm: number } {
  const { loss, gradients } = model.lossAndGradients(batch.tokens, batch.targets, batch.size)
  const gradNorm = globalNorm(gradients.values())
  const scale = clipScale(gradNorm, optimizer.gradClip)
  const step = ++state.step
  const tensors = model.boundaries
    ? stageLayouts(
        model.config,
        model.boundaries.partition.length,
        model.boundaries.partition,
        model.boundaries.codeWidth,
      )
    : stageLayouts(model.config, 1)
  for (const tensor of tensors.flatMap((layout) => layout.tensors)) {
    const { name, init, shape } = tensor
    const { beta1, beta2, eps, momentum } = optimizer
    const weightDecay = init === 'ones' || name.startsWith('model.boundaries.') ? 0 : optimizer.weightDecay
    const parameter = model.parameters.get(name)!
    const gradient = gradients.get(name)!.map((g) => g * scale)
    const first = state.firstMoment.get(name)!
    if (takesMuon(optimizer, tensor)) {
      const [rows, columns] = shape as [number, number]
      muon(parameter, gradient, first, { rows, columns }, { lr, momentum, weightDecay })
    } else {
      const second = state.secondMoment.get(name)!
      adamw(parameter, gradient, first, second, { lr, beta1, beta2, eps, weightDecay, step })
    }
  }
  return { loss, gradNorm }
}
