/** Owns what a node does with lanes and with shards where replicas merge after local steps. One call at a time. */
import { decodeGroups, encodeGroups } from '../codec/groups.ts'
import { laneDither, type MergedAt, meanDither } from '../codec/mergeDither.ts'
import { innerSteps } from '../protocol/lanes.ts'
import type { Shard } from '../protocol/routing.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { LocalStage } from '../model/local/localStage.ts'
import { bytesOf, floatsOf, type FrameShape } from './frames.ts'
import { sumShares, writeShare } from './laneShares.ts'
import type { MergeWork, MergedShard } from './shardWork.ts'
import { type VectorKind, sharedVectors } from './model.ts'

type Bytes = Uint8Array<ArrayBufferLike>

export class LaneWork implements MergeWork {
  readonly #stage: LocalStage
  readonly #shards: readonly Shard[]
  readonly #config: RunConfig
  /** Numbers that merge of each shard. */
  readonly #merged: readonly number[]
  /** By shard and lane of the step: what the lane changed, behind it its moments where they are shared, encoded. */
  #changes: { step: number; of: Map<number, Uint8Array>[] } = { step: 0, of: [] }
  /** By shard: the same of all contributors' lanes, summed. */
  readonly #sums = new Map<number, Float32Array>()
  /** By shard: this node's own last update. */
  readonly #updates = new Map<number, { step: number; bytes: Bytes }>()

  constructor(stage: LocalStage, { config, shards, merged }: FrameShape) {
    this.#stage = stage
    this.#shards = shards
    this.#config = config
    this.#merged = merged
  }

  enterLane(lane: number): Promise<void> {
    return this.#stage.enterLane(lane)
  }

  /** The update that ends inner step `inner` of the lane on the device; after the last, what the lane changed is encoded. */
  async innerUpdate(step: number, lane: number, inner: number): Promise<void> {
    await this.#stage.innerUpdate(step, inner)
    const { mergeCodec } = this.#config.local
    if (inner < innerSteps(this.#config) - 1) return
    if (this.#changes.step !== step) this.#changes = { step, of: this.#shards.map(() => new Map()) }
    const merging = await this.#stage.leaveLane(this.#shards)
    merging.forEach((part, shard) => {
      const dither = laneDither(this.#at(step, shard), lane)
      const kept = this.#stage.keptRoots(this.#shards[shard]!)
      this.#changes.of[shard]!.set(lane, encodeGroups(mergeCodec, part, dither, kept))
    })
  }

  /** The lanes that this node has finished. */
  readGradient(shard: number): Promise<Bytes> {
    return Promise.resolve(writeShare(this.#changes.of[shard] ?? new Map()))
  }

  /** Sums lie apart from shares: nothing was overwritten. */
  restoreGradient(): void {}

  /** Resolves to the squared norm of what the lanes changed. */
  async reduce(shard: number, step: number, contributions: readonly Bytes[]): Promise<number> {
    const { length } = this.#range(shard)
    const shares = contributions.length > 0 ? contributions : [await this.readGradient(shard)]
    const { mergeCodec } = this.#config.local
    const at = this.#at(step, shard)
    const sum = sumShares(mergeCodec, shares, this.#merged[shard]!, (lane) => laneDither(at, lane))
    this.#sums.set(shard, sum)
    return sum.subarray(0, length).reduce((total, value) => total + value * value, 0)
  }

  /** Resolves to the lanes' mean, from which all others take the same step. */
  update(shard: number, { step, scale }: { step: number; scale: number }): Promise<Bytes> {
    const sum = this.#sums.get(shard)
    if (!sum) throw new RangeError(`Shard ${shard} is not summed.`)
    const mean = sum.map((value) => value * scale)
    const kept = this.#stage.keptRoots(this.#range(shard))
    const bytes = encodeGroups(this.#config.local.mergeCodec, mean, meanDither(this.#at(step, shard)), kept)
    this.#takeMean(shard, step, bytes)
    this.#sums.delete(shard)
    this.#updates.set(shard, { step, bytes })
    return Promise.resolve(bytes)
  }

  /** With `compare`: whether this node's own update is the same, to the bit. */
  async writeParameters({ shard, step, tensor, compare, mean }: MergedShard): Promise<boolean> {
    const { offset, length } = this.#range(shard)
    const own = this.#updates.get(shard)
    this.#updates.delete(shard)
    if (compare && mean) return own?.step === step && sameBytes(own.bytes, tensor)
    if (mean) {
      this.#takeMean(shard, step, tensor)
      return true
    }
    const agrees = !compare || sameBytes(await this.read('parameterShard', shard), tensor)
    const values = floatsOf(tensor)
    this.#kinds().forEach((kind, i) => this.#stage.write(kind, offset, values.subarray(i * length, (i + 1) * length)))
    return agrees
  }

  /** Every replica takes the outer step from these same bytes, the owner too. */
  #takeMean(shard: number, step: number, bytes: Bytes): void {
    const dither = meanDither(this.#at(step, shard))
    const mean = decodeGroups(this.#config.local.mergeCodec, bytes, this.#merged[shard]!, dither)
    this.#stage.takeMean(this.#range(shard), mean)
  }

  /** All vectors come with the parameters. */
  writeMoments(): void {}

  /** The parameters, then the outer momentum, then the lanes' moments where they share them, f32. */
  async read(_kind: 'parameterShard' | 'momentShard', shard: number): Promise<Bytes> {
    const range = this.#range(shard)
    const kinds = this.#kinds()
    const all = new Float32Array(kinds.length * range.length)
    for (const [i, kind] of kinds.entries()) all.set(await this.#stage.read(kind, range), i * range.length)
    return bytesOf(all)
  }

  #kinds(): readonly VectorKind[] {
    return sharedVectors(this.#config)
  }

  #at(step: number, shard: number): MergedAt {
    return { seed: this.#config.seed, stage: this.#stage.layout.stage, step, shard }
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
