/** Owns how one class of device answers the recorded questions: outputs, gradients and updates, with its kernels forced. */
import type { DeviceClass } from '../../../src/audit/tolerances.ts'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { ATTENTION_VARIANTS, type AttentionVariant } from '../../../src/gpu/kernels/attention.ts'
import { HALF_MATMUL_VARIANTS, MATMUL_VARIANTS } from '../../../src/gpu/kernels/matmul.ts'
import { createGpuStageModel, type GpuStageModel } from '../../../src/model/gpuStageModel.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import {
  bytesOf,
  floats,
  stageInput,
  type Floats,
  type Question,
  type RecordedStage,
  type Recording,
} from './questions.ts'

/** What a node sends for one microbatch, before any codec. */
export interface Answer {
  /** Null at the last stage. */
  readonly output: Floats | null
  /** Null at the first stage. */
  readonly inputGradient: Floats | null
  /** Of every parameter of the stage. */
  readonly gradient: Floats
  /** In nats; null before the last stage. */
  readonly lossSum: number | null
}

/** One recorded stage, answered. */
export interface StageAnswers {
  readonly microbatches: readonly Answer[]
  /** The parameters after the step's update. */
  readonly updated: Floats
}

/** Kernels that honest devices may run. */
export interface KernelClass {
  readonly name: string
  readonly matmul: string
  readonly attention: AttentionVariant
  readonly products: 'f32' | 'f16'
}

/** Every matmul variant the adapter can run, with the attention of its kind, and both attentions with one of them. */
export function kernelClasses(gpu: GpuContext): KernelClass[] {
  const classOf = (matmul: string, attention: AttentionVariant, products: 'f32' | 'f16' = 'f32') => {
    return { name: `${matmul}, ${attention}`, matmul, attention, products }
  }
  const named = (specs: typeof MATMUL_VARIANTS) => specs.filter((spec) => spec.suits(gpu)).map(({ name }) => name)
  const exact = named(MATMUL_VARIANTS).map((name, i) => classOf(name, ATTENTION_VARIANTS[i % 2]!))
  const other = classOf(exact[0]!.matmul, ATTENTION_VARIANTS[1])
  return [...exact, other, ...named(HALF_MATMUL_VARIANTS).map((name) => classOf(name, 'flash', 'f16'))]
}

export function deviceClass({ adapter }: GpuContext, { products }: KernelClass): DeviceClass {
  return { vendor: adapter.vendor, architecture: adapter.architecture, products }
}

/** Changes what a device computes with: the ways to lie that need the device. */
export interface Meddling {
  parameters?(stage: RecordedStage): Floats
  question?(question: Question, config: RunConfig): Question
  /** What the merge sums. */
  contributions?(stage: RecordedStage): Floats[]
}

/** Answers in the order of `recording.stages`. Throws what making and running a stage throws. */
export async function answerAll(
  gpu: GpuContext,
  recording: Recording,
  kernels: KernelClass,
  meddling: Meddling = {},
): Promise<StageAnswers[]> {
  const config: RunConfig = { ...recording.config, products: kernels.products }
  const answers = new Map<RecordedStage, StageAnswers>()
  for (let stage = 0; stage < config.stages; stage++) {
    const choice = { matmul: [kernels.matmul], attention: kernels.attention }
    const model = await createGpuStageModel(gpu, { config, stage }, { kernels: choice })
    try {
      for (const recorded of recording.stages.filter(({ layout }) => layout.stage === stage)) {
        answers.set(recorded, await answerStage(model, recorded, config, meddling))
      }
    } finally {
      model.destroy()
    }
  }
  return recording.stages.map((stage) => answers.get(stage)!)
}

async function answerStage(
  model: GpuStageModel,
  recorded: RecordedStage,
  config: RunConfig,
  { parameters, question: changed, contributions }: Meddling,
): Promise<StageAnswers> {
  model.write('parameters', 0, parameters?.(recorded) ?? recorded.parameters)
  const whole = { offset: 0, length: recorded.layout.length }
  const microbatches: Answer[] = []
  for (const [m, original] of recorded.questions.entries()) {
    const question = changed?.(original, config) ?? original
    const input = stageInput(question.input, question.tokens)
    model.beginStep(recorded.step)
    let answer: Omit<Answer, 'gradient'>
    if (recorded.layout.hasHead) {
      const { lossSum, inputGradient } = await model.forwardBackward(m, input, question.targets)
      answer = { output: null, inputGradient: inputGradient && floats(inputGradient), lossSum }
    } else {
      const output = floats(await model.forward(m, input))
      const inputGradient = await model.backward(m, bytesOf(question.outputGradient!))
      answer = { output, inputGradient: inputGradient && floats(inputGradient), lossSum: null }
    }
    microbatches.push({ ...answer, gradient: await model.readGradient(whole) })
  }
  model.write('parameters', 0, recorded.parameters)
  model.write('firstMoment', 0, recorded.moments.first)
  model.write('secondMoment', 0, recorded.moments.second)
  await model.reduceGradient(whole, contributions?.(recorded) ?? recorded.questions.map(({ gradient }) => gradient))
  await model.update(whole, recorded.update)
  return { microbatches, updated: await model.read('parameters', whole) }
}
