/** Proves that a config which cannot be trained is refused with its code, and that the memory estimate grows as it should. */
import { describe, expect, it } from 'vitest'
import { validateRunConfig } from '../../../src/model/config.ts'
import { stageLayouts } from '../../../src/model/layout.ts'
import { estimateStageMemory, logitRows, LOGITS_BYTES } from '../../../src/model/memory.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'

const config = (input: RunConfigInput = {}) => runConfigSchema.parse(input)
const dataset = { tokens: 100_000, trainTokens: 90_000, tokenizer: 'byte', vocabSize: 256 } as const

describe('validateRunConfig', () => {
  it('accepts the default and its edges', () => {
    expect(() => validateRunConfig(config(), dataset)).not.toThrow()
    expect(() => validateRunConfig(config({ stages: 4, replicas: 4 }))).not.toThrow()
    expect(() => validateRunConfig(config({ stages: 1, model: { kvHeads: 1, tieEmbeddings: true } }))).not.toThrow()
  })

  it.each<[string, RunConfigInput]>([
    ['run.heads_do_not_divide', { model: { dModel: 130 } }],
    ['run.kv_heads', { model: { kvHeads: 3 } }],
    ['run.head_dim', { model: { dModel: 12 } }],
    ['run.head_dim', { model: { dModel: 1024, heads: 4 } }],
    ['run.stages_exceed_layers', { stages: 5 }],
    ['run.tied_stages', { model: { tieEmbeddings: true } }],
    ['run.microbatch_does_not_divide', { microbatch: 5 }],
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
    const layouts = stageLayouts(run.model, run.stages)
    for (const stage of [0, 1]) {
      const m = estimateStageMemory(run, stage)
      expect(m.weights).toBe(layouts[stage]!.length * 4)
      expect(m.gradients + m.moments).toBe(3 * m.weights)
      expect(m.total).toBeGreaterThanOrEqual(4 * m.weights + m.activationsPerMicrobatch + m.workspace)
    }
  })

  it('grows with the microbatch and shrinks with more stages', () => {
    const total = (input: RunConfigInput) => estimateStageMemory(config(input), 1).total
    expect(total({ microbatch: 6 })).toBeGreaterThan(total({ microbatch: 3 }))
    expect(total({ stages: 4 })).toBeLessThan(total({ stages: 2 }))
    expect(() => estimateStageMemory(config(), 2)).toThrow(RangeError)
  })

  it('makes logits for a few rows at a time when the vocabulary is large', () => {
    const large = config({ model: { vocabSize: 65_536 }, microbatch: 12 })
    expect(logitRows(config(), 3 * 64)).toBe(3 * 64)
    expect(logitRows(large, 12 * 64) % 64).toBe(0)
    expect(logitRows(large, 12 * 64) * 65_536 * 4).toBeLessThanOrEqual(LOGITS_BYTES)
  })
})
