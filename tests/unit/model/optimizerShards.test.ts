/** Proves that Muon's matrices are never cut, that shards stay even, and that embedding, head and norms are AdamW's. */
import { describe, expect, it } from 'vitest'
import { stageLayouts } from '../../../src/model/layout.ts'
import { stageShards, takesMuon } from '../../../src/model/optimizerShards.ts'
import { SHARD_ALIGNMENT, shardsOf } from '../../../src/protocol/routing.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'

const models: RunConfigInput['model'][] = [
  {},
  { vocabSize: 67, dModel: 24, layers: 4, heads: 4, kvHeads: 2, ffn: 44 },
  { vocabSize: 53, dModel: 30, layers: 5, heads: 3, kvHeads: 3, ffn: 41 },
  { vocabSize: 65_536, dModel: 64, layers: 2 },
]
const layoutsOf = (model: RunConfigInput['model'], stages: number) =>
  stageLayouts(runConfigSchema.parse({ model }).model, stages)

describe('stageShards', () => {
  it.each(models)('covers the stage and cuts no matrix of Muon’s: %j', (model) => {
    for (const layout of [...layoutsOf(model, 1), ...layoutsOf(model, 2)]) {
      for (let replicas = 1; replicas <= 12; replicas++) {
        const shards = stageShards(layout, replicas, { kind: 'muon' })
        expect(shards).toHaveLength(replicas)
        let end = 0
        for (const { offset, length } of shards) {
          expect(offset).toBe(end)
          end += length
          if (length > 0) expect(offset % SHARD_ALIGNMENT).toBe(0)
          const cut = layout.tensors.find((t) => t.offset < offset && offset < t.offset + t.length)
          expect(cut && takesMuon({ kind: 'muon' }, cut) ? cut.name : null).toBeNull()
        }
        expect(end).toBe(layout.length)
      }
    }
  })

  it('is even where the matrices allow it, and equal with AdamW', () => {
    const layout = layoutsOf({}, 1)[0]!
    const largest = Math.max(...stageShards(layout, 4, { kind: 'muon' }).map(({ length }) => length))
    expect(largest).toBeLessThan(1.15 * (layout.length / 4))
    expect(stageShards(layout, 4, { kind: 'adamw' })).toEqual(shardsOf(layout.length, 4))
    // An embedding that outweighs all else is cut too.
    const wide = layoutsOf({ vocabSize: 65_536, dModel: 64, layers: 2 }, 1)[0]!
    expect(Math.max(...stageShards(wide, 4, { kind: 'muon' }).map(({ length }) => length))).toBeLessThan(
      wide.length / 3.8,
    )
  })
})

it('leaves embedding, head and norms to AdamW', () => {
  const names = layoutsOf({ layers: 1 }, 1)[0]!
    .tensors.filter((t) => takesMuon({ kind: 'muon' }, t))
    .map((t) => t.name)
  const projections = ['self_attn.q', 'self_attn.k', 'self_attn.v', 'self_attn.o', 'mlp.gate', 'mlp.up', 'mlp.down']
  expect(names).toEqual(projections.map((name) => `model.layers.0.${name}_proj.weight`))
  expect(layoutsOf({}, 1)[0]!.tensors.some((t) => takesMuon({ kind: 'adamw' }, t))).toBe(false)
})
