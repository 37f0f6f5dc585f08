/** Proves that a config which cannot be trained is refused with its code, and that the memory estimate grows as it should. */
import { describe, expect, it } from 'vitest'
import { validateRunConfig } from '../../../src/model/config.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { activationSlots, estimateStageMemory, logitRows, LOGITS_BYTES } from '../../../src/model/memory.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'

const config = (input: RunConfigInput = {}) => runConfigSchema.parse(input)
const dataset = { tokens: 100_000, trainTokens: 90_000, tokenizer: 'byte', vocabSize: 256 } as const

describe('validateRunConfig', () => {
  it('accepts the default and its edges', () => {
    expect(() => validateRunConfig(config(), dataset)).not.toThrow()
    expect(() => validateRunConfig(config({ stages: 4, replicas: 4 }))).not.toThrow()
    expect(() => validateRunConfig(config({ sync: 'local', local: { lanes: 4 } }))).not.toThrow()
    expect(() => validateRunConfig(config({ partition: [3, 1] }))).not.toThrow()
    expect(() => validateRunConfig(config({ stages: 1, model: { kvHeads: 1, tieEmbeddings: true } }))).not.toThrow()
  })

  it('counts all that replicas share after local steps: a matrix may fit one frame with its moments, and not with three vectors', () => {
    const model = { dModel: 4096, heads: 32, kvHeads: 8, ffn: 6144, layers: 2, blockSize: 64, vocabSize: 64 }
    const wide = { model, stages: 2, batch: 4, microbatch: 1, optimizer: { kind: 'muon' } } as const
    expect(() => validateRunConfig(config(wide))).not.toThrow()
    const refused = expect.objectContaining({ code: 'run.memory', message: expect.stringContaining('shards') })
    const attempt = (local: RunConfigInput['local']) => () =>
      validateRunConfig(config({ ...wide, sync: 'local', local: { innerSteps: 2, ...local } }))
    expect(attempt({})).toThrow(refused)
    expect(attempt({ moments: 'zero' })).not.toThrow()
  })

  it.each<[string, RunConfigInput]>([
    ['run.heads_do_not_divide', { model: { dModel: 130 } }],
    ['run.kv_heads', { model: { kvHeads: 3 } }],
    ['run.head_dim', { model: { dModel: 12 } }],
    ['run.head_dim', { model: { dModel: 1024, heads: 4 } }],
    ['run.stages_exceed_layers', { stages: 5 }],
    ['run.partition', { partition: [4] }],
    ['run.partition', { partition: [1, 2] }],
    ['run.partition', { partition: [2, 2, 1], stages: 2 }],
    ['run.tied_stages', { model: { tieEmbeddings: true } }],
    ['run.microbatch_does_not_divide', { microbatch: 5 }],
    ['run.lanes_do_not_divide', { sync: 'local', replicas: 5, microbatch: 1 }],
    ['run.lanes_do_not_divide', { sync: 'local', local: { lanes: 4 }, batch: 12, microbatch: 4 }],
    ['run.local_bottleneck', { sync: 'local', codec: 'bottleneck-f16', codecWidth: 2 }],
    ['run.overlap', { sync: 'local', local: { innerSteps: 4, overlap: 4 } }],
    ['run.inner_steps', { sync: 'local', local: { innerSteps: 200 }, batch: 24, microbatch: 1 }],
    ['run.memory', { model: { vocabSize: 65_536, dModel: 1024, heads: 8, kvHeads: 8 } }],
    ['run.memory', { model: { blockSize: 8192 }, batch: 4096, microbatch: 4096, replicas: 1 }],
    ['run.memory', { model: { dModel: 2048, heads: 16, kvHeads: 16, ffn: 8192, layers: 32 }, stages: 2 }],
  ])('refuses with %s', (code, input) => {
    const attempt = () => validateRunConfig(config(input))
    expect(attempt).toThrow(expect.objectContaining({ code, remedy: expect.stringMatching(/\w/) }))
  })

  it('wants the text longer than a sequence on both sides of the cut, and its tokens in the vocabulary', () => {
    const check = (tokens: number, trainTokens: number, input: RunConfigInput = {}) => {
      return () => validateRunConfig(config(input), { ...dataset, tokens, trainTokens })
    }
    const short = expect.objectContaining({ code: 'run.block_exceeds_dataset' })
    expect(check(130, 65)).not.toThrow()
    expect(check(130, 64)).toThrow(short)
    expect(check(130, 66)).toThrow(short)
    const vocabulary = expect.objectContaining({ code: 'run.vocabulary' })
    expect(check(1e6, 9e5, { model: { vocabSize: 255 } })).toThrow(vocabulary)
    const characters = { ...dataset, tokenizer: 'character', vocabSize: 65 } as const
    expect(() => validateRunConfig(config({ model: { vocabSize: 65 } }), characters)).not.toThrow()
    const attempt = () => validateRunConfig(config({ model: { vocabSize: 64 } }), characters)
    expect(attempt).toThrow(vocabulary)
    expect(attempt).toThrow('65 characters')
  })
})

describe('estimateStageMemory', () => {
  it('counts four flat vectors and the parts of the least', () => {
    const run = config()
    const layouts = runLayouts(run)
    for (const stage of [0, 1]) {
      const m = estimateStageMemory(run, stage)
      expect(m.weights).toBeGreaterThanOrEqual(layouts[stage]!.length * 4)
      expect(m.weights).toBeLessThanOrEqual(layouts[stage]!.length * 5)
      expect(m.gradients + m.moments).toBe(3 * m.weights)
      const parts = 4 * m.weights + m.activationsPerMicrobatch + m.workspace + m.staging
      expect(m.total).toBeGreaterThanOrEqual(parts)
    }
  })

  it('follows the partition, and leaves embedding and head at the ends', () => {
    const of = (partition?: number[]) => [0, 1].map((stage) => estimateStageMemory(config({ partition }), stage))
    const [even, uneven] = [of(), of([3, 1])]
    expect(of([2, 2])).toEqual(even)
    expect(uneven[0]!.activationsPerMicrobatch).toBe(1.5 * even[0]!.activationsPerMicrobatch)
    expect(uneven[1]!.activationsPerMicrobatch).toBe(0.5 * even[1]!.activationsPerMicrobatch)
    expect(uneven[0]!.total).toBeGreaterThan(even[0]!.total)
    expect(uneven[1]!.total).toBeLessThan(even[1]!.total)
    const layouts = runLayouts(config({ partition: [3, 1] }))
    expect(layouts.map(({ firstLayer, layerCount }) => [firstLayer, layerCount])).toEqual([
      [0, 3],
      [3, 1],
    ])
    expect(layouts.map(({ tensors }) => [tensors[0]!.name, tensors.at(-1)!.name])).toEqual([
      ['model.embed_tokens.weight', 'model.layers.2.post_attention_layernorm.weight'],
      ['model.layers.3.self_attn.q_proj.weight', 'model.norm.weight'],
    ])
    expect(() => runLayouts(config({ partition: [3, 2] }))).toThrow(RangeError)
  })

  it('grows with the microbatch and shrinks with more stages', () => {
    const total = (input: RunConfigInput) => estimateStageMemory(config(input), 1).total
    expect(total({ microbatch: 6 })).toBeGreaterThan(total({ microbatch: 3 }))
    expect(total({ stages: 4 })).toBeLessThan(total({ stages: 2 }))
    expect(() => estimateStageMemory(config(), 2)).toThrow(RangeError)
  })

  it('halves the moments where they are bf16, and gives Muon room for its matrices', () => {
    const one = { stages: 1, replicas: 1 }
    const plain = estimateStageMemory(config(one), 0)
    const short = estimateStageMemory(config({ ...one, optimizer: { moments: 'bf16' } }), 0)
    expect(short.moments).toBe(plain.moments / 2)
    expect(plain.total - short.total).toBe(plain.moments - short.moments)
    const muon = estimateStageMemory(config({ ...one, optimizer: { kind: 'muon' } }), 0)
    expect(muon.workspace).toBeGreaterThan(plain.workspace)
  })

  it('keeps activations of as many microbatches as the memory holds', () => {
    const run = config({ stages: 4, batch: 12, microbatch: 1 })
    const { total, activationsPerMicrobatch: each } = estimateStageMemory(run, 0)
    const slots = [-each, 0, each - 1, each, 3 * each, 3.99 * each, 4 * each, 40 * each].map((more) =>
      activationSlots(run, 0, total + more, false),
    )
    expect(slots).toEqual([0, 0, 0, 1, 3, 3, 4, 12])
    expect(activationSlots(run, 3, 2 ** 40, false)).toBe(1)
    expect(activationSlots({ ...run, batch: 4096 }, 0, 2 ** 40, true)).toBe(Math.floor(2 ** 29 / each))
  })

  it('makes logits for a few rows at a time when the vocabulary is large', () => {
    const large = config({ model: { vocabSize: 65_536 }, microbatch: 12 })
    expect(logitRows(config(), 3 * 64)).toBe(3 * 64)
    expect(logitRows(large, 12 * 64) % 64).toBe(0)
    expect(logitRows(large, 12 * 64) * 65_536 * 4).toBeLessThanOrEqual(LOGITS_BYTES)
  })
})
