/**
 * Owns a stage of a run with local steps: the weights that all replicas share, the moments from which lanes begin and the momentum
 * of the outer optimizer, beside a model whose device holds the copy that one lane trains.
 *
 * A lane is a function of what is shared and of its data: its gradient is clipped by the norm over this stage alone, and it starts
 * from what {@link LaneMoments} says. Whoever takes it over computes it again. What is shared is kept and changed in exact IEEE
 * arithmetic off the device, so that all replicas have the same bits.
 */
import type { Kept } from '../../codec/groups.ts'
import { innerSteps, sharesMoments } from '../../protocol/lanes.ts'
import type { Shard } from '../../protocol/routing.ts'
import type { RunConfig } from '../../protocol/runConfig.ts'
import type { StageInput, StageModel, VectorKind } from '../../stage/model.ts'
import { learningRate } from '../learningRate.ts'
import { clipScale } from '../reference/adamw.ts'
import { LaneMoments, type OptimizerMoments } from './laneMoments.ts'
import { outerStep } from './outer.ts'

type Floats = Float32Array<ArrayBuffer>

/** What the device held of a lane that gave way to another. */
interface ParkedLane extends OptimizerMoments {
  readonly parameters: Floats
  readonly gradient: Floats
}

export class LocalStage implements StageModel {
  readonly layout: StageModel['layout']
  readonly #lanes: StageModel
  readonly #config: RunConfig
  readonly #whole: Shard
  /** By kind as a checkpoint keeps them: the weights, the outer momentum, and the lanes' moments or nothing. */
  readonly #shared: Readonly<Record<VectorKind, Floats>>
  /** Null where lanes begin from moments of zero. */
  readonly #moments: LaneMoments | null
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
    this.#moments = sharesMoments(config) ? new LaneMoments(lanes.layout, config.optimizer) : null
    const secondMoment = this.#moments ? zeros() : new Float32Array(0)
    this.#shared = { parameters: zeros(), firstMoment: zeros(), secondMoment }
  }

  /** Of what merges of `range`, the places that few bits must not make zero; null where there are none. */
  keptRoots(range: Shard): Kept | null {
    return this.#moments?.roots(range) ?? null
  }

  /** Moves what is shared of `range` by one outer step. `mean`: of what {@link leaveLane} gave of all lanes. */
  takeMean(range: Shard, mean: Float32Array): void {
    const { offset, length } = range
    const of = (kind: VectorKind) => this.#shared[kind].subarray(offset, offset + length)
    const vectors = { parameters: of('parameters'), momentum: of('firstMoment') }
    outerStep(vectors, mean.subarray(0, length), this.#config.local.outer)
    if (this.#moments) of('secondMoment').set(this.#moments.kept(mean.subarray(length), range))
    this.#current = false
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
    const { firstMoment, secondMoment } = known ?? this.#moments?.beginning(this.#shared.secondMoment) ?? this.#zeros()
    this.#lanes.write('firstMoment', 0, firstMoment)
    this.#lanes.write('secondMoment', 0, secondMoment)
    this.#lanes.restoreGradient(this.#whole, known?.gradient ?? null)
  }

  #zeros(): OptimizerMoments {
    const zeros = new Float32Array(this.#whole.length)
    return { firstMoment: zeros, secondMoment: zeros }
  }

  async #park(): Promise<ParkedLane> {
    return {
      parameters: await this.#lanes.read('parameters', this.#whole),
      ...(await this.#readMoments(this.#whole)),
      gradient: await this.#lanes.readGradient(this.#whole),
    }
  }

  async #readMoments(range: Shard): Promise<OptimizerMoments> {
    return {
      firstMoment: await this.#lanes.read('firstMoment', range),
      secondMoment: await this.#lanes.read('secondMoment', range),
    }
  }

  /**
   * One update of the lane on the device, from the gradient of its part of the batch.
   * @param step of the run, from 1 @param inner step of the lane, from 0 @param moving what is not final yet; all else stays
   */
  async innerUpdate(step: number, inner: number, moving: readonly Shard[]): Promise<void> {
    const { optimizer, steps } = this.#config
    const each = innerSteps(this.#config)
    const norm = Math.sqrt(await this.#lanes.reduceGradient(this.#whole, []))
    const scale = clipScale(norm, optimizer.gradClip)
    const update = (step - 1) * each + inner + 1
    const lr = learningRate(optimizer, update, steps * each)
    const taken = { lr, scale, step: this.#moments ? update : inner + 1 }
    for (const range of moving) await this.#lanes.update(range, taken)
    this.#lanes.restoreGradient(this.#whole, null)
  }

  /**
   * What merges of a range of the lane on the device: shared weights less its own, and behind them its moments where they are
   * shared.
   */
  async readLane(range: Shard): Promise<Floats> {
    const change = await this.#lanes.read('parameters', range)
    const parameters = this.#shared.parameters.subarray(range.offset)
    for (let i = 0; i < change.length; i++) change[i] = parameters[i]! - change[i]!
    return this.#moments ? joined(change, this.#moments.merging(await this.#readMoments(range), range)) : change
  }

  /** Takes the lane off the device. */
  leaveLane(): void {
    this.#lane = null
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
    if (kind === 'secondMoment' && !this.#moments) return Promise.resolve(new Float32Array(length))
    return Promise.resolve(this.#shared[kind].slice(offset, offset + length))
  }

  write(kind: VectorKind, offset: number, values: Float32Array): void {
    if (kind === 'secondMoment' && !this.#moments) return
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

function joined(first: Floats, second: Floats): Floats {
  const both = new Float32Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

function refuse(): never {
  throw new Error('Replicas with local steps merge what their lanes changed, not gradients: see LaneWork.')
}
