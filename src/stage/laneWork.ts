/** Owns what a node does with lanes and with shards where replicas merge after local steps. One call at a time. */
import { decodeGroups, encodeGroups } from '../codec/groups.ts'
import { laneDither, type MergedAt, meanDither } from '../codec/mergeDither.ts'
import { finalUpdates, innerSteps } from '../protocol/lanes.ts'
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

  /** The update that ends inner step `inner` of the lane on the device; what the lane changed of shards final by it is encoded. */
  async innerUpdate(step: number, lane: number, inner: number): Promise<void> {
    const shards = this.#shards.length
    const final = this.#shards.map((_, shard) => finalUpdates(this.#config, { step, shard, shards }))
    const moving = joinedRanges(this.#shards.filter((_, shard) => final[shard]! > inner))
    await this.#stage.innerUpdate(step, inner, moving)
    if (this.#changes.step !== step) this.#changes = { step, of: this.#shards.map(() => new Map()) }
    for (const [shard, range] of this.#shards.entries()) {
      if (final[shard] !== inner + 1) continue
      const dither = laneDither(this.#at(step, shard), lane)
      const merging = await this.#stage.readLane(range)
      const change = encodeGroups(this.#config.local.mergeCodec, merging, dither, this.#stage.keptRoots(range))
      this.#changes.of[shard]!.set(lane, change)
    }
    if (inner === innerSteps(this.#config) - 1) this.#stage.leaveLane()
  }

  /** Of the lanes for which this node has made the shard final. */
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

  /** The lanes' mean, from which all take the same step. */
  mean(shard: number, { step, scale }: { step: number; scale: number }): Bytes {
    const sum = this.#sums.get(shard)
    if (!sum) throw new RangeError(`Shard ${shard} is not summed.`)
    const mean = sum.map((value) => value * scale)
    const kept = this.#stage.keptRoots(this.#range(shard))
    return encodeGroups(this.#config.local.mergeCodec, mean, meanDither(this.#at(step, shard)), kept)
  }

  /** Takes the step from the lanes' mean, and resolves to that. */
  update(shard: number, rates: { step: number; scale: number }): Promise<Bytes> {
    const { step } = rates
    const bytes = this.mean(shard, rates)
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

/** Neighbours as one range: an optimizer takes fewer, larger ones. Of ascending ranges, the empty ones are left out. */
function joinedRanges(ranges: readonly Shard[]): Shard[] {
  const joined: { offset: number; length: number }[] = []
  for (const { offset, length } of ranges) {
    const last = joined.at(-1)
    if (last && last.offset + last.length === offset) last.length += length
    else if (length > 0) joined.push({ offset, length })
  }
  return joined
}

function sameBytes(a: Bytes, b: Bytes): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i])
}
