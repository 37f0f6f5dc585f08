/** Owns what parties to an audit would say of recorded answers: tensors as a codec leaves them, and their sketches. */
import { sketchGradient, sketchRows, type SketchSeed } from '../../../src/audit/sketch.ts'
import { gradientLift } from '../../../src/codec/lift.ts'
import type { CodecName, RunConfig } from '../../../src/protocol/runConfig.ts'
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

/** A boundary tensor after encoding and decoding, as the codec's kernels do it. */
export function throughCodec(values: Floats, columns: number, codec: CodecName, rounding: Rounding, lift = 1): Floats {
  if (codec === 'f32') return values
  if (codec === 'f16') return values.map((x) => half(x * lift, rounding) / lift)
  const out = new Float32Array(values.length)
  for (let row = 0; row < values.length; row += columns) {
    const largest = values.subarray(row, row + columns).reduce((most, x) => Math.max(most, Math.abs(x)), 0)
    if (largest < 1e-34) continue
    const [unit, perUnit] = [Math.fround(largest / 127), Math.fround(127 / largest)]
    for (let i = row; i < row + columns; i++) out[i] = Math.round(Math.fround(values[i]! * perUnit)) * unit
  }
  return out
}

export interface Storage {
  readonly codec: CodecName
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
  const rows = (values: Floats | null, lift = 1) =>
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
