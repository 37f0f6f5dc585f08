/** Proves which moments lanes share, and that few bits leave AdamW something to divide by. */
import { expect, it } from 'vitest'
import { counterDither, decodeGroups, encodeGroups, type Kept } from '../../../../src/codec/groups.ts'
import { LaneMoments } from '../../../../src/model/local/laneMoments.ts'
import { runLayouts, type StageLayout } from '../../../../src/model/layout.ts'
import { takesMuon } from '../../../../src/model/optimizerShards.ts'
import { runConfigSchema } from '../../../../src/protocol/runConfig.ts'
import { noise } from '../../../kernels/gpu.ts'

const model = { vocabSize: 32, dModel: 32, layers: 1, heads: 1, kvHeads: 1, ffn: 32, blockSize: 8 }
const [layout] = runLayouts(runConfigSchema.parse({ model, stages: 1 })) as [StageLayout]
const { length } = layout
const firstMoment = noise(length, 1)
const secondMoment = noise(length, 2).map((x) => x * x)

it('shares the momentum of Muon’s matrices, and what divides the updates of the rest', () => {
  const kind = 'muon'
  const moments = new LaneMoments(layout, { kind })
  const back = moments.unpacked(moments.packed({ firstMoment, secondMoment }))
  for (const tensor of layout.tensors) {
    const ofMuon = takesMuon({ kind }, tensor)
    for (let i = tensor.offset; i < tensor.offset + tensor.length; i++) {
      expect(back.firstMoment[i]).toBe(ofMuon ? firstMoment[i] : 0)
      expect(back.secondMoment[i]).toBeCloseTo(ofMuon ? 0 : secondMoment[i]!, 6)
    }
  }
})

it.each(['int8', 'int4'] as const)('leaves no root of AdamW zero in %s, and touches nothing else', (codec) => {
  const moments = new LaneMoments(layout, { kind: 'muon' })
  // A shard that begins and ends within tensors; of a group one root is a million times the others.
  const shard = { offset: 40, length: length - 72 }
  const second = secondMoment.map((value, i) => (i % 32 === 0 ? 1e3 : 1e-9 * value))
  const packed = moments.packed({ firstMoment, secondMoment: second })
  const values = new Float32Array(2 * shard.length)
  values.set(firstMoment.subarray(0, shard.length))
  values.set(packed.subarray(shard.offset, shard.offset + shard.length), shard.length)
  const dither = counterDither(7)
  const sent = (kept: Kept | null) => encodeGroups(codec, values, dither, kept)
  const read = (bytes: Uint8Array) => decodeGroups(codec, bytes, values.length, dither)
  const [got, without] = [read(sent(moments.kept(shard))), read(sent(null))]
  // The levels that were sent, with no dither taken off.
  const levels = decodeGroups(codec, sent(null), values.length, () => 0.5)
  expect(got.subarray(0, shard.length)).toEqual(without.subarray(0, shard.length))
  let zeros = 0
  for (const tensor of layout.tensors) {
    const from = Math.max(0, tensor.offset - shard.offset)
    const to = Math.min(shard.length, tensor.offset + tensor.length - shard.offset)
    const of = (vector: Float32Array) => vector.subarray(shard.length + from, shard.length + to)
    if (takesMuon({ kind: 'muon' }, tensor)) {
      expect(of(got)).toEqual(of(without))
      continue
    }
    of(without).forEach((root, i) => {
      if (of(levels)[i]! > 0) return expect(of(got)[i]).toBe(root)
      zeros++
      expect(of(got)[i]).toBeGreaterThan(0)
    })
  }
  expect(zeros).toBeGreaterThan(100)
})
