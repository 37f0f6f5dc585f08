/**
 * Owns the model that the simulation trains: a chain of linear maps in integers modulo a prime, exact in any order of
 * summation, so that "the same step" is an equality and not a tolerance.
 */
import { createHash } from 'node:crypto'
import { learningRate } from '../../src/model/learningRate.ts'
import type { Shard } from '../../src/protocol/routing.ts'
import { SHARD_ALIGNMENT } from '../../src/protocol/routing.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'

/** Products of two residues stay far below 2⁵³, and so do sums of squares over a whole model. */
const PRIME = 1_000_003
/** Numbers in a boundary tensor. */
const WIDTH = 4
export const TRAIN_TOKENS = 7
export const EVAL_TOKENS = 5

const mod = (x: number) => ((x % PRIME) + PRIME) % PRIME
/** A real factor as a residue, so that a wrong rate or scale shows in the weights. */
const fixed = (x: number) => mod(Math.round(x * 1e6))

function draw(...words: number[]): number {
  let h = 0x811c9dc5
  for (const word of words) {
    h = Math.imul(h ^ word, 0x01000193)
    h ^= h >>> 15
    h = Math.imul(h, 0x2c1b3c6d)
    h ^= h >>> 13
  }
  return (h >>> 0) % PRIME
}

export interface StageVectors {
  parameters: number[]
  firstMoment: number[]
  secondMoment: number[]
}

export const stageLength = (stage: number) => (2 + (stage % 3)) * SHARD_ALIGNMENT

export function initialVectors(seed: number, stage: number): StageVectors {
  const zeros = () => new Array<number>(stageLength(stage)).fill(0)
  return { parameters: zeros().map((_, i) => draw(seed, 1, stage, i)), firstMoment: zeros(), secondMoment: zeros() }
}

const vector = (...words: number[]) => Array.from({ length: WIDTH }, (_, k) => draw(...words, k))
export const inputOf = (seed: number, mode: 'train' | 'evaluate', step: number, microbatch: number) =>
  vector(seed, 2, mode === 'train' ? step : 0, microbatch)
const targetOf = (seed: number, mode: 'train' | 'evaluate', step: number, microbatch: number) =>
  vector(seed, 3, mode === 'train' ? step : 0, microbatch)

/** Parameter i multiplies input ⌊i / WIDTH⌋ mod WIDTH into output i mod WIDTH. */
export function forward(parameters: readonly number[], input: readonly number[]): number[] {
  const output = new Array<number>(WIDTH).fill(0)
  parameters.forEach((w, i) => {
    const j = i % WIDTH
    output[j] = (output[j]! + w * input[Math.floor(i / WIDTH) % WIDTH]!) % PRIME
  })
  return output
}

/** Adds to `gradient`; returns the gradient of the input. */
export function backward(
  parameters: readonly number[],
  input: readonly number[],
  outputGradient: readonly number[],
  gradient: number[],
): number[] {
  const inputGradient = new Array<number>(WIDTH).fill(0)
  parameters.forEach((w, i) => {
    const k = Math.floor(i / WIDTH) % WIDTH
    const g = outputGradient[i % WIDTH]!
    gradient[i] = (gradient[i]! + g * input[k]!) % PRIME
    inputGradient[k] = (inputGradient[k]! + w * g) % PRIME
  })
  return inputGradient
}

export function lossOf(
  output: readonly number[],
  seed: number,
  mode: 'train' | 'evaluate',
  step: number,
  microbatch: number,
): { sum: number; gradient: number[] } {
  const target = targetOf(seed, mode, step, microbatch)
  const sum = output.reduce((total, y, j) => (total + y * ((y + target[j]!) % PRIME)) % PRIME, 0)
  return { sum, gradient: output.map((y, j) => (2 * y + target[j]!) % PRIME) }
}

export function addInto(sum: number[], values: readonly number[]): void {
  values.forEach((value, i) => (sum[i] = (sum[i]! + value) % PRIME))
}

/** An optimizer with two moments over one range; rate, scale and step number all leave their mark. */
export function update(
  { parameters, firstMoment, secondMoment }: StageVectors,
  gradient: readonly number[],
  { offset, length }: Shard,
  { lr, scale, step }: { lr: number; scale: number; step: number },
): void {
  for (let i = offset; i < offset + length; i++) {
    const g = (gradient[i]! * fixed(scale)) % PRIME
    firstMoment[i] = (3 * firstMoment[i]! + g) % PRIME
    secondMoment[i] = (5 * secondMoment[i]! + g * g + step) % PRIME
    parameters[i] = mod(parameters[i]! - ((fixed(lr) * firstMoment[i]!) % PRIME) - secondMoment[i]!)
  }
}

export const hashOf = (values: readonly number[]) => createHash('sha256').update(values.join()).digest('hex')

/** What one machine with the whole model gets: for every step the loss, the norm and the weights it leads to. */
export interface Reference {
  /** Index 0 is unused: steps count from 1. */
  readonly losses: number[]
  readonly gradNorms: number[]
  /** `parameterHashes[step][stage]`; step 0 is the beginning. */
  readonly parameterHashes: string[][]
  readonly valLoss: number
}

export function trainAlone(config: RunConfig, evalWindows: number): Reference {
  const { seed, stages, batch, microbatch, steps, optimizer } = config
  const model = Array.from({ length: stages }, (_, stage) => initialVectors(seed, stage))
  const hashes = () => model.map(({ parameters }) => hashOf(parameters))
  const losses = [NaN]
  const gradNorms = [NaN]
  const parameterHashes = [hashes()]
  const microbatches = batch / microbatch

  const forwardAll = (mode: 'train' | 'evaluate', step: number, m: number) => {
    const inputs = [inputOf(seed, mode, step, m)]
    for (const { parameters } of model) inputs.push(forward(parameters, inputs.at(-1)!))
    return { inputs, loss: lossOf(inputs.at(-1)!, seed, mode, step, m) }
  }
  for (let step = 1; step <= steps; step++) {
    const gradients = model.map(({ parameters }) => new Array<number>(parameters.length).fill(0))
    let sum = 0
    for (let m = 0; m < microbatches; m++) {
      const { inputs, loss } = forwardAll('train', step, m)
      sum += loss.sum
      let gradient = loss.gradient
      for (let s = stages - 1; s >= 0; s--)
        gradient = backward(model[s]!.parameters, inputs[s]!, gradient, gradients[s]!)
    }
    const norm = Math.sqrt(gradients.flat().reduce((total, g) => total + g * g, 0))
    const scale = optimizer.gradClip > 0 ? Math.min(1, optimizer.gradClip / (norm + 1e-6)) : 1
    const lr = learningRate(optimizer, step, steps)
    model.forEach((vectors, s) =>
      update(vectors, gradients[s]!, { offset: 0, length: vectors.parameters.length }, { lr, scale, step }),
    )
    losses.push(sum / (microbatches * TRAIN_TOKENS))
    gradNorms.push(norm)
    parameterHashes.push(hashes())
  }
  const scored = Math.ceil(evalWindows / microbatch)
  let sum = 0
  for (let m = 0; m < scored; m++) sum += forwardAll('evaluate', 0, m).loss.sum
  return { losses, gradNorms, parameterHashes, valLoss: sum / (scored * EVAL_TOKENS) }
}
