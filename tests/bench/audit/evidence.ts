/** Owns what parties to an audit would say of recorded answers: tensors as a codec leaves them, and their sketches. */
import { roundingNoise } from '../../../src/codec/roundingCounter.ts'
import { INT4_GROUP, type NumberCodec } from '../../../src/codec/size.ts'
import { sketchGradient, sketchRows, type SketchSeed } from '../../../src/audit/sketch.ts'
import { gradientLift } from '../../../src/codec/lift.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { Evidence } from '../../../server/audits/types.ts'
import type { Answer, StageAnswers } from './answers.ts'
import type { Floats, Question, RecordedStage } from './questions.ts'

/** How a device rounds to halves: WGSL allows truncation as well as the nearest. */
export type Rounding = 'nearest' | 'down'

const LARGEST_HALF = 65_504
/** The least exponent of a normal half; subnormals share its unit. */
const LEAST_EXPONENT = -14

function half(x: number, rounding: Rounding): number {
  const clamped = Math.max(-LARGEST_HALF, Math.min(LARGEST_HALF, x))
  const unit = 2 ** (Math.max(LEAST_EXPONENT, Math.floor(Math.log2(Math.abs(clamped) || 1))) - 10)
  const units = clamped / unit
  if (rounding === 'down') return Math.trunc(units) * unit
  const low = Math.floor(units)
  const rest = units - low
  return (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low) * unit
}

/** Any counter: both parties to an audit have the same. */
const COUNTER = 0x9e3779b9

/** A boundary tensor after encoding and decoding, as the codec's kernels do it; with a lift it is a gradient. */
export function throughCodec(
  values: Floats,
  columns: number,
  codec: NumberCodec,
  rounding: Rounding,
  lift: number | null = null,
): Floats {
  const by = lift ?? 1
  if (codec === 'f32') return values
  if (codec === 'f16') return values.map((x) => half(x * by, rounding) / by)
  const rounded = (x: number, i: number) => (lift === null ? Math.round(x) : Math.floor(x + roundingNoise(i, COUNTER)))
  const [most, width] = codec === 'int8' ? [127, columns] : [7, INT4_GROUP]
  const out = new Float32Array(values.length)
  for (let row = 0; row < values.length; row += columns) {
    for (let first = row; first < row + columns; first += width) {
      const end = Math.min(first + width, row + columns)
      const largest = values.subarray(first, end).reduce((found, x) => Math.max(found, Math.abs(x)), 0)
      const unit = codec === 'int8' ? Math.fround(largest / 127) : half((largest * by) / 7, rounding) / by
      if (largest < 1e-34 || unit === 0) continue
      const perUnit = Math.fround(1 / unit)
      for (let i = first; i < end; i++) {
        const q = rounded(Math.fround(values[i]! * perUnit), i)
        out[i] = Math.max(-most, Math.min(most, q)) * unit
      }
    }
  }
  return out
}

export interface Storage {
  readonly codec: NumberCodec
  readonly rounding: Rounding
}

/** Sketches of the answer to one microbatch, as they are sent. */
export function workEvidence(
  answer: Answer,
  question: Question,
  { layout }: RecordedStage,
  config: RunConfig,
  { codec, rounding }: Storage,
  seed: SketchSeed,
): Evidence {
  const d = config.model.dModel
  const rows = (values: Floats | null, lift: number | null = null) =>
    values && sketchRows(throughCodec(values, d, codec, rounding, lift), d, seed)
  const [activation, input] = [rows(answer.output), rows(answer.output && question.input)]
  const inputGradient = rows(answer.inputGradient, gradientLift(config))
  return {
    ...(activation && { activation }),
    ...(input && { input }),
    ...(inputGradient && { inputGradient }),
    ...(answer.lossSum !== null && { loss: Float32Array.of(answer.lossSum) }),
    parameterGradient: sketchGradient(answer.gradient, layout.tensors, seed),
  }
}

/** A sketch of what the step's update did to the parameters, in learning rates. */
export function updateEvidence({ updated }: StageAnswers, recorded: RecordedStage, seed: SketchSeed): Evidence {
  const { parameters, update, layout } = recorded
  const moved = updated.map((x, i) => (x - parameters[i]!) / update.lr)
  return { update: sketchGradient(moved, layout.tensors, seed) }
}
