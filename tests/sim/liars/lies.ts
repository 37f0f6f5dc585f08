/** Owns the ways to lie about work, as tensors: some need a device that computes something else, some are made of what is true. */
import type { GpuContext } from '../../../src/gpu/device.ts'
import {
  answerAll,
  deviceClass,
  type Answer,
  type KernelClass,
  type Meddling,
  type StageAnswers,
} from '../../bench/audit/answers.ts'
import type { Answered } from '../../bench/audit/archive.ts'
import type { Floats, RecordedStage, Recording } from '../../bench/audit/questions.ts'

/** `colluding owners` lie about merges alone; all others about microbatches. */
export const LIES = [
  'zero output',
  'copied input',
  'skipped layer',
  'int4 weights',
  'stale weights',
  'half the tokens',
  'replayed receipt',
  'flipped gradient',
  'colluding owners',
] as const
export type Lie = (typeof LIES)[number]

/** Weights in groups that share a scale, as int4 quantizers cut them. */
const INT4_GROUP = 32

function int4({ parameters, layout }: RecordedStage): Floats {
  const out = parameters.slice()
  for (const { shape, offset, length } of layout.tensors) {
    if (shape.length < 2) continue
    for (let from = offset; from < offset + length; from += INT4_GROUP) {
      const group = out.subarray(from, Math.min(from + INT4_GROUP, offset + length))
      const unit = group.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 7
      if (unit > 0) group.forEach((x, i) => (group[i] = Math.round(x / unit) * unit))
    }
  }
  return out
}

/** Nothing is added to the residual stream by the stage's last layer. */
function withoutLastLayer({ parameters, layout }: RecordedStage): Floats {
  const out = parameters.slice()
  const last = `model.layers.${layout.firstLayer + layout.layerCount - 1}.`
  for (const { name, offset, length } of layout.tensors) {
    if (name.startsWith(last) && /o_proj|down_proj/.test(name)) out.fill(0, offset, offset + length)
  }
  return out
}

const firstHalf = <T extends Floats | Uint32Array<ArrayBuffer>>(values: T) => values.slice(0, values.length / 2) as T

const COMPUTED: Readonly<Partial<Record<Lie, Meddling>>> = {
  'skipped layer': { parameters: withoutLastLayer },
  'int4 weights': { parameters: int4 },
  'stale weights': { parameters: ({ stale }) => stale },
  'half the tokens': {
    question: ({ tokens, targets, input, outputGradient, gradient }) => ({
      ...{ tokens: firstHalf(tokens), targets: firstHalf(targets), gradient },
      ...{ input: input && firstHalf(input), outputGradient: outputGradient && firstHalf(outputGradient) },
    }),
  },
  // One contributor is left out of the sum.
  'colluding owners': { contributions: ({ questions }) => questions.slice(1).map(({ gradient }) => gradient) },
}

/** What devices answer that compute something else. Throws what making and running a stage throws. */
export async function computeLies(
  gpu: GpuContext,
  recording: Recording,
  kernels: KernelClass,
): Promise<Record<string, Answered>> {
  const lies: Record<string, Answered> = {}
  for (const [lie, meddling] of Object.entries(COMPUTED)) {
    const stages = await answerAll(gpu, recording, kernels, meddling)
    lies[lie] = { device: deviceClass(gpu, kernels), kernels: kernels.name, stages }
  }
  return lies
}

const zeros = (values: Floats | null) => values && new Float32Array(values.length)

/** `rest` behind what was computed, as long as `whole`. */
function filledUp(computed: Floats | null, whole: Floats | null, rest: Floats | null): Floats | null {
  if (!whole || !computed) return whole
  const out = rest?.slice() ?? new Float32Array(whole.length)
  out.set(computed)
  return out
}

/** What a liar sends for a microbatch: `honest` is what its device would have computed, `computed` what it did instead. */
export function lieAbout(
  lie: Lie,
  stage: RecordedStage,
  microbatch: number,
  honest: StageAnswers,
  computed: StageAnswers | undefined,
): Answer {
  const { input, outputGradient } = stage.questions[microbatch]!
  const truth = honest.microbatches[microbatch]!
  const { output, inputGradient, gradient, lossSum } = truth
  const instead = computed?.microbatches[microbatch]
  switch (lie) {
    case 'zero output':
      return { output: zeros(output), inputGradient: zeros(inputGradient), gradient: zeros(gradient)!, lossSum }
    case 'copied input':
      return {
        output: output && (input ?? zeros(output)),
        inputGradient: inputGradient && (outputGradient ?? zeros(inputGradient)),
        ...{ gradient: zeros(gradient)!, lossSum },
      }
    case 'half the tokens':
      return {
        output: filledUp(instead!.output, output, input),
        inputGradient: filledUp(instead!.inputGradient, inputGradient, null),
        gradient: instead!.gradient,
        // The mean over half of the tokens, claimed for all of them.
        lossSum: instead!.lossSum && 2 * instead!.lossSum,
      }
    case 'replayed receipt':
      return honest.microbatches[(microbatch + 1) % honest.microbatches.length]!
    case 'flipped gradient':
      return { ...truth, gradient: gradient.map((x) => -x) }
    case 'colluding owners':
      return truth
    default:
      return instead!
  }
}
