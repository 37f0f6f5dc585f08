/** Owns the passes of a stage, each as a plan, and the slots in which microbatches in flight keep their activations. */
import type { PooledBuffer } from '../gpu/buffers.ts'
import type { PlanBuilder } from '../gpu/plan.ts'
import { backwardLayers } from './backward.ts'
import { sendForward } from './bottleneck.ts'
import type { ReceivedCode, SentCode } from './bottleneck.ts'
import { forwardLayers, keptInScratch } from './forward.ts'
import type { Keeping, StageActivations } from './forward.ts'
import { lossOf } from './head.ts'
import { sendsCode } from './layout.ts'
import { giveBack } from './stageContext.ts'
import type { Stage, StageContext } from './stageContext.ts'
import { lendSegments, recordInput, recordInputGradient, recordOutput, recordOutputGradient } from './stageInput.ts'
import type { Recorded, StagePlan, StagePlans } from './stagePlans.ts'

/** What a forward pass leaves for the backward one. */
interface Trace {
  readonly activations: StageActivations
  readonly received: ReceivedCode | null
  readonly sent: SentCode | null
  readonly keeping: Keeping
}

/** A microbatch's place on the GPU between its forward and its backward. */
export interface Slot {
  readonly index: number
  readonly rows: number
  readonly keeping: Keeping
  readonly buffers: readonly PooledBuffer[]
  /** From when its forward was first recorded. */
  trace: Trace | null
  busy: boolean
}

export interface ForwardInputs {
  /** Token ids u32 [rows], or an encoded boundary. */
  readonly raw: PooledBuffer
  /** u32 [rows], behind a learned boundary. */
  readonly tokenIds: PooledBuffer | null
}

/** With those of forward where the pass begins with a second one. */
interface BackwardInputs extends Partial<ForwardInputs> {
  /** The encoded gradient of the output. */
  readonly gradient: PooledBuffer
  /** Of the first stage. */
  readonly segments: PooledBuffer | null
}

interface HeadInputs extends ForwardInputs {
  /** u32 [rows]. */
  readonly targets: PooledBuffer
  readonly segments: PooledBuffer | null
}

export class StagePasses {
  readonly #stage: Stage
  readonly #plans: StagePlans
  readonly #mostSlots: number
  readonly #slots: Slot[] = []

  constructor(stage: Stage, plans: StagePlans, mostSlots: number) {
    this.#stage = stage
    this.#plans = plans
    this.#mostSlots = mostSlots
  }

  /** Records what training runs: 1F1B holds one microbatch for every stage from here to the last, and one more. */
  prepare(rows: number): void {
    const { config, layout } = this.#stage
    if (layout.hasHead) {
      this.train(rows)
      return
    }
    const inFlight = Math.min(config.batch / config.microbatch, config.stages - layout.stage + 1)
    const slots = Array.from({ length: inFlight }, () => this.reserve(rows))
    for (const slot of slots) {
      if (slot) {
        this.forward(slot)
        this.backward(slot)
        this.free(slot)
      } else {
        this.forwardOnly(rows)
        this.recompute(rows)
      }
    }
  }

  /** A slot for activations of so many rows, or null where there is room for no more. */
  reserve(rows: number): Slot | null {
    let slot = this.#slots.find((one) => !one.busy && one.rows === rows)
    if (!slot && this.#slots.length < this.#mostSlots) {
      slot = this.#newSlot(rows)
      this.#slots.push(slot)
    }
    if (slot) slot.busy = true
    return slot ?? null
  }

  free(slot: Slot): void {
    slot.busy = false
  }

  /** Reads the encoded output. */
  forward(slot: Slot): StagePlan<ForwardInputs> {
    return this.#plan(`forward ${slot.index}`, (stage) => {
      const { rows, keeping } = slot
      const { stream, received, inputs } = recordInput(stage, rows, keeping)
      const { activations, output } = forwardLayers(stage, stream, rows, keeping)
      const { encoded, sent } = recordOutput(stage, output, rows, keeping)
      slot.trace = { activations, received, sent, keeping }
      return { inputs, reads: [encoded] }
    })
  }

  /** Reads the encoded gradient of the input, or nothing at the first stage. */
  backward(slot: Slot): StagePlan<BackwardInputs> {
    this.forward(slot)
    return this.#plan(`backward ${slot.index}`, (stage) => recordBackward(stage, slot.trace!))
  }

  /** Forward and backward of a microbatch that kept only its input. Reads what backward reads. */
  recompute(rows: number): StagePlan<BackwardInputs> {
    return this.#plan(`recompute ${rows}`, (stage) => {
      const keeping = keptInScratch(stage)
      const { stream, received, inputs } = recordInput(stage, rows, keeping)
      const { activations, output } = forwardLayers(stage, stream, rows, keeping)
      const made = sendsCode(stage.layout) ? sendForward(stage, output, rows, keeping) : { sent: null, code: output }
      giveBack(stage, made.code)
      const backward = recordBackward(stage, { activations, received, sent: made.sent, keeping })
      return { inputs: { ...backward.inputs, ...inputs }, reads: backward.reads }
    })
  }

  /** Forward, loss and backward of the last stage. Reads the losses f32 [rows], then what backward reads. */
  train(rows: number): StagePlan<HeadInputs> {
    return this.#plan(`train ${rows}`, (stage) => {
      const { config, recorder } = stage
      const keeping = keptInScratch(stage)
      const targets = recorder.input(rows * 4, 'targets')
      const segments = lendSegments(stage, rows)
      const { stream, received, inputs } = recordInput(stage, rows, keeping)
      const { activations, output } = forwardLayers(stage, stream, rows, keeping)
      const { losses, dStream } = lossOf(stage, output, targets, rows, 1 / (config.batch * config.model.blockSize))
      giveBack(stage, output)
      const dInput = backwardLayers(stage, activations, keeping, dStream!)
      const encoded = recordInputGradient(stage, { received, keeping }, segments, dInput, rows)
      return { inputs: { ...inputs, targets, segments }, reads: encoded ? [losses, encoded] : [losses] }
    })
  }

  /** Forward and loss of the last stage. Reads the losses f32 [rows]. */
  evaluate(rows: number): StagePlan<HeadInputs> {
    return this.#plan(`evaluate ${rows}`, (stage) => {
      const targets = stage.recorder.input(rows * 4, 'targets')
      const { stream, inputs } = recordInput(stage, rows, keptInScratch(stage))
      const { output } = forwardLayers(stage, stream, rows, null)
      const { losses } = lossOf(stage, output, targets, rows, null)
      return { inputs: { ...inputs, targets, segments: null }, reads: [losses] }
    })
  }

  /** Reads the encoded output; keeps nothing. */
  forwardOnly(rows: number): StagePlan<ForwardInputs> {
    return this.#plan(`forward only ${rows}`, (stage) => {
      const keeping = keptInScratch(stage)
      const { stream, inputs } = recordInput(stage, rows, keeping)
      const { output } = forwardLayers(stage, stream, rows, null)
      return { inputs, reads: [recordOutput(stage, output, rows, keeping).encoded] }
    })
  }

  /** Gives the slots' memory back. */
  destroy(): void {
    const { pool } = this.#stage.gpu
    for (const { buffers } of this.#slots) for (const buffer of buffers) pool.release(buffer)
    this.#slots.length = 0
  }

  #plan<Inputs>(name: string, record: (stage: StageContext) => Recorded<Inputs>): StagePlan<Inputs> {
    return this.#plans.get(name, (recorder: PlanBuilder) => record({ ...this.#stage, recorder }))
  }

  #newSlot(rows: number): Slot {
    const { pool } = this.#stage.gpu
    const buffers: PooledBuffer[] = []
    const keeping: Keeping = {
      lend(count, columns, label) {
        const buffer = pool.allocate(count * columns * 4, label)
        buffers.push(buffer)
        return buffer
      },
      giveBack: () => undefined,
    }
    return { index: this.#slots.length, rows, keeping, buffers, trace: null, busy: false }
  }
}

function recordBackward(stage: StageContext, trace: Trace): Recorded<BackwardInputs> {
  const { activations, sent, keeping } = trace
  const { rows } = activations
  const segments = lendSegments(stage, rows)
  const { raw, dOutput } = recordOutputGradient(stage, sent, rows, keeping)
  const dInput = backwardLayers(stage, activations, keeping, dOutput)
  const encoded = recordInputGradient(stage, trace, segments, dInput, rows)
  return { inputs: { gradient: raw, segments }, reads: encoded ? [encoded] : [] }
}
