/** Owns sampling: text continued token by token from a trained model, the same for the same seed. */
import { fail } from '../protocol/errors.ts'
import { createDecoder } from './decoder.ts'
import type { TrainedModel } from './decoder.ts'
import { threefry2x32 } from './init.ts'

export interface GenerateOptions {
  /** What the text begins with; at least one token. Of a long prompt the newest `blockSize` tokens count. */
  readonly prompt: Uint32Array
  /** Tokens to add. */
  readonly tokens: number
  /** Divides the logits; 0 always takes the likeliest token. */
  readonly temperature: number
  /** Draws among so many likeliest tokens; all by default. */
  readonly topK?: number
  /** Unsigned 32-bit; decides every draw. */
  readonly seed: number
  /** Ends the generation with its reason, thrown before the next token. */
  readonly signal?: AbortSignal
}

/** Sets the sampler's draws apart from every tensor's. */
const SAMPLER_KEY = 0x73616d70

/**
 * Yields `tokens` token ids one by one. When the context is full, its newest half is read again and the text goes on.
 * Each token takes about 2 FLOP a parameter on the caller's thread: a caller that serves others pauses in between.
 *
 * @throws SkeinError `generate.prompt` for an empty prompt or ids outside the vocabulary, `generate.options` for a
 * negative temperature or a topK below 1, `model.tensors` for a model that lacks tensors
 */
export function* generate(model: TrainedModel, options: GenerateOptions): Generator<number, void, undefined> {
  const { prompt, tokens, temperature, seed, signal } = options
  const { blockSize, vocabSize } = model.config
  const topK = options.topK ?? vocabSize
  if (prompt.length === 0 || prompt.some((token) => token >= vocabSize)) {
    fail(
      'generate.prompt',
      `A prompt is one or more token ids below ${vocabSize}.`,
      'Give a prompt of at least one token.',
    )
  }
  if (!(temperature >= 0) || !(topK >= 1)) {
    fail('generate.options', 'The temperature must be at least 0 and topK at least 1.', 'Try temperature 0.8, topK 40.')
  }
  const decoder = createDecoder(model)
  const context = [...prompt.subarray(-blockSize)]
  let logits: Float32Array = new Float32Array()
  for (const token of context) {
    signal?.throwIfAborted()
    logits = decoder.next(token)
  }
  const words = new Uint32Array(2)
  for (let i = 0; i < tokens; i++) {
    signal?.throwIfAborted()
    threefry2x32(seed, SAMPLER_KEY, i, 0, words)
    const token = sample(logits, temperature, topK, words[0]! / 2 ** 32)
    yield token
    if (i + 1 === tokens) return
    context.push(token)
    let unread = [token]
    if (decoder.length === blockSize) {
      decoder.reset()
      context.splice(0, context.length - Math.max(1, Math.floor(blockSize / 2)))
      unread = context
    }
    for (const next of unread) logits = decoder.next(next)
  }
}

/** The token at which the cumulated probability passes `uniform` in [0, 1), among the `topK` likeliest. */
function sample(logits: Float32Array, temperature: number, topK: number, uniform: number): number {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b)
  if (temperature === 0) return order[0]!
  const candidates = order.slice(0, topK)
  const weights = candidates.map((token) => Math.exp((logits[token]! - logits[order[0]!]!) / temperature))
  let rest = uniform * weights.reduce((a, b) => a + b, 0)
  const chosen = weights.findIndex((weight) => (rest -= weight) < 0)
  // Rounding may leave a crumb after the last weight.
  return candidates[chosen === -1 ? candidates.length - 1 : chosen]!
}
