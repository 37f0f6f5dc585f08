/**
 * Owns a stage of a run with local steps: the weights that all replicas share, Muon's momentum from which lanes begin and that of
 * the outer optimizer, beside a model whose device holds the copy that one lane trains.
 *
 * A lane is a function of what is shared and of its data: Muon starts from the mean of the lanes' momentum, AdamW from zero, its
 * gradient is clipped by the norm over this stage alone. Whoever takes it over computes it again. What is shared is
 * kept and changed in exact IEEE arithmetic off the device, so that all replicas have the same bits.
 *
 * Why the mean: a lane's gradients are noisier than the whole batch's, so that updates of a fixed size, as Muon's are, go less
 * far along what the lanes have in common. A momentum that all have a part in takes much of that noise out.
 */
import { innerSteps, mergedVectors } from '../../protocol/lanes.ts'
import type { Shard } from '../../protocol/routing.ts'
import type { RunConfig } from '../../protocol/runConfig.ts'
import type { StageInput, StageModel, VectorKind } from '../../stage/model.ts'
import { learningRate } from '../learningRate.ts'
import { adamwRuns } from '../optimizerShards.ts'
import type { OuterVectors } from './outer.ts'

type Floats = Float32Array<ArrayBuffer>

/** What the device held of a lane that gave way to another. */
interface ParkedLane {
  readonly parameters: Floats
  readonly firstMoment: Floats
  readonly secondMoment: Floats
  readonly gradient: Floats
}

export class LocalStage implements StageModel {
  readonly layout: StageModel['layout']
  readonly #lanes: StageModel
  readonly #config: RunConfig
  readonly #whole: Shard
  /** By kind as a checkpoint keeps them: the weights, the outer momentum, and Muon's of the lanes or nothing. */
  readonly #shared: Readonly<Record<VectorKind, Floats>>
  /** What AdamW walks: there lanes begin from moments of zero. Null where all do. */
  readonly #zeroed: readonly Shard[] | null
  readonly #parked = new Map<number, ParkedLane>()
  /** The lane on the device. */
  #lane: number | null = null
  /** Whether the device holds the shared weights. */
  #current = false

  /** @param lanes the model that trains the lanes, made for `updateConfig(config)`; it is destroyed with this one */
  constructor(lanes: StageModel, config: RunConfig) {
    this.layout = lanes.layout
    this.#lanes = lanes
    this.#config = config
    const { length } = lanes.layout
    this.#whole = { offset: 0, length }
    const zeros = () => new Float32Array(length)
    this.#zeroed = mergedVectors(config) === 2 ? adamwRuns(lanes.layout, config.optimizer) : null
    const secondMoment = this.#zeroed ? zeros() : new Float32Array(0)
    this.#shared = { parameters: zeros(), firstMoment: zeros(), secondMoment }
  }

  /** Views of the shared vectors, to be changed in place. */
  outerVectors(range: Shard): OuterVectors {
    const of = (kind: VectorKind) => this.#shared[kind].subarray(range.offset, range.offset + range.length)
    this.#current = false
    return {
      parameters: of('parameters'),
      momentum: of('firstMoment'),
      laneMomentum: this.#zeroed && of('secondMoment'),
    }
  }

  /** Forgets every lane. */
  beginStep(step: number): void {
    this.#lanes.beginStep(step)
    this.#parked.clear()
    this.#lane = null
  }

  /** Brings a lane onto the device, from what is shared or from where it was when it gave way. */
  async enterLane(lane: number): Promise<void> {
    if (this.#lane === lane) return
    if (this.#lane !== null) this.#parked.set(this.#lane, await this.#park())
    const known = this.#parked.get(lane)
    this.#parked.delete(lane)
    this.#lane = lane
    this.#current = false
    this.#lanes.write('parameters', 0, known?.parameters ?? this.#shared.parameters)
    const zeros = known ? null : new Float32Array(this.#whole.length)
    this.#lanes.write('firstMoment', 0, known?.firstMoment ?? (this.#zeroed ? this.#shared.secondMoment : zeros!))
    this.#lanes.write('secondMoment', 0, known?.secondMoment ?? zeros!)
    this.#lanes.restoreGradient(this.#whole, known?.gradient ?? null)
  }

  async #park(): Promise<ParkedLane> {
    const read = (kind: VectorKind) => this.#lanes.read(kind, this.#whole)
    return {
      parameters: await read('parameters'),
      firstMoment: await read('firstMoment'),
      secondMoment: await read('secondMoment'),
      gradient: await this.#lanes.readGradient(this.#whole),
    }
  }

  /**
   * One update of the lane on the device, from the gradient of its part of the batch.
   * @param step of the run, from 1 @param inner step of the lane, from 0
   */
  async innerUpdate(step: number, inner: number): Promise<void> {
    const { optimizer, steps } = this.#config
    const each = innerSteps(this.#config)
    const norm = Math.sqrt(await this.#lanes.reduceGradient(this.#whole, []))
    const scale = optimizer.gradClip > 0 ? Math.min(1, optimizer.gradClip / (norm + 1e-6)) : 1
    const lr = learningRate(optimizer, (step - 1) * each + inner + 1, steps * each)
    await this.#lanes.update(this.#whole, { lr, scale, step: inner + 1 })
    this.#lanes.restoreGradient(this.#whole, null)
  }

  /** Takes the lane off the device; returns what merges: shared weights less its own, and Muon's momentum where that is shared. */
  async leaveLane(): Promise<Floats[]> {
    const change = await this.#lanes.read('parameters', this.#whole)
    const { parameters } = this.#shared
    for (let i = 0; i < change.length; i++) change[i] = parameters[i]! - change[i]!
    const merged = [change]
    if (this.#zeroed) {
      const momentum = await this.#lanes.read('firstMoment', this.#whole)
      for (const { offset, length } of this.#zeroed) momentum.fill(0, offset, offset + length)
      merged.push(momentum)
    }
    this.#lane = null
    return merged
  }

  forward: StageModel['forward'] = (microbatch, input) => this.#lanes.forward(microbatch, input)
  backward: StageModel['backward'] = (microbatch, gradient) => this.#lanes.backward(microbatch, gradient)
  forwardBackward: StageModel['forwardBackward'] = (microbatch, input, targets) =>
    this.#lanes.forwardBackward(microbatch, input, targets)

  evaluate(input: StageInput, targets: Uint32Array): Promise<number> {
    this.#bringWeights()
    return this.#lanes.evaluate(input, targets)
  }

  forwardOnly(input: StageInput): Promise<Uint8Array<ArrayBuffer>> {
    this.#bringWeights()
    return this.#lanes.forwardOnly(input)
  }

  /** Scoring comes between two steps: no lane is worth keeping then. */
  #bringWeights(): void {
    if (this.#current) return
    this.#lanes.write('parameters', 0, this.#shared.parameters)
    this.#lane = null
    this.#current = true
  }

  read(kind: VectorKind, { offset, length }: Shard): Promise<Floats> {
    if (kind === 'secondMoment' && !this.#zeroed) return Promise.resolve(new Float32Array(length))
    return Promise.resolve(this.#shared[kind].slice(offset, offset + length))
  }

  write(kind: VectorKind, offset: number, values: Float32Array): void {
    if (kind === 'secondMoment' && !this.#zeroed) return
    this.#shared[kind].set(values, offset)
    this.#current = false
  }

  readGradient: StageModel['readGradient'] = () => refuse()
  reduceGradient: StageModel['reduceGradient'] = () => refuse()
  restoreGradient: StageModel['restoreGradient'] = () => refuse()
  update: StageModel['update'] = () => refuse()

  destroy(): void {
    this.#parked.clear()
    this.#lanes.destroy()
  }
}

function refuse(): never {
  throw new Error('Replicas with local steps merge what their lanes changed, not gradients: see LaneWork.')
}
