/**
 * Owns the model that the simulation trains: a chain of linear maps in integers modulo a prime, exact in any order of
 * summation, so that "the same step" is an equality and not a tolerance.
 */

/** Eight products of two residues fit a 32-bit integer, and a sum of squares over a whole model a double. */
export const PRIME = 8191
/** Numbers in a boundary tensor. */
const WIDTH = 4
export const TRAIN_TOKENS = 7
export const EVAL_TOKENS = 5

export type Mode = 'train' | 'evaluate'

/** A real factor as a residue, so that a wrong rate or scale shows in the weights. */
const fixed = (x: number) => Math.round(x * 1e6) % PRIME

function draw(seed: number, a: number, b: number, c: number, d: number): number {
  let h = Math.imul(0x811c9dc5 ^ seed, 0x01000193)
  h = Math.imul(h ^ (h >>> 15) ^ a, 0x2c1b3c6d)
  h = Math.imul(h ^ (h >>> 13) ^ b, 0x297a2d39)
  h = Math.imul(h ^ (h >>> 15) ^ c, 0x2c1b3c6d)
  h = Math.imul(h ^ (h >>> 13) ^ d, 0x297a2d39)
  return ((h ^ (h >>> 16)) >>> 0) % PRIME
}

export interface StageVectors {
  parameters: number[]
  firstMoment: number[]
  secondMoment: number[]
}
export const VECTORS = ['parameters', 'firstMoment', 'secondMoment'] as const

export const stageLength = (stage: number) => (6 + (stage % 3)) * WIDTH

export interface Range {
  readonly offset: number
  readonly length: number
}

/** Like the real cut but without its alignment; the last ranges of a small stage may be empty. */
export function rangesOf(stage: number, shards: number): Range[] {
  const length = stageLength(stage)
  const unit = Math.ceil(length / shards)
  return Array.from({ length: shards }, (_, k) => {
    const offset = Math.min(k * unit, length)
    return { offset, length: Math.min(unit, length - offset) }
  })
}

export function emptyVectors(stage: number): StageVectors {
  const zeros = () => new Array<number>(stageLength(stage)).fill(0)
  return { parameters: zeros(), firstMoment: zeros(), secondMoment: zeros() }
}

export function initialVectors(seed: number, stage: number): StageVectors {
  const vectors = emptyVectors(stage)
  vectors.parameters = vectors.parameters.map((_, i) => draw(seed, 1, stage, i, 0))
  return vectors
}

const vector = (seed: number, what: number, mode: Mode, step: number, m: number) => {
  const t = mode === 'train' ? step : 0
  return [draw(seed, what, t, m, 0), draw(seed, what, t, m, 1), draw(seed, what, t, m, 2), draw(seed, what, t, m, 3)]
}
export const inputOf = (seed: number, mode: Mode, step: number, microbatch: number) =>
  vector(seed, 2, mode, step, microbatch)

/** Parameter i multiplies input ⌊i / WIDTH⌋ mod WIDTH into output i mod WIDTH. */
export function forward(parameters: readonly number[], input: readonly number[]): number[] {
  let [a, b, c, d] = [0, 0, 0, 0]
  for (let i = 0, row = 0; i < parameters.length; i += WIDTH, row++) {
    const x = input[row % WIDTH]!
    a += parameters[i]! * x
    b += parameters[i + 1]! * x
    c += parameters[i + 2]! * x
    d += parameters[i + 3]! * x
  }
  return [a % PRIME, b % PRIME, c % PRIME, d % PRIME]
}

/** Adds to `gradient`; returns the gradient of the input. */
export function backward(
  parameters: readonly number[],
  input: readonly number[],
  outputGradient: readonly number[],
  gradient: number[],
): number[] {
  const inputGradient = [0, 0, 0, 0]
  for (let i = 0; i < parameters.length; i++) {
    const k = (i >> 2) % WIDTH
    const g = outputGradient[i % WIDTH]!
    gradient[i] = (gradient[i]! + g * input[k]!) % PRIME
    inputGradient[k] = (inputGradient[k]! + parameters[i]! * g) % PRIME
  }
  return inputGradient
}

export function lossOf(
  output: readonly number[],
  seed: number,
  mode: Mode,
  step: number,
  microbatch: number,
): { sum: number; gradient: number[] } {
  const target = vector(seed, 3, mode, step, microbatch)
  let sum = 0
  const gradient = [0, 0, 0, 0]
  for (let j = 0; j < WIDTH; j++) {
    const y = output[j]!
    sum = (sum + y * ((y + target[j]!) % PRIME)) % PRIME
    gradient[j] = (2 * y + target[j]!) % PRIME
  }
  return { sum, gradient }
}

/** Of both the same range, all of it unless another is named. */
export function addInto(
  sum: number[],
  values: readonly number[],
  range: Range = { offset: 0, length: sum.length },
): void {
  const { offset, length } = range
  for (let i = offset; i < offset + length; i++) sum[i] = (sum[i]! + values[i]!) % PRIME
}

export function squaredNorm(values: readonly number[], { offset, length }: Range): number {
  let total = 0
  for (let i = offset; i < offset + length; i++) total += values[i]! * values[i]!
  return total
}

/** An optimizer with two moments over one range; rate, scale and step number all leave their mark. */
export function update(
  { parameters, firstMoment, secondMoment }: StageVectors,
  gradient: readonly number[],
  { offset, length }: Range,
  { lr, scale, step }: { lr: number; scale: number; step: number },
): void {
  const [rate, factor] = [fixed(lr), fixed(scale)]
  for (let i = offset; i < offset + length; i++) {
    const g = (gradient[i]! * factor) % PRIME
    firstMoment[i] = (3 * firstMoment[i]! + g) % PRIME
    secondMoment[i] = (5 * secondMoment[i]! + g * g + step) % PRIME
    const change = (rate * firstMoment[i]! + secondMoment[i]!) % PRIME
    parameters[i] = (parameters[i]! - change + PRIME) % PRIME
  }
}

/** a − b, by element. */
export function difference(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => (value - b[i]! + PRIME) % PRIME)
}

/** Whether `values` are what `whole` has from `offset` on. */
export function sameFrom(whole: readonly number[], offset: number, values: readonly number[]): boolean {
  for (let i = 0; i < values.length; i++) if (values[i] !== whole[offset + i]) return false
  return true
}

/** Whether two whole vectors agree in a range. */
export function sameIn({ offset, length }: Range, a: readonly number[], b: readonly number[]): boolean {
  for (let i = offset; i < offset + length; i++) if (a[i] !== b[i]) return false
  return true
}

/** The content's address in the simulated store: 64 hexadecimal digits, a few of which say something. */
export function addressOf(values: readonly number[]): string {
  let [a, b] = [0x811c9dc5, values.length]
  for (const value of values) {
    a = Math.imul(a ^ value, 0x01000193)
    b = Math.imul(b ^ (a >>> 11), 0x2c1b3c6d) + value
  }
  const hex = (x: number) => (x >>> 0).toString(16).padStart(8, '0')
  return (hex(a) + hex(b)).padStart(64, '0')
}
