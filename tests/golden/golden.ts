/** Owns the reading of the golden files that make_golden.py wrote. */
import { readFileSync } from 'node:fs'
import { modelConfigSchema, optimizerConfigSchema } from '../../src/protocol/runConfig.ts'
import type { ModelConfig, OptimizerConfig } from '../../src/protocol/runConfig.ts'

export const GOLDEN_NAMES = ['plain', 'grouped', 'tied'] as const

export interface Golden {
  readonly config: ModelConfig
  readonly optimizer: OptimizerConfig
  /** Sequences in a step. */
  readonly batch: number
  /** The learning rate, the data, the mean loss before the update and the gradient's norm of every step. */
  readonly steps: readonly {
    readonly rate: number
    readonly tokens: Uint32Array
    readonly targets: Uint32Array
    readonly loss: number
    readonly gradNorm: number
  }[]
  /** Before the first step; exact in f32. */
  readonly parameters: Map<string, Float64Array>
  /** Of the first step's mean loss. */
  readonly gradients: Map<string, Float64Array>
  /** Of the first step, [batch·block, vocab]. */
  readonly logits: Float64Array
}

/** The same start and data, trained with Muon. */
export function readMuonGolden(name: (typeof GOLDEN_NAMES)[number]): Golden {
  const golden = readGolden(name)
  const document = JSON.parse(readFileSync(new URL(`${name}.muon.json`, import.meta.url), 'utf8'))
  return {
    ...golden,
    optimizer: optimizerConfigSchema.parse(document.optimizer),
    steps: golden.steps.map((step, i) => ({ ...step, loss: document.losses[i], gradNorm: document.gradNorms[i] })),
  }
}

export function readGolden(name: (typeof GOLDEN_NAMES)[number]): Golden {
  const file = (extension: string) => readFileSync(new URL(`${name}.${extension}`, import.meta.url))
  const document = JSON.parse(file('json').toString())
  const bytes = file('bin')
  let at = 0
  const take = (length: number, width: 4 | 8) => {
    const values = Float64Array.from({ length }, (_, i) =>
      width === 4 ? bytes.readFloatLE(at + 4 * i) : bytes.readDoubleLE(at + 8 * i),
    )
    at += length * width
    return values
  }
  const tensors = document.tensors as [string, number[]][]
  const all = (width: 4 | 8) =>
    new Map(
      tensors.map(([tensor, shape]) => [
        tensor,
        take(
          shape.reduce((a, b) => a * b),
          width,
        ),
      ]),
    )
  const parameters = all(4)
  const gradients = all(8)
  const logits = take((bytes.length - at) / 8, 8)
  return {
    config: modelConfigSchema.parse(document.config),
    optimizer: optimizerConfigSchema.parse(document.optimizer),
    batch: document.batch,
    steps: (document.rates as number[]).map((rate, i) => ({
      rate,
      tokens: Uint32Array.from(document.tokens[i]),
      targets: Uint32Array.from(document.targets[i]),
      loss: document.losses[i],
      gradNorm: document.gradNorms[i],
    })),
    parameters,
    gradients,
    logits,
  }
}

/** Largest |a − b| over the largest |b|. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) throw new RangeError(`${actual.length} values, not ${expected.length}`)
  let worst = 0
  let largest = 1e-30
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!)
    if (Number.isNaN(difference)) return Infinity
    worst = Math.max(worst, difference)
    largest = Math.max(largest, Math.abs(expected[i]!))
  }
  return worst / largest
}
