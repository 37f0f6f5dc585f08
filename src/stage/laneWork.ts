/** Owns what a node does with lanes and with shards where replicas merge after local steps. One call at a time. */
import { counterDither, encodeGroups } from '../codec/groups.ts'
import { innerSteps } from '../protocol/lanes.ts'
import type { Shard } from '../protocol/routing.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { LocalStage } from '../model/local/localStage.ts'
import { outerStep, takeChange } from '../model/local/outer.ts'
import { bytesOf, floatsOf } from './frames.ts'
import { sumShares, writeShare } from './laneShares.ts'
import type { MergeWork, MergedShard } from './shardWork.ts'

type Bytes = Uint8Array<ArrayBufferLike>

/** Apart from whatever else is drawn from the run's seed. */
const DITHER = 0x6c616e65

export class LaneWork implements MergeWork {
  readonly #stage: LocalStage
  readonly #shards: readonly Shard[]
  readonly #config: RunConfig
  /** By shard and lane of the step: what the lane changed, encoded. */
  #changes: { step: number; of: Map<number, Uint8Array>[] } = { step: 0, of: [] }
  /** By shard: the lanes' changes of all contributors, summed. */
  readonly #sums = new Map<number, Float32Array>()
  /** By shard: this node's own last update. */
  readonly #updates = new Map<number, { step: number; bytes: Bytes }>()

  constructor(stage: LocalStage, shards: readonly Shard[], config: RunConfig) {
    this.#stage = stage
    this.#shards = shards
    this.#config = config
  }

  enterLane(lane: number): Promise<void> {
    return this.#stage.enterLane(lane)
  }

  /** The update that ends inner step `inner` of the lane on the device; after the last, what the lane changed is encoded. */
  async innerUpdate(step: number, lane: number, inner: number): Promise<void> {
    await this.#stage.innerUpdate(step, inner)
    const { seed, local } = this.#config
    if (inner < innerSteps(this.#config) - 1) return
    if (this.#changes.step !== step) this.#changes = { step, of: this.#shards.map(() => new Map()) }
    const change = await this.#stage.leaveLane()
    this.#shards.forEach(({ offset, length }, shard) => {
      const dither = counterDither(DITHER, seed, this.#stage.layout.stage, step, lane, shard)
      const part = change.subarray(offset, offset + length)
      this.#changes.of[shard]!.set(lane, encodeGroups(local.mergeCodec, part, dither))
    })
  }

  /** The lanes that this node has finished. */
  readGradient(shard: number): Promise<Bytes> {
    return Promise.resolve(writeShare(this.#changes.of[shard] ?? new Map()))
  }

  /** Sums lie apart from shares: nothing was overwritten. */
  restoreGradient(): void {}

  async reduce(shard: number, contributions: readonly Bytes[]): Promise<number> {
    const { length } = this.#range(shard)
    const shares = contributions.length > 0 ? contributions : [await this.readGradient(shard)]
    const sum = sumShares(this.#config.local.mergeCodec, shares, length)
    this.#sums.set(shard, sum)
    return sum.reduce((total, value) => total + value * value, 0)
  }

  /** Resolves to the change of the parameters, which all others take. */
  update(shard: number, { step, lr, scale }: { step: number; lr: number; scale: number }): Promise<Bytes> {
    const sum = this.#sums.get(shard)
    if (!sum) throw new RangeError(`Shard ${shard} is not summed.`)
    const bytes = outerStep(this.#stage.outerVectors(this.#range(shard)), sum, { lr, scale }, this.#config.local)
    this.#sums.delete(shard)
    this.#updates.set(shard, { step, bytes })
    return Promise.resolve(bytes)
  }

  /** With `compare`: whether this node's own update is the same, to the bit. */
  writeParameters({ shard, step, tensor, compare, change }: MergedShard): Promise<boolean> {
    const range = this.#range(shard)
    const { parameters } = this.#stage.outerVectors(range)
    const own = this.#updates.get(shard)
    this.#updates.delete(shard)
    if (compare && change) return Promise.resolve(own?.step === step && sameBytes(own.bytes, tensor))
    const agrees = !compare || sameBytes(bytesOf(parameters.slice()), tensor)
    if (change) takeChange(parameters, tensor, this.#config.local)
    else this.#stage.write('parameters', range.offset, floatsOf(tensor))
    return Promise.resolve(agrees)
  }

  /** `tensor`: the outer momentum, then the residual. */
  writeMoments(shard: number, tensor: Bytes): void {
    const { offset, length } = this.#range(shard)
    const values = floatsOf(tensor)
    this.#stage.write('firstMoment', offset, values.subarray(0, length))
    this.#stage.write('secondMoment', offset, values.subarray(length))
  }

  async read(kind: 'parameterShard' | 'momentShard', shard: number): Promise<Bytes> {
    const range = this.#range(shard)
    if (kind === 'parameterShard') return bytesOf(await this.#stage.read('parameters', range))
    const both = new Float32Array(2 * range.length)
    both.set(await this.#stage.read('firstMoment', range))
    both.set(await this.#stage.read('secondMoment', range), range.length)
    return bytesOf(both)
  }

  #range(shard: number): Shard {
    const range = this.#shards[shard]
    if (!range) throw new RangeError(`No shard ${shard} among ${this.#shards.length}.`)
    return range
  }
}

function sameBytes(a: Bytes, b: Bytes): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i])
}
