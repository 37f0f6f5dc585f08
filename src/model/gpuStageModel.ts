/** Owns one stage of a model on a GPU: the StageModel that production runs. */
import { boundaryBytes } from '../codec/boundary.ts'
import { roundingCounter } from '../codec/roundingCounter.ts'
import type { PooledBuffer } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import { Recorder } from '../gpu/recorder.ts'
import type { Variables } from '../gpu/kernel.ts'
import { tokenSegments } from '../gpu/kernels/embedding.ts'
import type { TokenSegments } from '../gpu/kernels/embedding.ts'
import { SkeinError, fail } from '../protocol/errors.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { StageInput, StageModel } from '../stage/model.ts'
import { runLayouts } from './layout.ts'
import { activationBytes, microbatchRows } from './memory.ts'
import type { Stage } from './stageContext.ts'
import { ROUNDING_VARIABLE, copyInput, inputRows } from './stageInput.ts'
import { stageKernels } from './stageKernels.ts'
import type { KernelChoice, Tuning } from './stageKernels.ts'
import { StagePasses } from './stagePasses.ts'
import type { ForwardInputs, Slot } from './stagePasses.ts'
import { StagePlans } from './stagePlans.ts'
import { lendVectors, reduceContributions, releaseVectors, restoreRange, updateRange } from './stageVectors.ts'

export interface GpuStageSpec {
  readonly config: RunConfig
  readonly stage: number
}

export interface GpuStageOptions {
  /**
   * Bytes that kept activations may take over all microbatches in flight. Past it a microbatch keeps only its input
   * and backward computes the rest again. 1 GiB by default, half of that on a software adapter.
   */
  readonly activationBudget?: number
  readonly kernels?: KernelChoice
  readonly tuning?: Tuning
}

/** Counts since the model was made, for the bench. */
export interface WorkCounts {
  readonly dispatches: number
  readonly submits: number
  /** Microbatches whose forward was computed a second time. */
  readonly recomputed: number
}

export interface GpuStageModel extends StageModel {
  readonly work: WorkCounts
}

/** A microbatch between its forward and its backward: its activations in a slot, or only its input. */
type Pending =
  | { readonly slot: Slot; readonly rows: number; readonly segments: TokenSegments | null }
  | { readonly input: StageInput }

/**
 * Compiles the stage's kernels, lends its memory and records the plans of training; parameters and moments are zero until
 * `write`. Throws `gpu.out_of_memory`, `gpu.limits`, `gpu.shader` or `gpu.lost`, and then leaves nothing lent behind.
 */
export async function createGpuStageModel(
  gpu: GpuContext,
  spec: GpuStageSpec,
  options: GpuStageOptions = {},
): Promise<GpuStageModel> {
  gpu.check()
  const { config } = spec
  const layout = runLayouts(config)[spec.stage]
  if (!layout) throw new RangeError(`No stage ${spec.stage} among ${config.stages}.`)
  const recorder = new Recorder(gpu)
  const vectors = lendVectors(gpu, layout, config.optimizer, recorder)
  let plans: StagePlans | undefined
  let passes: StagePasses | undefined
  let tables: readonly (PooledBuffer | null)[] = []
  try {
    recorder.submit()
    await gpu.pool.settled()
    const kernels = await stageKernels(gpu, config, layout, {
      ...(options.kernels && { choice: options.kernels }),
      ...(options.tuning && { tuning: options.tuning }),
    })
    tables = [kernels.ropeTable, kernels.ones]
    // What the kernels were tried on has sizes of its own: the workspace needs the room.
    gpu.pool.trim()
    plans = new StagePlans(gpu, SUBMIT_SECONDS * kernels.matmul.rate)
    const stage: Stage = { gpu, config, layout, kernels, ...vectors }
    const budget = options.activationBudget ?? (gpu.adapter.software ? 2 ** 29 : 2 ** 30)
    passes = new StagePasses(stage, plans, Math.floor(budget / activationBytes(config, layout)))
    // What training needs is lent now, where a device that has no room for it can still be given less.
    passes.prepare(microbatchRows(config))
    await gpu.pool.settled()
    gpu.check()
    return modelOf(stage, vectors, plans, passes, recorder)
  } catch (caught) {
    plans?.destroy()
    passes?.destroy()
    for (const table of tables) if (table) gpu.pool.release(table)
    releaseVectors(vectors)
    gpu.pool.trim()
    throw caught
  }
}

/** A submit's length: short of the tenth of a second in which the page would get no frame. */
const SUBMIT_SECONDS = 0.08

function modelOf(
  stage: Stage,
  vectors: ReturnType<typeof lendVectors>,
  plans: StagePlans,
  passes: StagePasses,
  recorder: Recorder,
): GpuStageModel {
  const { gpu, config, layout, kernels } = stage
  const { vocabSize } = config.model
  const { gradients } = vectors
  const pending = new Map<number, Pending>()
  let recomputed = 0
  let step = 0

  function take(microbatch: number): Pending | undefined {
    const found = pending.get(microbatch)
    pending.delete(microbatch)
    if (found && 'slot' in found) passes.free(found.slot)
    return found
  }

  /** Turns what the device reports while `work` runs into a SkeinError. */
  async function run<T>(work: () => Promise<T>): Promise<T> {
    gpu.check()
    try {
      const result = work()
      result.catch(() => undefined) // Awaited below; an allocation's failure is told first.
      recorder.submit()
      await gpu.pool.settled()
      const value = await result
      gpu.check()
      return value
    } catch (caught) {
      if (caught instanceof SkeinError) throw caught
      // A lost device rejects pending maps before it says that it is lost.
      await new Promise((resolve) => setTimeout(resolve, 0))
      gpu.check()
      throw caught
    }
  }

  const rowsOf = (input: StageInput) => inputRows(stage, input)
  const segmentsOf = (input: StageInput) => ('tokens' in input ? tokenSegments(input.tokens) : null)
  const write = gpu.pool.write.bind(gpu.pool)
  const writeInput = ({ raw, tokenIds }: Partial<ForwardInputs>, input: StageInput) => {
    write(raw!, 'tokens' in input ? input.tokens : input.boundary)
    if (tokenIds && 'boundary' in input) write(tokenIds, input.tokenIds!)
  }
  const variablesOf = (microbatch: number, segments: TokenSegments | null): Variables => ({
    [ROUNDING_VARIABLE]: roundingCounter(config.seed, step, microbatch, layout.stage - 1),
    ...(segments && { distinct: segments.distinct }),
  })
  const bytesOf = (buffer: ArrayBuffer | undefined) => (buffer ? new Uint8Array(buffer) : null)
  const sumOf = (buffer: ArrayBuffer) => new Float32Array(buffer).reduce((a, b) => a + b, 0)

  function checkTargets(input: StageInput, targets: Uint32Array): void {
    if (targets.length === rowsOf(input) && targets.every((target) => target < vocabSize)) return
    fail('stage.input', 'The targets do not fit the input.', 'Check that the dataset suits the vocabulary.')
  }

  return {
    layout,
    get work() {
      const { dispatches, submits } = plans.work
      return { dispatches: dispatches + recorder.dispatches, submits: submits + recorder.submits, recomputed }
    },

    beginStep(next) {
      step = next
      for (const microbatch of [...pending.keys()]) take(microbatch)
      gradients.clear(recorder)
      recorder.submit()
    },

    forward: (microbatch, input) =>
      run(async () => {
        take(microbatch)
        const rows = rowsOf(input)
        const slot = passes.reserve(rows)
        const forward = slot ? passes.forward(slot) : passes.forwardOnly(rows)
        writeInput(forward.inputs, input)
        const output = plans.run(forward)
        pending.set(microbatch, slot ? { slot, rows, segments: segmentsOf(input) } : { input: copyInput(input) })
        return new Uint8Array((await output)[0]!)
      }),

    backward: (microbatch, outputGradient) =>
      run(async () => {
        const found = take(microbatch) ?? unknownMicrobatch(microbatch)
        const rows = 'rows' in found ? found.rows : rowsOf(found.input)
        if (outputGradient.length !== boundaryBytes(config, rows)) {
          fail('stage.input', 'The gradient does not fit the output.', 'The run goes back to its last checkpoint.')
        }
        const again = 'input' in found ? found.input : null
        if (again) recomputed++
        const plan = 'slot' in found ? passes.backward(found.slot) : passes.recompute(rows)
        const segments = 'slot' in found ? found.segments : segmentsOf(found.input)
        if (again) writeInput(plan.inputs, again)
        write(plan.inputs.gradient, outputGradient)
        if (segments) write(plan.inputs.segments!, segments.words)
        const [gradient] = await plans.run(plan, variablesOf(microbatch, segments))
        // The first stage reads nothing back: without this wait its work would be counted as what comes next.
        if (!gradient) await gpu.device.queue.onSubmittedWorkDone()
        return bytesOf(gradient)
      }),

    forwardBackward: (microbatch, input, targets) =>
      run(async () => {
        checkTargets(input, targets)
        const plan = passes.train(rowsOf(input))
        const segments = segmentsOf(input)
        writeInput(plan.inputs, input)
        write(plan.inputs.targets, targets)
        if (segments) write(plan.inputs.segments!, segments.words)
        const [losses, inputGradient] = await plans.run(plan, variablesOf(microbatch, segments))
        return { lossSum: sumOf(losses!), inputGradient: bytesOf(inputGradient) }
      }),

    evaluate: (input, targets) =>
      run(async () => {
        checkTargets(input, targets)
        const plan = passes.evaluate(rowsOf(input))
        writeInput(plan.inputs, input)
        write(plan.inputs.targets, targets)
        return sumOf((await plans.run(plan))[0]!)
      }),

    forwardOnly: (input) =>
      run(async () => {
        const plan = passes.forwardOnly(rowsOf(input))
        writeInput(plan.inputs, input)
        return new Uint8Array((await plans.run(plan))[0]!)
      }),

    readGradient: (range) => run(() => gradients.read(recorder, range)),
    reduceGradient: (range, contributions) =>
      run(() => reduceContributions(gpu, kernels, plans, gradients, range, contributions)),
    restoreGradient(range, values) {
      if (values || range.length < layout.length) return restoreRange(gradients, range, values)
      // Zeros everywhere need not travel to the device.
      gradients.clear(recorder)
      recorder.submit()
    },
    update: (range, step) => run(() => updateRange(kernels, plans, vectors, range, step)),
    read: (kind, range) => run(() => vectors[kind].read(recorder, range)),
    write: (kind, offset, values) => vectors[kind].write(offset, values),

    destroy() {
      pending.clear()
      passes.destroy()
      plans.destroy()
      releaseVectors(vectors)
      for (const table of [kernels.ropeTable, kernels.ones]) if (table) gpu.pool.release(table)
      gpu.pool.trim()
    },
  }
}

function unknownMicrobatch(microbatch: number): never {
  fail(
    'stage.unknown_microbatch',
    `Microbatch ${microbatch} has no forward pass to go back through.`,
    'The run goes back to its last checkpoint.',
  )
}
