/** Proves which moments lanes share, how they are kept, and that few bits leave AdamW something to divide by. */
import { expect, it } from 'vitest'
import { counterDither, decodeGroups, encodeGroups, type Kept } from '../../../../src/codec/groups.ts'
import { LaneMoments, mergedLengths } from '../../../../src/model/local/laneMoments.ts'
import { runLayouts, type StageLayout } from '../../../../src/model/layout.ts'
import { takesMuon } from '../../../../src/model/optimizerShards.ts'
import type { Shard } from '../../../../src/protocol/routing.ts'
import { runConfigSchema } from '../../../../src/protocol/runConfig.ts'
import { noise } from '../../../kernels/gpu.ts'

const model = { vocabSize: 32, dModel: 32, layers: 1, heads: 1, kvHeads: 1, ffn: 32, blockSize: 8 }
const config = runConfigSchema.parse({ model, stages: 1, optimizer: { kind: 'muon' } })
const [layout] = runLayouts(config) as [StageLayout]
const { length } = layout
const firstMoment = noise(length, 1)
const secondMoment = noise(length, 2).map((x) => x * x)
const moments = new LaneMoments(layout, config.optimizer)
/** They begin and end within tensors. */
const shards = [
  { offset: 0, length: 40 },
  { offset: 40, length: length - 72 },
  { offset: length - 32, length: 32 },
]

/** Both moments of one shard. */
function ofShard({ offset, length }: Shard, second = secondMoment) {
  const own = (vector: Float32Array<ArrayBuffer>) => vector.slice(offset, offset + length)
  return { firstMoment: own(firstMoment), secondMoment: own(second) }
}

/** A tensor's padding goes with it. */
function eachPlace(visit: (place: number, ofMuon: boolean) => void): void {
  layout.tensors.forEach((tensor, t) => {
    const ofMuon = takesMuon(config.optimizer, tensor)
    const end = layout.tensors[t + 1]?.offset ?? length
    for (let i = tensor.offset; i < end; i++) visit(i, ofMuon)
  })
}

it('shares Muon’s momentum as it is, and both moments of the rest to a bf16’s precision', () => {
  const kept = new Float32Array(length)
  for (const shard of shards) {
    const merging = moments.merging(ofShard(shard), shard)
    kept.set(moments.kept(merging, shard), shard.offset)
  }
  const back = moments.beginning(kept)
  const precision = 2 ** -8
  eachPlace((i, ofMuon) => {
    const [first, second] = [back.firstMoment[i]!, back.secondMoment[i]!]
    if (ofMuon) return expect([first, second]).toEqual([firstMoment[i], 0])
    expect(Math.abs(first - firstMoment[i]!)).toBeLessThanOrEqual(precision * Math.abs(firstMoment[i]!))
    expect(Math.abs(second - secondMoment[i]!)).toBeLessThanOrEqual(2 * precision * secondMoment[i]!)
  })
})

it('merges a number more for each place of AdamW’s, and none of moments that are not shared', () => {
  let ofAdamw = 0
  eachPlace((_, ofMuon) => (ofAdamw += ofMuon ? 0 : 1))
  const total = (of: typeof config) => mergedLengths(of, layout, shards).reduce((sum, count) => sum + count, 0)
  expect(total(config)).toBe(2 * length + ofAdamw)
  expect(total(runConfigSchema.parse({ ...config, local: { moments: 'zero' } }))).toBe(length)
  expect(total(runConfigSchema.parse({ ...config, optimizer: { kind: 'adamw' } }))).toBe(3 * length)
})

it.each(['int8', 'int4'] as const)('leaves no root of AdamW zero in %s, and touches nothing else', (codec) => {
  const shard = shards[1]!
  // Of a group one root is a million times the others.
  const second = secondMoment.map((value, i) => (i % 32 === 0 ? 1e3 : 1e-9 * value))
  const merging = moments.merging(ofShard(shard, second), shard)
  const values = new Float32Array(shard.length + merging.length)
  values.set(firstMoment.subarray(0, shard.length))
  values.set(merging, shard.length)
  const dither = counterDither(7)
  const sent = (kept: Kept | null) => encodeGroups(codec, values, dither, kept)
  const read = (bytes: Uint8Array) => decodeGroups(codec, bytes, values.length, dither)
  const [got, without] = [read(sent(moments.roots(shard))), read(sent(null))]
  // The levels that were sent, with no dither taken off.
  const levels = decodeGroups(codec, sent(null), values.length, () => 0.5)
  const isRoot = new Uint8Array(values.length)
  eachPlace((i, ofMuon) => {
    const place = i - shard.offset
    if (!ofMuon && place >= 0 && place < shard.length) isRoot[shard.length + place] = 1
  })
  let zeros = 0
  got.forEach((value, i) => {
    if (isRoot[i] === 0 || levels[i]! > 0) return expect(value).toBe(without[i])
    zeros++
    expect(value).toBeGreaterThan(0)
  })
  expect(zeros).toBeGreaterThan(100)
})
