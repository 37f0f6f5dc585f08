/** Owns which tokens a sequence is made of: pure functions that the server and every node evaluate alike. */
import { fail } from '../protocol/errors.ts'

/** The finaliser of MurmurHash3 (Appleby): every input bit flips every output bit with probability near one half. */
function mix(word: number): number {
  let h = word | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** Folds one more word into a hash; the constants are MurmurHash3's. */
function fold(hash: number, word: number): number {
  const k = Math.imul(word, 0xcc9e2d51)
  const rotated = (k << 15) | (k >>> 17)
  const h = hash ^ Math.imul(rotated, 0x1b873593)
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0
}

/**
 * Where the training window of a sequence begins: uniform over `[0, trainTokens − block − 1]`, so that `block` inputs
 * and their targets, one further on, stay before the held-out tail. It depends on nothing but its arguments.
 *
 * @param step from 1 @param sequence place within the step's batch, from 0
 * @throws SkeinError `dataset.too_short` when not even one window fits
 */
export function trainWindowStart(
  seed: number,
  step: number,
  sequence: number,
  trainTokens: number,
  block: number,
): number {
  const starts = trainTokens - block
  if (starts < 1) {
    fail(
      'dataset.too_short',
      `A window of ${block + 1} tokens does not fit into ${trainTokens} training tokens.`,
      'Upload a longer text or choose a smaller block size.',
    )
  }
  // 53 bits, the most a double holds exactly: the modulo's bias is below 2⁻²¹ even for 2³² starts.
  const word = (lane: number) => mix(fold(fold(fold(lane, seed), step), sequence))
  return (word(0x9747b28c) * 0x20_0000 + (word(0x5bd1e995) >>> 11)) % starts
}

/**
 * Where the windows that score a model begin: consecutive, not overlapping, in the tail `[trainTokens, tokens)`, each of
 * `block + 1` tokens of which the last is the next one's first. More than `evalTokens / block` are thinned out evenly;
 * none come back when the tail is shorter than one window.
 */
export function evalWindowStarts(
  dataset: { readonly tokens: number; readonly trainTokens: number },
  block: number,
  evalTokens: number,
): number[] {
  const available = Math.max(0, Math.floor((dataset.tokens - dataset.trainTokens - 1) / block))
  const count = Math.min(available, Math.max(1, Math.floor(evalTokens / block)))
  return Array.from({ length: count }, (_, i) => dataset.trainTokens + Math.floor((i * available) / count) * block)
}
