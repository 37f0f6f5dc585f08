/** Owns what a node's GPU does with shards: read, sum, update, compare, take and give them. One call at a time. */
import type { Shard } from '../protocol/routing.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import { parametersAgree } from './agreement.ts'
import { bytesOf, floatsOf } from './frames.ts'
import type { StageModel, UpdateParameters } from './model.ts'

type Bytes = Uint8Array<ArrayBufferLike>

/** Parameters of a shard that another node made. */
export interface MergedShard {
  readonly shard: number
  readonly step: number
  readonly tensor: Bytes
  /** Whether they are to be held against this node's own update. */
  readonly compare: boolean
  /** Whether the tensor is the lanes' mean change, encoded, from which those of the step before are to be updated. */
  readonly mean: boolean
}

/** What merges ask of a node, however replicas come by what they merge. */
export interface MergeWork {
  /** This node's share of the shard. */
  readGradient(shard: number): Promise<Bytes>
  /** Undoes a sum; `tensor`: what this node's own share was. */
  restoreGradient(shard: number, tensor: Bytes | null): void
  /** Resolves to the sum's squared norm; without contributions this node's own share is the sum. */
  reduce(shard: number, step: number, contributions: readonly Bytes[]): Promise<number>
  /** Resolves to what the stage's other nodes take of it, where `shared`. */
  update(shard: number, step: UpdateParameters, shared: boolean): Promise<Bytes>
  /** Resolves to whether they agree with this node's own update; true where they are not compared. */
  writeParameters(merged: MergedShard): Promise<boolean>
  /** `tensor`: first moments, then second ones, f32. */
  writeMoments(shard: number, tensor: Bytes): void
  /** What the two kinds of writes take. */
  read(kind: 'parameterShard' | 'momentShard', shard: number): Promise<Bytes>
}

export class ShardWork implements MergeWork {
  readonly #model: StageModel
  readonly #shards: readonly Shard[]
  readonly #config: RunConfig
  /** This node's last update of each shard, for the comparison with the primary's. */
  readonly #updates = new Map<number, { step: number; lr: number; values: Float32Array<ArrayBuffer> | null }>()

  constructor(model: StageModel, shards: readonly Shard[], config: RunConfig) {
    this.#model = model
    this.#shards = shards
    this.#config = config
  }

  async readGradient(shard: number): Promise<Bytes> {
    const range = this.#range(shard)
    return range.length > 0 ? bytesOf(await this.#model.readGradient(range)) : new Uint8Array(0)
  }

  restoreGradient(shard: number, tensor: Bytes | null): void {
    this.#model.restoreGradient(this.#range(shard), tensor && floatsOf(tensor))
  }

  /** Resolves to the sum's squared norm. */
  reduce(shard: number, _step: number, contributions: readonly Bytes[]): Promise<number> {
    return this.#model.reduceGradient(this.#range(shard), contributions.map(floatsOf))
  }

  /** Resolves to the new parameters, which are read only where `shared`: some other node takes them. */
  async update(shard: number, step: UpdateParameters, shared: boolean): Promise<Bytes> {
    const range = this.#range(shard)
    await this.#model.update(range, step)
    const values = shared && range.length > 0 ? await this.#model.read('parameters', range) : null
    this.#updates.set(shard, { step: step.step, lr: step.lr, values })
    return values ? bytesOf(values) : new Uint8Array(0)
  }

  /** With `compare`: resolves to whether this node's own update gave the same, to within rounding. */
  async writeParameters({ shard, step, tensor, compare }: MergedShard): Promise<boolean> {
    const range = this.#range(shard)
    if (range.length === 0) return true
    const values = floatsOf(tensor)
    let agrees = true
    if (compare) {
      const update = this.#updates.get(shard)
      const known = update?.step === step ? update : null
      const own = known?.values ?? (await this.#model.read('parameters', range))
      agrees = parametersAgree(own, values, known?.lr ?? this.#config.optimizer.lr, this.#config)
    }
    this.#updates.delete(shard)
    this.#model.write('parameters', range.offset, values)
    return agrees
  }

  /** `tensor`: first moments, then second ones. */
  writeMoments(shard: number, tensor: Bytes): void {
    const { offset, length } = this.#range(shard)
    if (length === 0) return
    const values = floatsOf(tensor)
    this.#model.write('firstMoment', offset, values.subarray(0, length))
    this.#model.write('secondMoment', offset, values.subarray(length))
  }

  async read(kind: 'parameterShard' | 'momentShard', shard: number): Promise<Bytes> {
    const range = this.#range(shard)
    if (range.length === 0) return new Uint8Array(0)
    if (kind === 'parameterShard') return bytesOf(await this.#model.read('parameters', range))
    const both = new Float32Array(2 * range.length)
    both.set(await this.#model.read('firstMoment', range))
    both.set(await this.#model.read('secondMoment', range), range.length)
    return bytesOf(both)
  }

  #range(shard: number): Shard {
    const range = this.#shards[shard]
    if (!range) throw new RangeError(`No shard ${shard} among ${this.#shards.length}.`)
    return range
  }
}
