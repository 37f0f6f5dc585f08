/** Checks that sampling reads the model as the reference does, and that a seed decides everything. */
import { describe, expect, it } from 'vitest'
import { createDecoder } from '../../../src/model/decoder.ts'
import { generate } from '../../../src/model/generate.ts'
import type { GenerateOptions } from '../../../src/model/generate.ts'
import { initialParameters } from '../../../src/model/init.ts'
import { stageLayouts } from '../../../src/model/layout.ts'
import { referenceModel } from '../../../src/model/reference/model.ts'
import { modelConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { ModelConfig } from '../../../src/protocol/runConfig.ts'

function modelOf(config: ModelConfig) {
  const layout = stageLayouts(config, 1)[0]!
  // A loud model: its logits differ enough for a greedy choice not to hang on rounding.
  const flat = initialParameters(layout, 3).map((x) => (x === 1 ? 1 : 8 * x))
  return { config, tensors: new Map(layout.tensors.map((t) => [t.name, flat.subarray(t.offset, t.offset + t.length)])) }
}

const shapes = {
  grouped: { vocabSize: 40, dModel: 24, layers: 2, heads: 4, kvHeads: 2, ffn: 20, blockSize: 12 },
  tied: { vocabSize: 40, dModel: 16, layers: 2, heads: 2, kvHeads: 2, ffn: 20, blockSize: 12, tieEmbeddings: true },
}

describe.each(Object.entries(shapes))('a %s model', (_, shape) => {
  const config = modelConfigSchema.parse(shape)
  const model = modelOf(config)
  const reference = referenceModel(
    config,
    new Map([...model.tensors].map(([name, values]) => [name, Float64Array.from(values)])),
  )
  const prompt = Uint32Array.from([5, 1, 30])
  const run = (options: Partial<GenerateOptions>) => [
    ...generate(model, { prompt, tokens: 30, temperature: 1, seed: 1, ...options }),
  ]

  it("gives the reference's logits at every position", () => {
    const tokens = Uint32Array.from({ length: config.blockSize }, (_, i) => (i * 17) % 40)
    const expected = reference.forward(tokens, 1)
    const decoder = createDecoder(model)
    for (const again of [false, true]) {
      if (again) decoder.reset()
      tokens.forEach((token, position) => {
        decoder.next(token).forEach((logit, c) => expect(logit).toBeCloseTo(expected[position * 40 + c]!, 4))
      })
    }
    expect(() => decoder.next(0)).toThrow(/full/)
  })

  it('goes on past the context with its newest half', () => {
    const likeliest = (context: number[]) => {
      const last = reference.forward(Uint32Array.from(context), 1).subarray(-config.vocabSize)
      return last.indexOf(Math.max(...last))
    }
    let context = [...prompt]
    const expected = Array.from({ length: 30 }, () => {
      const token = likeliest(context)
      if (context.length === config.blockSize) context = context.slice(1 - config.blockSize / 2)
      context.push(token)
      return token
    })
    expect(run({ temperature: 0 })).toEqual(expected)
  })

  it('repeats itself for a seed, and only for it', () => {
    expect(run({ seed: 1 })).toEqual(run({ seed: 1 }))
    expect(run({ seed: 1 })).not.toEqual(run({ seed: 2 }))
    expect(run({ topK: 1 })).toEqual(run({ temperature: 0 }))
  })

  it('draws tokens as often as their probability says', () => {
    const logits = reference.forward(prompt, 1).subarray(-config.vocabSize)
    const weights = Array.from(logits, (x) => Math.exp(x / 2))
    const total = weights.reduce((a, b) => a + b, 0)
    const draws = 4000
    const counts = new Array(config.vocabSize).fill(0)
    for (let seed = 0; seed < draws; seed++) counts[run({ seed, tokens: 1, temperature: 2 })[0]!]++
    weights.forEach((weight, token) => {
      const p = weight / total
      expect(Math.abs(counts[token] - draws * p)).toBeLessThan(4.5 * Math.sqrt(draws * p * (1 - p)) + 1)
    })
    const top = Array.from(logits.keys())
      .sort((a, b) => logits[b]! - logits[a]!)
      .slice(0, 3)
    for (let seed = 0; seed < 50; seed++) expect(top).toContain(run({ seed, tokens: 1, topK: 3 })[0])
  })

  it('refuses what it cannot do and stops when told', () => {
    expect(() => run({ prompt: new Uint32Array() })).toThrow(expect.objectContaining({ code: 'generate.prompt' }))
    expect(() => run({ prompt: Uint32Array.of(40) })).toThrow(expect.objectContaining({ code: 'generate.prompt' }))
    expect(() => run({ temperature: -1 })).toThrow(expect.objectContaining({ code: 'generate.options' }))
    const short = { config, tensors: new Map([...model.tensors].slice(1)) }
    const options = { prompt, tokens: 1, temperature: 1, seed: 1 }
    expect(() => [...generate(short, options)]).toThrow(expect.objectContaining({ code: 'model.tensors' }))
    const abort = new AbortController()
    const tokens = generate(model, { ...options, tokens: 9, signal: abort.signal })
    tokens.next()
    abort.abort(new Error('enough'))
    expect(() => tokens.next()).toThrow('enough')
  })
})
