/** Owns what a simulated node has on its GPU for one assignment, and the books that say what its sums are made of. */
import type { Assignment, Chunk, ClientMessage } from '../../src/protocol/control.ts'
import type { Digest } from '../../src/protocol/receipt.ts'
import { laneCount } from '../../src/protocol/lanes.ts'
import { shardCount } from '../../src/protocol/routing.ts'
import type { Loss, StageAction, StageEvent } from '../../src/stage/machineTypes.ts'
import * as model from './integerModel.ts'
import { sketchRow, sketchShare, told } from './integerEvidence.ts'
import { digestOf, sumDigest } from './integerReceipts.ts'
import { SimLanes } from './simLanes.ts'

/** What one node put into a sum. */
export interface Share {
  readonly node: string
  readonly microbatches: readonly number[]
  /** It is not what its node signed for. */
  readonly forged?: true
}

/** `shares` goes with gradients of parameters alone, `digest` with them and with boundary tensors. */
export interface Tensor {
  readonly values: readonly number[]
  readonly shares: readonly Share[] | null
  readonly digest?: Digest
}

export type Action = StageAction<Tensor>
export type WorkAction = Exclude<
  Action,
  { type: 'prepare' | 'keep' | 'discard' | 'report' | 'send' | 'want' | 'sign' | 'tally' | 'exhibit' }
>

/** What a gradient range holds: a sum that was put there, and the own microbatches from `from` on. */
interface Holding {
  shares: readonly Share[]
  from: number
}

/** A false owner adds one to what it sums, or to what it updates. */
export type Falsehood = 'sum' | 'update'

/**
 * What a liar does in every step: it sends false boundary tensors, a false share that it signs for, or one that it does not;
 * it says what is not so of another's claim, or of what it summed; it gives jurors other inputs than the claimant had.
 */
export const LIES = ['boundary', 'share', 'equivocation', 'testimony', 'tally', 'inputs'] as const
export type Lie = (typeof LIES)[number]

/** Far from what is true, as far as a tolerance can tell. */
export const falsified = (values: readonly number[]): number[] => values.map((x) => (2 * x + 1000) % model.PRIME)

export interface Blobs {
  put(values: readonly number[]): string
  get(hash: string): readonly number[]
}

export class Tenure {
  assignment: Assignment
  readonly vectors: model.StageVectors
  readonly ranges: readonly model.Range[]
  /** By shard: the step after which the bytes stand here. */
  readonly parameterSteps: (number | null)[]
  readonly momentSteps: (number | null)[]
  /** By shard: what the last update was made of. */
  readonly updates: ({ step: number; shares: readonly Share[]; sent: readonly number[] } | null)[]
  falsehood: Falsehood | null = null
  lie: Lie | null = null
  gpuFreeAt = 0
  readonly #node: string
  readonly #salt: number
  readonly #blobs: Blobs
  readonly #gradient: number[]
  /** By shard: microbatches that went into the gradient since the step began. */
  readonly #summed: number[][]
  readonly #holdings: Holding[]
  readonly #lanes: SimLanes
  readonly #inputs = new Map<number, { values: readonly number[]; digest: Digest | null }>()

  /** @param salt tells this tenure's kernels, and so its rounding, from others' */
  constructor(node: string, assignment: Assignment, blobs: Blobs, salt: number) {
    const { stage, config } = assignment
    this.assignment = assignment
    this.#node = node
    this.#salt = salt
    this.#lanes = new SimLanes(assignment)
    this.#blobs = blobs
    this.vectors = model.emptyVectors(stage)
    this.ranges = model.rangesOf(stage, shardCount(config))
    this.parameterSteps = this.ranges.map(() => null)
    this.momentSteps = this.ranges.map(() => null)
    this.updates = this.ranges.map(() => null)
    this.#gradient = new Array<number>(model.stageLength(stage)).fill(0)
    this.#holdings = this.ranges.map(() => ({ shares: [], from: 0 }))
    this.#summed = this.ranges.map(() => [])
  }

  /** Fills the vectors from the assignment's checkpoint; returns the step after which they stand. */
  load(): number {
    const { step, stage } = this.assignment.checkpoint
    for (const { kind, offset, hash } of stage.chunks)
      this.#blobs.get(hash).forEach((value, i) => (this.vectors[kind][offset + i] = value))
    this.parameterSteps.fill(step)
    this.momentSteps.fill(step)
    return step
  }

  work(action: WorkAction, generation: number, busyMs: number): StageEvent<Tensor> | null {
    const { vectors, ranges } = this
    switch (action.type) {
      case 'beginStep':
        this.#gradient.fill(0)
        for (const summed of this.#summed) summed.length = 0
        for (const holding of this.#holdings) Object.assign(holding, { shares: [], from: 0 })
        this.#inputs.clear()
        this.#lanes.clear()
        return null
      case 'measure':
        this.work({ type: 'beginStep', step: action.step }, generation, 0)
        return { type: 'measured', generation, expectedMs: busyMs / 2 }
      case 'enterLane':
        this.#lanes.enter(action.lane, vectors.parameters)
        return null
      case 'innerUpdate': {
        const { step, lane, inner } = action
        const { shards, microbatches, change } = this.#lanes.update(step, lane, vectors.parameters, ranges)
        for (const shard of shards) {
          this.#summed[shard]!.push(...microbatches)
          model.addInto(this.#gradient, change, ranges[shard])
        }
        return { type: 'innerUpdated', generation, step, lane, inner }
      }
      case 'compute': {
        const { op, microbatch, step } = action
        const { output, loss } = this.#compute(action)
        return {
          type: 'computed',
          generation,
          step,
          op,
          microbatch,
          output,
          digest: output?.digest ?? null,
          loss,
          busyMs,
        }
      }
      case 'recompute': {
        const { audit, op, microbatch, step, digest, claimed } = action
        const genuine = digest === claimed
        const { output, loss } = genuine ? this.#compute(action) : { output: null, loss: null }
        return { type: 'recomputed', generation, step, audit, op, microbatch, output, loss, genuine }
      }
      case 'testify': {
        const { audit, step, shard, seed } = action
        const said = (values: readonly number[]) => (this.lie === 'testimony' ? falsified(values) : values)
        const row = (tensor: Tensor | null) => told(tensor && sketchRow(said(tensor.values), seed))
        const evidence = {
          activation: row(action.activation),
          input: action.activation ? row(action.input) : undefined,
          inputGradient: row(action.inputGradient),
          parameterGradient: told(sketchShare(said(this.#gradientOf(shard)), seed)),
          loss: this.#isLast() ? told(Float32Array.from(action.losses)) : undefined,
        }
        const message = { type: 'recomputed', generation, step, audit, evidence } as const
        return { type: 'testified', generation, message }
      }
      case 'readGradient': {
        const { step, version, shard } = action
        const values = this.lie === 'share' ? falsified(this.#gradientOf(shard)) : this.#gradientOf(shard)
        const digest = digestOf(values, this.#salt, [])
        const tensor = { values, shares: this.#sharesOf(shard), digest }
        return { type: 'gradientRead', generation, step, version, shard, tensor, digest }
      }
      case 'restoreGradient': {
        const { shard, tensor } = action
        this.#setGradient(shard, tensor?.values ?? null, tensor?.shares ?? [])
        return null
      }
      case 'reduce': {
        const { step, attempt, shard, contributions, digests } = action
        if (contributions.length > 0) {
          const sum = new Array<number>(ranges[shard]!.length).fill(0)
          for (const { values } of contributions) model.addInto(sum, values)
          if (this.falsehood === 'sum') falsify(sum)
          const shares = contributions.flatMap((contribution) => contribution.shares ?? [])
          this.#setGradient(shard, sum, shares)
        }
        const squaredNorm = model.squaredNorm(this.#gradient, ranges[shard]!)
        const summed = (this.lie === 'tally' ? digests.toReversed() : digests) as Digest[]
        const digest = digests.length > 0 ? sumDigest(summed) : null
        return { type: 'reduced', generation, step, attempt, shard, squaredNorm, digest }
      }
      case 'mean': {
        const { step, attempt, shard } = action
        const values = this.#gradientOf(shard)
        if (this.falsehood === 'update') falsify(values)
        return { type: 'meanMade', generation, step, attempt, shard, tensor: { values, shares: null } }
      }
      case 'update': {
        const { shard, step } = action
        const mean = this.#gradientOf(shard)
        const shares = this.#sharesOf(shard)
        model.update(vectors, this.#gradient, ranges[shard]!, action)
        const values = this.#slice('parameters', shard)
        if (this.falsehood === 'update') {
          falsify(values)
          falsify(mean)
        }
        this.#write('parameters', shard, values)
        this.parameterSteps[shard] = this.momentSteps[shard] = step
        const sent = this.#isLocal ? mean : values
        this.updates[shard] = { step, shares, sent }
        return { type: 'updated', generation, step, shard, tensor: { values: sent, shares: null } }
      }
      case 'writeParameters': {
        const { shard, step, tensor, compare, mean } = action
        const own = mean ? this.updates[shard]?.sent : this.#parametersOf(shard)
        const agrees = !compare || model.sameFrom(own ?? [], 0, tensor.values)
        if (!mean) this.#writeAll(this.#isLocal ? model.VECTORS : ['parameters'], shard, tensor.values)
        else if (!compare) this.#takeMean(shard, step, tensor.values)
        if (this.#isLocal) this.momentSteps[shard] = step
        this.parameterSteps[shard] = step
        return { type: 'parametersWritten', generation, step, shard, agrees }
      }
      case 'writeMoments': {
        const { shard, step, tensor } = action
        const { length } = ranges[shard]!
        this.#write('firstMoment', shard, tensor.values.slice(0, length))
        this.#write('secondMoment', shard, tensor.values.slice(length))
        this.momentSteps[shard] = step
        return { type: 'momentsWritten', generation, step, shard }
      }
      case 'readShard': {
        const { kind, step, shard, to } = action
        const values =
          kind === 'parameterShard'
            ? this.#parametersOf(shard)
            : [...this.#slice('firstMoment', shard), ...this.#slice('secondMoment', shard)]
        return { type: 'shardRead', generation, kind, step, shard, to, tensor: { values, shares: null } }
      }
      case 'save':
        return { type: 'saved', generation, message: this.#save(action, generation) }
    }
  }

  #save({ step, shard }: { step: number; shard: number }, generation: number) {
    const { offset, length } = this.ranges[shard]!
    const chunks: Chunk[] = []
    if (length > 0)
      for (const kind of model.VECTORS)
        chunks.push({ kind, offset, length, hash: this.#blobs.put(this.#slice(kind, shard)) })
    return { type: 'shardSaved', generation, step, shard, chunks } satisfies ClientMessage
  }

  #isLast(): boolean {
    return this.assignment.stage === this.assignment.config.stages - 1
  }

  #compute({
    op,
    microbatch,
    step,
    input: taken,
  }: Pick<Extract<Action, { type: 'compute' }>, 'op' | 'microbatch' | 'step' | 'input'>): {
    output: Tensor | null
    loss: Loss | null
  } {
    const { stage, config } = this.assignment
    const mode = op === 'evaluate' || op === 'forwardOnly' ? 'evaluate' : 'train'
    const lane = config.sync === 'local' && mode === 'train' ? this.#lanes.of(microbatch) : null
    const { parameters } = lane ?? this.vectors
    const gradient = lane?.gradient ?? this.#gradient
    const count = () => {
      if (lane) lane.summed++
      else for (const summed of this.#summed) summed.push(microbatch)
    }
    const done = (
      made: readonly number[] | null,
      from: readonly (Digest | null)[],
      loss: Loss | null = null,
    ): { output: Tensor | null; loss: Loss | null } => {
      const values = made && this.lie === 'boundary' ? falsified(made) : made
      return { output: values && { values, shares: null, digest: digestOf(values, this.#salt, from) }, loss }
    }
    if (op === 'backward') {
      count()
      const input = this.#inputs.get(microbatch)
      if (!input) throw new Error(`microbatch ${microbatch} goes backward without having gone forward`)
      this.#inputs.delete(microbatch)
      const back = model.backward(parameters, input.values, taken!.values, gradient)
      return done(stage > 0 ? back : null, [input.digest, taken!.digest ?? null])
    }
    const input = stage === 0 ? model.inputOf(config.seed, mode, step, microbatch) : taken!.values
    const output = model.forward(parameters, input)
    const digest = taken?.digest ?? null
    if (op === 'forward') this.#inputs.set(microbatch, { values: input, digest })
    if (op === 'forward' || op === 'forwardOnly') return done(output, [digest])
    const { sum, gradient: outputGradient } = model.lossOf(output, config.seed, mode, step, microbatch)
    if (op === 'evaluate') return done(null, [], { sum, tokens: model.EVAL_TOKENS })
    count()
    const inputGradient = model.backward(parameters, input, outputGradient, gradient)
    return done(stage > 0 ? inputGradient : null, [digest], { sum, tokens: model.TRAIN_TOKENS })
  }

  #sharesOf(shard: number): readonly Share[] {
    const { shares, from } = this.#holdings[shard]!
    const own = this.#summed[shard]!.slice(from)
    return own.length > 0 ? [...shares, { node: this.#node, microbatches: own }] : shares
  }

  #gradientOf(shard: number): number[] {
    const { offset, length } = this.ranges[shard]!
    return this.#gradient.slice(offset, offset + length)
  }

  #setGradient(shard: number, values: readonly number[] | null, shares: readonly Share[]): void {
    const { offset, length } = this.ranges[shard]!
    for (let i = 0; i < length; i++) this.#gradient[offset + i] = values === null ? 0 : values[i]!
    Object.assign(this.#holdings[shard]!, { shares, from: this.#summed[shard]!.length })
  }

  get #isLocal(): boolean {
    return this.assignment.config.sync === 'local'
  }

  /** What travels as a shard's parameters: with local steps everybody holds the outer optimizer's vectors. */
  #parametersOf(shard: number): number[] {
    const kinds = this.#isLocal ? model.VECTORS : (['parameters'] as const)
    return kinds.flatMap((kind) => this.#slice(kind, shard))
  }

  #writeAll(kinds: readonly (keyof model.StageVectors)[], shard: number, values: readonly number[]): void {
    const { length } = this.ranges[shard]!
    if (values.length !== kinds.length * length) throw new Error(`shard ${shard}: ${values.length} elements`)
    kinds.forEach((kind, i) => this.#write(kind, shard, values.slice(i * length, (i + 1) * length)))
  }

  /** The outer step, from the sum that an owner sent in the mean's place. */
  #takeMean(shard: number, step: number, values: readonly number[]): void {
    if (this.parameterSteps[shard] !== step - 1)
      throw new Error(`shard ${shard} of step ${this.parameterSteps[shard]} takes the mean of step ${step}`)
    const { config } = this.assignment
    const { offset } = this.ranges[shard]!
    const gradient = new Array<number>(model.stageLength(this.assignment.stage)).fill(0)
    values.forEach((value, i) => (gradient[offset + i] = value))
    const { lr } = config.local.outer
    model.update(this.vectors, gradient, this.ranges[shard]!, { lr, scale: 1 / laneCount(config), step })
  }

  #slice(kind: keyof model.StageVectors, shard: number): number[] {
    const { offset, length } = this.ranges[shard]!
    return this.vectors[kind].slice(offset, offset + length)
  }

  #write(kind: keyof model.StageVectors, shard: number, values: readonly number[]): void {
    const { offset, length } = this.ranges[shard]!
    if (values.length !== length) throw new Error(`shard ${shard}: ${values.length} elements in place of ${length}`)
    for (let i = 0; i < length; i++) this.vectors[kind][offset + i] = values[i]!
  }
}

function falsify(values: number[]): void {
  if (values.length > 0) values[0] = (values[0]! + 1) % model.PRIME
}
