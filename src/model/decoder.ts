/** Owns inference on the CPU: one token in, the next token's logits out, with keys and values cached. */
import { fail } from '../protocol/errors.ts'
import type { ModelConfig } from '../protocol/runConfig.ts'
import { RECEIVED_SCALE, RECEIVED_TAPS } from '../codec/boundary.ts'
import { roundedToHalf } from '../codec/half.ts'
import { boundaryTensor, codeHidden, stageLayouts } from './layout.ts'
import { boundariesByLayer, TOKEN_TABLE } from './learnedBoundaries.ts'
import type { LearnedBoundaries } from './learnedBoundaries.ts'

/** A trained model: its tensors by Hugging Face names, row-major f32. */
export interface TrainedModel {
  readonly config: ModelConfig
  /** Where the model was trained with any: they are a part of what it computes. */
  readonly boundaries?: LearnedBoundaries | null
  readonly tensors: ReadonlyMap<string, Float32Array>
}

/** Holds the context of one text, at most `config.blockSize` tokens of it. */
export interface Decoder {
  /** Tokens in the context. */
  readonly length: number
  /** Appends a token; returns the logits [vocab] of the one after it, which the next call overwrites. */
  next(token: number): Float32Array
  /** Empties the context. */
  reset(): void
}

/** y = W·x with W [outputs, inputs]; returns `y`. */
function multiply(weight: Float32Array, x: Float32Array, y: Float32Array): Float32Array {
  const inputs = x.length
  for (let o = 0, at = 0; o < y.length; o++) {
    let sum = 0
    for (let i = 0; i < inputs; i++) sum += weight[at++]! * x[i]!
    y[o] = sum
  }
  return y
}

function normalise(x: Float32Array, weight: Float32Array, eps: number): Float32Array {
  let squares = 0
  for (const value of x) squares += value * value
  const scale = 1 / Math.sqrt(squares / x.length + eps)
  return x.map((value, i) => value * scale * weight[i]!)
}

function addTo(x: Float32Array, y: Float32Array): void {
  for (let i = 0; i < x.length; i++) x[i]! += y[i]!
}

/** Rotate-half at one position, in place, over every head of `x`. */
function rotate(x: Float32Array, headDim: number, position: number, frequencies: Float64Array): void {
  const half = headDim / 2
  frequencies.forEach((frequency, i) => {
    const cos = Math.cos(position * frequency)
    const sin = Math.sin(position * frequency)
    for (let a = i; a < x.length; a += headDim) {
      const [low, high] = [x[a]!, x[a + half]!]
      x[a] = low * cos - high * sin
      x[a + half] = high * cos + low * sin
    }
  })
}

function silu(x: Float32Array): Float32Array {
  return x.map((value) => value / (1 + Math.exp(-value)))
}

/** For each learned boundary the way of a stream [d] of the token at `position` across it, in place; those before it went first. */
function crossingsOf(
  config: ModelConfig,
  { partition, codeWidth: k, halves }: LearnedBoundaries,
  tensor: (name: string) => Float32Array,
): ((stream: Float32Array, token: number, position: number) => void)[] {
  const d = config.dModel
  const table = tensor(TOKEN_TABLE)
  const [ones, hidden] = [new Float32Array(d).fill(1), new Float32Array(codeHidden(config))]
  return partition.slice(1).map((_, boundary) => {
    const of = (matrix: Parameters<typeof boundaryTensor>[1]) => tensor(boundaryTensor(boundary, matrix))
    const [sendIn, sendOut, receiveIn, receiveOut] = [
      of('send_in'),
      of('send_out'),
      of('receive_in'),
      of('receive_out'),
    ]
    const taps = of('receive_taps')
    /** What the last tokens received, by position modulo their number. */
    const received = Array.from({ length: RECEIVED_TAPS + 1 }, () => new Float32Array(d))
    const at = (position: number) => received[position % received.length]!
    return (stream, token, position) => {
      const normed = normalise(stream, ones, config.normEps)
      const code = multiply(sendOut, silu(multiply(sendIn, normed, hidden)), new Float32Array(k))
      addTo(code, normed.subarray(0, k))
      if (halves) code.forEach((x, i) => (code[i] = roundedToHalf(x)))
      multiply(receiveOut, silu(multiply(receiveIn, code, hidden)), stream)
      for (let i = 0; i < d; i++) stream[i] = RECEIVED_SCALE * (stream[i]! + (code[i] ?? 0) + table[token * d + i]!)
      at(position).set(stream)
      for (let j = 1; j <= Math.min(RECEIVED_TAPS, position); j++) {
        const before = at(position - j)
        for (let i = 0; i < d; i++) stream[i]! += taps[(j - 1) * d + i]! * before[i]!
      }
    }
  })
}

/** @throws SkeinError `model.tensors` when a tensor of the configuration is missing or of another size. */
export function createDecoder({ config, tensors, boundaries = null }: TrainedModel): Decoder {
  const { dModel: d, ffn, heads, kvHeads, blockSize, normEps, vocabSize } = config
  const headDim = d / heads
  const kvDim = headDim * kvHeads
  const layouts = boundaries
    ? stageLayouts(config, boundaries.partition.length, boundaries.partition, boundaries.codeWidth)
    : stageLayouts(config, 1)
  const sizes = new Map(layouts.flatMap((layout) => layout.tensors).map((t) => [t.name, t.length]))
  if (boundaries) sizes.set(TOKEN_TABLE, vocabSize * d)
  const tensor = (name: string): Float32Array => {
    const found = tensors.get(name)
    if (found && found.length === sizes.get(name)) return found
    return fail(
      'model.tensors',
      found ? `${name} has ${found.length} elements, not ${sizes.get(name)}.` : `The model has no tensor ${name}.`,
      'Export the model again; its files do not belong together.',
    )
  }
  const embedding = tensor('model.embed_tokens.weight')
  const finalNorm = tensor('model.norm.weight')
  const head = config.tieEmbeddings ? embedding : tensor('lm_head.weight')
  const boundaryBehind = boundariesByLayer(boundaries ?? { partition: [] })
  const crossings = boundaries && crossingsOf(config, boundaries, tensor)
  const layers = Array.from({ length: config.layers }, (_, layer) => {
    const w = (name: string) => tensor(`model.layers.${layer}.${name}.weight`)
    return {
      inputNorm: w('input_layernorm'),
      q: w('self_attn.q_proj'),
      k: w('self_attn.k_proj'),
      v: w('self_attn.v_proj'),
      o: w('self_attn.o_proj'),
      middleNorm: w('post_attention_layernorm'),
      gate: w('mlp.gate_proj'),
      up: w('mlp.up_proj'),
      down: w('mlp.down_proj'),
      keys: new Float32Array(blockSize * kvDim),
      values: new Float32Array(blockSize * kvDim),
    }
  })
  const frequencies = Float64Array.from({ length: headDim / 2 }, (_, i) => config.ropeTheta ** ((-2 * i) / headDim))
  const [q, mixed, projected] = [new Float32Array(d), new Float32Array(d), new Float32Array(d)]
  const [gate, up] = [new Float32Array(ffn), new Float32Array(ffn)]
  const scores = new Float32Array(blockSize)
  const logits = new Float32Array(vocabSize)
  let length = 0

  /** Fills `mixed` from `q` and the cache of positions 0 to `position`. */
  function attend(keys: Float32Array, values: Float32Array, position: number): void {
    mixed.fill(0)
    for (let h = 0; h < heads; h++) {
      const column = Math.floor(h / (heads / kvHeads)) * headDim
      let max = -Infinity
      for (let j = 0; j <= position; j++) {
        let dot = 0
        for (let c = 0; c < headDim; c++) dot += q[h * headDim + c]! * keys[j * kvDim + column + c]!
        max = Math.max(max, (scores[j] = dot / Math.sqrt(headDim)))
      }
      let sum = 0
      for (let j = 0; j <= position; j++) sum += scores[j] = Math.exp(scores[j]! - max)
      for (let j = 0; j <= position; j++) {
        const weight = scores[j]! / sum
        for (let c = 0; c < headDim; c++) mixed[h * headDim + c]! += weight * values[j * kvDim + column + c]!
      }
    }
  }

  return {
    get length() {
      return length
    },
    reset() {
      length = 0
    },
    next(token) {
      if (length === blockSize) throw new RangeError(`The context of ${blockSize} tokens is full.`)
      if (!(token >= 0 && token < vocabSize)) throw new RangeError(`No token ${token} in a vocabulary of ${vocabSize}.`)
      const position = length++
      const stream = embedding.slice(token * d, (token + 1) * d)
      for (const [index, layer] of layers.entries()) {
        const normed = normalise(stream, layer.inputNorm, normEps)
        rotate(multiply(layer.q, normed, q), headDim, position, frequencies)
        const key = layer.keys.subarray(position * kvDim, (position + 1) * kvDim)
        rotate(multiply(layer.k, normed, key), headDim, position, frequencies)
        multiply(layer.v, normed, layer.values.subarray(position * kvDim, (position + 1) * kvDim))
        attend(layer.keys, layer.values, position)
        addTo(stream, multiply(layer.o, mixed, projected))
        const middle = normalise(stream, layer.middleNorm, normEps)
        multiply(layer.gate, middle, gate)
        multiply(layer.up, middle, up)
        for (let i = 0; i < ffn; i++) gate[i] = (gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!
        addTo(stream, multiply(layer.down, gate, projected))
        const boundary = boundaryBehind.get(index)
        if (boundary !== undefined) crossings![boundary]!(stream, token, position)
      }
      return multiply(head, normalise(stream, finalNorm, normEps), logits)
    },
  }
}
