/** Owns one stage of a model on a GPU: the StageModel that production runs. */
import type { PooledBuffer } from '../gpu/buffers.ts'
import type { GpuContext } from '../gpu/device.ts'
import { Recorder } from '../gpu/kernel.ts'
import { SkeinError, fail } from '../protocol/errors.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { StageInput, StageModel } from '../stage/model.ts'
import { backwardLayers } from './backward.ts'
import { forwardLayers, releaseActivations } from './forward.ts'
import type { StageActivations } from './forward.ts'
import { lossOf } from './head.ts'
import { stageLayouts } from './layout.ts'
import { activationBytes } from './memory.ts'
import { giveBack, lend } from './stageContext.ts'
import type { StageContext } from './stageContext.ts'
import * as stageInput from './stageInput.ts'
import type { InputTrace } from './stageInput.ts'
import { stageKernels } from './stageKernels.ts'
import { lendVectors, recordUpdate, reduceContributions, releaseVectors } from './stageVectors.ts'

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

/** What backward needs of a microbatch. */
interface Kept {
  readonly rows: number
  readonly activations: StageActivations
  readonly trace: InputTrace
}

/** A microbatch between its forward and its backward: kept whole, or only its input. */
type Pending = Kept | { readonly input: StageInput }

/**
 * Compiles the stage's kernels and lends its memory; parameters and moments are zero until `write`.
 * Throws `gpu.out_of_memory`, `gpu.limits`, `gpu.shader` or `gpu.lost`, and then leaves nothing lent behind.
 */
export async function createGpuStageModel(
  gpu: GpuContext,
  spec: GpuStageSpec,
  options: GpuStageOptions = {},
): Promise<GpuStageModel> {
  gpu.check()
  const { config } = spec
  const layout = stageLayouts(config.model, config.stages)[spec.stage]
  if (!layout) throw new RangeError(`No stage ${spec.stage} among ${config.stages}.`)
  const recorder = new Recorder(gpu)
  const vectors = lendVectors(gpu, layout, recorder)
  try {
    recorder.submit()
    await gpu.pool.settled()
    const kernels = await stageKernels(gpu, config, layout)
    gpu.check()
    const stage: StageContext = { gpu, config, layout, kernels, recorder, ...vectors }
    const budget = options.activationBudget ?? (gpu.adapter.software ? 2 ** 29 : 2 ** 30)
    return modelOf(stage, vectors, budget)
  } catch (caught) {
    releaseVectors(vectors)
    gpu.pool.trim()
    throw caught
  }
}

function modelOf(stage: StageContext, vectors: ReturnType<typeof lendVectors>, budget: number): GpuStageModel {
  const { gpu, config, layout, kernels, recorder } = stage
  const { dModel, blockSize, vocabSize } = config.model
  const { gradients } = vectors
  const perMicrobatch = activationBytes(config, layout)
  const pending = new Map<number, Pending>()
  let keptCount = 0
  let recomputed = 0

  /** Takes a microbatch out of `pending`; what it kept is the caller's to release. */
  function take(microbatch: number): Pending | undefined {
    const found = pending.get(microbatch)
    pending.delete(microbatch)
    if (found && 'activations' in found) keptCount--
    return found
  }

  function drop(microbatch: number): void {
    const found = take(microbatch)
    if (!found || !('activations' in found)) return
    releaseActivations(stage, found.activations)
    giveBack(stage, found.trace.segments)
  }

  /** Submits what `record` recorded, waits for its result, and turns what the device reports into a SkeinError. */
  async function run<T>(record: () => T | Promise<T>): Promise<Awaited<T>> {
    gpu.check()
    try {
      const result = Promise.resolve(record())
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

  /** Uploads and records a forward pass over the layers. `raw` is to be given back once everything is recorded. */
  function recordForward(input: StageInput, keep: boolean): Kept & { raw: PooledBuffer } {
    const rows = stageInput.inputRows(stage, input)
    const { stream, trace, raw } = stageInput.recordInput(stage, input, rows, keep)
    return { rows, trace, raw, activations: forwardLayers(stage, stream, rows, keep) }
  }

  function uploadTargets(input: StageInput, targets: Uint32Array): PooledBuffer {
    if (targets.length !== stageInput.inputRows(stage, input) || targets.some((target) => target >= vocabSize)) {
      fail('stage.input', 'The targets do not fit the input.', 'Check that the dataset suits the vocabulary.')
    }
    return gpu.pool.upload(targets, 'targets')
  }

  return {
    layout,
    get work() {
      return { dispatches: recorder.dispatches, submits: recorder.submits, recomputed }
    },

    beginStep() {
      for (const microbatch of [...pending.keys()]) drop(microbatch)
      gradients.clear(recorder)
      recorder.submit()
    },

    forward: (microbatch, input) =>
      run(() => {
        drop(microbatch)
        const keep = (keptCount + 1) * perMicrobatch <= budget
        const { raw, ...state } = recordForward(input, keep)
        const bytes = stageInput.recordEncoded(stage, state.activations.output, state.rows)
        giveBack(stage, raw)
        if (keep) keptCount++
        else releaseActivations(stage, state.activations)
        pending.set(microbatch, keep ? state : { input: stageInput.copyInput(input) })
        return bytes
      }),

    backward: (microbatch, outputGradient) =>
      run(() => {
        const found = take(microbatch) ?? unknownMicrobatch(microbatch)
        const shape = { rows: 'rows' in found ? found.rows : stageInput.inputRows(stage, found.input), columns: dModel }
        if (outputGradient.length !== kernels.codec.bytes(shape)) {
          fail('stage.input', 'The gradient does not fit the output.', 'The run goes back to its last checkpoint.')
        }
        const encoded = gpu.pool.upload(outputGradient, 'output gradient')
        const again = 'input' in found ? recordForward(found.input, true) : undefined
        if (again) recomputed++
        const { activations, trace, rows } = again ?? (found as Kept)
        const dOutput = lend(stage, rows, dModel, 'output gradient')
        kernels.codec.decode(recorder, encoded, dOutput, shape, stageInput.gradientLift(stage))
        const dInput = backwardLayers(stage, activations, dOutput)
        const bytes = stageInput.recordInputGradient(stage, trace, dInput, rows)
        giveBack(stage, encoded, again?.raw)
        return bytes
      }),

    forwardBackward: (_microbatch, input, targets) =>
      run(async () => {
        const labels = uploadTargets(input, targets)
        const { rows, trace, activations, raw } = recordForward(input, true)
        const scale = 1 / (config.batch * blockSize)
        const { lossSum, dStream } = lossOf(stage, activations.output, labels, rows, scale)
        const dInput = backwardLayers(stage, activations, dStream!)
        const bytes = stageInput.recordInputGradient(stage, trace, dInput, rows)
        giveBack(stage, raw, labels)
        const [loss, inputGradient] = await Promise.all([lossSum, bytes])
        return { lossSum: loss, inputGradient }
      }),

    evaluate: (input, targets) =>
      run(() => {
        const labels = uploadTargets(input, targets)
        const { rows, activations, raw } = recordForward(input, false)
        const { lossSum } = lossOf(stage, activations.output, labels, rows, null)
        releaseActivations(stage, activations)
        giveBack(stage, raw, labels)
        return lossSum
      }),

    forwardOnly: (input) =>
      run(() => {
        const { rows, activations, raw } = recordForward(input, false)
        const bytes = stageInput.recordEncoded(stage, activations.output, rows)
        releaseActivations(stage, activations)
        giveBack(stage, raw)
        return bytes
      }),

    readGradient: (range) => run(() => gradients.read(recorder, range)),
    reduceGradient: (range, contributions) =>
      run(() => reduceContributions(gpu, kernels, recorder, gradients, range, contributions)),
    update: (range, step) =>
      run(() => recordUpdate(kernels, recorder, vectors, range, layout.decayLength, config.optimizer, step)),
    read: (kind, range) => run(() => vectors[kind].read(recorder, range)),
    write: (kind, offset, values) => vectors[kind].write(offset, values),

    destroy() {
      for (const microbatch of [...pending.keys()]) drop(microbatch)
      releaseVectors(vectors)
      giveBack(stage, kernels.ropeTable)
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
