/** Owns a simulated node: the stage machine, an executor that works in integers, and a GPU that takes its (virtual) time. */
import type { Assignment, ClientMessage, Chunk, NodePhase } from '../../src/protocol/control.ts'
import { partnersOf, shardsOf, type Shard } from '../../src/protocol/routing.ts'
import { advance, initialStageState } from '../../src/stage/machine.ts'
import type { StageAction, StageEvent, TensorAddress } from '../../src/stage/machineTypes.ts'
import * as model from './integerModel.ts'
import type { Clock, Random } from './clock.ts'

type Tensor = number[]
type Action = StageAction<Tensor>

/** What a node needs of the world around it. */
export interface Surroundings {
  readonly clock: Clock
  readonly random: Random
  report(node: SimNode, message: ClientMessage): void
  frame(from: SimNode, to: string, address: TensorAddress, tensor: Tensor): void
  /** Whether a link between the two can be opened. */
  reachable(a: string, b: string): boolean
  put(values: readonly number[]): string
  get(hash: string): readonly number[]
}

/** One assignment's belongings. */
interface Tenure {
  readonly assignment: Assignment
  readonly vectors: model.StageVectors
  readonly shards: Shard[]
  gradient: number[]
  /** Microbatches in `gradient`. */
  summed: number[]
  readonly inputs: Map<number, Tensor>
  gpuFreeAt: number
}

/** From the first dial until every neighbour has to be connected. */
const CONNECT_DEADLINE_MS = 45_000
const LINK_GRACE_MS = 4000

export class SimNode {
  readonly id: string
  readonly deviceId: string
  /** How many times longer than others this node takes. */
  readonly slowness: number
  readonly machine = initialStageState<Tensor>()
  alive = true
  paused = false
  /** Its GPU never answers again, while its heart goes on beating. */
  hung = false
  tenure: Tenure | null = null
  phase: NodePhase = 'standby'
  progress: number | null = null
  readonly #world: Surroundings

  constructor(world: Surroundings, id: string, deviceId: string, slowness: number) {
    this.#world = world
    this.id = id
    this.deviceId = deviceId
    this.slowness = slowness
  }

  handle(event: StageEvent<Tensor>): void {
    if (!this.alive) return
    for (const action of advance(this.machine, event)) this.#perform(action)
  }

  /** A partner's link broke; like the real executor it gives the server time to hear of it first. */
  linkLost(partner: string): void {
    const { tenure } = this
    if (!tenure) return
    const { members, stage, replica, generation } = tenure.assignment
    if (!partnersOf(members, stage, replica).includes(partner)) return
    this.#after(tenure, LINK_GRACE_MS, () => this.fail(generation, 'net.link_lost'))
  }

  fail(generation: number, code: string): void {
    const error = { code, message: 'A failure of the simulation.', remedy: 'None.' }
    this.handle({ type: 'failed', generation, message: { type: 'failed', generation, error } })
  }

  pause(): void {
    this.paused = true
    this.phase = 'paused'
    this.#world.report(this, { type: 'pause' })
    this.handle({ type: 'server', message: { type: 'standby', reason: '' } })
  }

  resume(): void {
    this.paused = false
    this.phase = 'standby'
    this.#world.report(this, { type: 'resume' })
  }

  /** Only if this assignment still stands when the time has come. */
  #after(tenure: Tenure, delay: number, work: () => void): void {
    this.#world.clock.after(delay, () => {
      if (this.alive && this.tenure === tenure && !this.hung) work()
    })
  }

  #perform(action: Action): void {
    switch (action.type) {
      case 'prepare':
        return this.#prepare(action.assignment)
      case 'discard':
        this.tenure = null
        if (!this.paused) this.phase = 'standby'
        return
      case 'report':
        return this.#world.report(this, action.message)
      case 'send':
        return this.#world.frame(this, action.to, action.address, action.tensor)
      default: {
        const tenure = this.tenure!
        const { clock, random } = this.#world
        const duration = random.between(5, 40) * this.slowness
        tenure.gpuFreeAt = Math.max(clock.now, tenure.gpuFreeAt) + duration
        this.#after(tenure, tenure.gpuFreeAt - clock.now, () => {
          const event = this.#work(tenure, action)
          if (event) this.handle(event)
        })
      }
    }
  }

  #prepare(assignment: Assignment): void {
    const { clock, random } = this.#world
    const { stage, replica, members, generation, checkpoint } = assignment
    const vectors = model.initialVectors(0, stage)
    const { length } = vectors.parameters
    for (const values of Object.values(vectors) as number[][]) values.fill(0)
    for (const { kind, offset, hash } of checkpoint.stage.chunks)
      this.#world.get(hash).forEach((value, i) => (vectors[kind][offset + i] = value))
    const tenure: Tenure = {
      assignment,
      vectors,
      shards: shardsOf(length, members[stage]!.length),
      gradient: new Array<number>(length).fill(0),
      summed: [],
      inputs: new Map(),
      gpuFreeAt: clock.now,
    }
    this.tenure = tenure
    this.phase = 'loading'
    this.#after(tenure, random.between(200, 3000) * this.slowness, () => {
      this.phase = 'connecting'
      const partners = partnersOf(members, stage, replica)
      if (partners.every((id) => this.#world.reachable(this.id, id))) {
        this.#after(tenure, random.between(100, 2000), () => {
          this.phase = 'ready'
          this.handle({ type: 'prepared', generation })
        })
      } else this.#after(tenure, CONNECT_DEADLINE_MS, () => this.fail(generation, 'net.no_route'))
    })
  }

  #work(
    tenure: Tenure,
    action: Exclude<Action, { type: 'prepare' | 'discard' | 'report' | 'send' }>,
  ): StageEvent<Tensor> | null {
    const { generation, stage, replica } = tenure.assignment
    const { vectors, shards } = tenure
    switch (action.type) {
      case 'beginStep':
        tenure.gradient.fill(0)
        tenure.summed = []
        tenure.inputs.clear()
        this.phase = 'training'
        return null
      case 'compute':
        return this.#compute(tenure, action)
      case 'readGradient': {
        const { shard } = action
        const { offset, length } = shards[shard]!
        return { type: 'gradientRead', generation, shard, tensor: tenure.gradient.slice(offset, offset + length) }
      }
      case 'reduce': {
        const { offset, length } = shards[action.shard]!
        if (action.contributions.length > 0) {
          const sum = new Array<number>(length).fill(0)
          for (const contribution of action.contributions) model.addInto(sum, contribution)
          tenure.gradient.splice(offset, length, ...sum)
        }
        const reduced = tenure.gradient.slice(offset, offset + length)
        return { type: 'reduced', generation, squaredNorm: reduced.reduce((total, g) => total + g * g, 0) }
      }
      case 'update': {
        const shard = shards[action.shard]!
        model.update(vectors, tenure.gradient, shard, action)
        const tensor = vectors.parameters.slice(shard.offset, shard.offset + shard.length)
        return { type: 'updated', generation, tensor }
      }
      case 'writeParameters': {
        const { offset, length } = shards[action.shard]!
        if (action.tensor.length !== length) throw new Error(`shard ${action.shard} of stage ${stage}: wrong length`)
        vectors.parameters.splice(offset, length, ...action.tensor)
        return { type: 'parametersWritten', generation, shard: action.shard }
      }
      case 'save': {
        const { offset, length } = shards[replica]!
        const chunks: Chunk[] = (['parameters', 'firstMoment', 'secondMoment'] as const).map((kind) => ({
          kind,
          offset,
          length,
          hash: this.#world.put(vectors[kind].slice(offset, offset + length)),
        }))
        const parametersHash = model.hashOf(vectors.parameters)
        const { step } = action
        const message = { type: 'shardSaved', generation, step, shard: replica, chunks, parametersHash } as const
        return { type: 'saved', generation, message }
      }
    }
  }

  #compute(tenure: Tenure, action: Extract<Action, { type: 'compute' }>): StageEvent<Tensor> {
    const { op, microbatch: m, step } = action
    const { generation, stage, config } = tenure.assignment
    const { parameters } = tenure.vectors
    const done = (output: Tensor | null, loss: { sum: number; tokens: number } | null = null) =>
      ({ type: 'computed', generation, op, microbatch: m, output, loss }) as const
    if (op === 'backward') {
      tenure.summed.push(m)
      const gradient = model.backward(parameters, tenure.inputs.get(m)!, action.input!, tenure.gradient)
      return done(stage > 0 ? gradient : null)
    }
    const mode = op === 'evaluate' || op === 'forwardOnly' ? 'evaluate' : 'train'
    const input = stage === 0 ? model.inputOf(config.seed, mode, step, m) : action.input!
    if (mode === 'train') tenure.inputs.set(m, input)
    const output = model.forward(parameters, input)
    if (op === 'forward' || op === 'forwardOnly') return done(output)
    const { sum, gradient } = model.lossOf(output, config.seed, mode, step, m)
    if (op === 'evaluate') return done(null, { sum, tokens: model.EVAL_TOKENS })
    tenure.summed.push(m)
    const inputGradient = model.backward(parameters, input, gradient, tenure.gradient)
    return done(stage > 0 ? inputGradient : null, { sum, tokens: model.TRAIN_TOKENS })
  }
}
