/** Proves the reference of learned boundaries by finite differences, its table of tokens, and that generation computes the same. */
import { describe, expect, it } from 'vitest'
import { tokenTableRow } from '../../../src/codec/tokenTable.ts'
import { validateRunConfig } from '../../../src/model/config.ts'
import { microbatchCredit } from '../../../src/model/credit.ts'
import { createDecoder } from '../../../src/model/decoder.ts'
import { initialParameters } from '../../../src/model/init.ts'
import { runLayouts } from '../../../src/model/layout.ts'
import { learnedBoundaries, TOKEN_TABLE } from '../../../src/model/learnedBoundaries.ts'
import { takesMuon } from '../../../src/model/optimizerShards.ts'
import { referenceModel } from '../../../src/model/reference/model.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { noise } from '../../kernels/gpu.ts'

const model = { vocabSize: 11, dModel: 8, layers: 3, heads: 2, kvHeads: 1, ffn: 12, blockSize: 6 }
const configOf = (input: RunConfigInput = {}) =>
  runConfigSchema.parse({ model, stages: 3, codec: 'bottleneck-f32', codecWidth: 2, seed: 9, ...input })

const config = configOf()
const partition = runLayouts(config).map(({ layerCount }) => layerCount)

function tensors(): Map<string, Float32Array> {
  return new Map(
    runLayouts(config).flatMap((layout) => {
      const flat = initialParameters(layout, 3).map((x) => (x === 1 ? 1 : 8 * x))
      return layout.tensors.map(({ name, init, offset, length }, i) => {
        return [name, init === 0 ? noise(length, i, 0.7) : flat.subarray(offset, offset + length)] as const
      })
    }),
  )
}

const reference = () => {
  const parameters = new Map([...tensors()].map(([name, values]) => [name, Float64Array.from(values)]))
  return referenceModel(config.model, parameters, { partition, codeWidth: 2, seed: config.seed })
}

describe('the reference', () => {
  it('has the gradients that finite differences have', () => {
    const own = reference()
    const tokens = Uint32Array.from({ length: 12 }, (_, i) => (7 * i + 3) % 11)
    const targets = Uint32Array.from({ length: 12 }, (_, i) => (5 * i + 1) % 11)
    const { gradients } = own.lossAndGradients(tokens, targets, 2)
    for (const [name, values] of own.parameters) {
      for (const i of [0, Math.floor(values.length / 2), values.length - 1]) {
        const [at, h] = [values[i]!, 1e-5]
        const lossAt = (x: number) => {
          values[i] = x
          return own.lossAndGradients(tokens, targets, 2).loss
        }
        const slope = (lossAt(at + h) - lossAt(at - h)) / (2 * h)
        values[i] = at
        expect(Math.abs(slope - gradients.get(name)![i]!), `${name} ${i}`).toBeLessThan(1e-8 + 1e-5 * Math.abs(slope))
      }
    }
  })

  it('starts with second matrices of zeros', () => {
    const [first] = runLayouts(config)
    expect(first!.tensors.filter(({ init }) => init === 0).map(({ name }) => name)).toEqual([
      'model.boundaries.0.send_out.weight',
    ])
  })
})

describe('the table of tokens', () => {
  const columns = 256
  const rows = Array.from({ length: 400 }, (_, token) => tokenTableRow(7, token, columns))
  const all = rows.flatMap((row) => [...row])
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length

  it('holds standard normals, as far as twelve bytes go', () => {
    expect(Math.abs(mean(all))).toBeLessThan(5 / Math.sqrt(all.length))
    expect(mean(all.map((x) => x * x))).toBeCloseTo(1, 1)
    expect(Math.abs(mean(all.map((x) => x * x)) - 1)).toBeLessThan(0.02)
    expect(mean(all.map((x) => x ** 4))).toBeCloseTo(2.9, 0)
    expect(Math.abs(all.filter((x) => Math.abs(x) < 1).length / all.length - 0.683)).toBeLessThan(0.01)
  })

  it('has rows and columns that do not go together', () => {
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      mean(Array.from({ length: a.length }, (_, i) => a[i]! * b[i]!))
    const column = (c: number) => rows.map((row) => row[c]!)
    for (let i = 0; i < 200; i++) {
      expect(Math.abs(dot(rows[i]!, rows[i + 1]!))).toBeLessThan(6 / Math.sqrt(columns))
      expect(Math.abs(dot(column(i), column(i + 1)))).toBeLessThan(6 / Math.sqrt(rows.length))
    }
    expect(Math.abs(dot(rows[0]!, tokenTableRow(8, 0, columns)))).toBeLessThan(6 / Math.sqrt(columns))
  })

  it('stays what it is: exported models hold it', () => {
    expect([...tokenTableRow(1, 0, 4), ...tokenTableRow(0xffff_ffff, 65_535, 2)]).toMatchInlineSnapshot(`
      [
        0.8515625,
        0.14453125,
        0.94921875,
        -2.59375,
        0.92578125,
        -0.671875,
      ]
    `)
  })
})

describe('generation', () => {
  it('computes what was trained', () => {
    const boundaries = learnedBoundaries(config)!
    expect(boundaries).toEqual({ partition: [1, 1, 1], codeWidth: 2, halves: false })
    const table = Array.from({ length: 11 }, (_, token) => [...tokenTableRow(config.seed, token, 8)])
    const own = tensors().set(TOKEN_TABLE, Float32Array.from(table.flat()))
    const text = Uint32Array.of(3, 1, 4, 1, 5)
    const expected = reference().forward(text, 1)
    const decoder = createDecoder({ config: config.model, tensors: own, boundaries })
    text.forEach((token, place) => {
      const logits = decoder.next(token)
      logits.forEach((x, i) => expect(x).toBeCloseTo(expected[place * 11 + i]!, 4))
    })
    own.delete(TOKEN_TABLE)
    const broken = () => createDecoder({ config: config.model, tensors: own, boundaries })
    expect(broken).toThrow(expect.objectContaining({ code: 'model.tensors' }))
    expect(learnedBoundaries(configOf({ codec: 'int4' }))).toBeNull()
    expect(learnedBoundaries(configOf({ stages: 1 }))).toBeNull()
  })
})

describe('the weights of a boundary', () => {
  it('lie in the stages on either side, take no decay and never Muon, and earn', () => {
    const [first, middle, last] = runLayouts(config)
    const names = (layout: typeof first) =>
      layout!.tensors.flatMap(({ name }) => name.match(/boundaries\.(.*)\.weight/)?.[1] ?? [])
    expect(names(first)).toEqual(['0.send_in', '0.send_out'])
    expect(names(middle)).toEqual(['0.receive_in', '0.receive_out', '0.receive_taps', '1.send_in', '1.send_out'])
    expect(names(last)).toEqual(['1.receive_in', '1.receive_out', '1.receive_taps'])
    for (const layout of [first!, middle!, last!]) {
      for (const tensor of layout.tensors.filter(({ name }) => name.includes('boundaries'))) {
        expect(tensor.offset).toBeGreaterThanOrEqual(layout.decayLength)
        expect(takesMuon({ kind: 'muon' }, tensor)).toBe(false)
      }
    }
    const plain = microbatchCredit(configOf({ codec: 'f16' }), 1)
    // Two networks of a hidden width of 2: (8 + 2)·2 weights each; three taps of 8; 6 FLOPs a token and weight.
    expect(microbatchCredit(config, 1) - plain).toBe(6n * 64n * BigInt(config.microbatch * 6))
  })

  it.each([
    [{ codecWidth: 9 }, 'run.code_width'],
    [{ codecWidth: 1, model: { ...model, blockSize: 5 } }, 'run.code_width'],
  ])('%o is refused with %s', (input, code) => {
    expect(() => validateRunConfig(configOf(input))).toThrow(expect.objectContaining({ code }))
    expect(() => validateRunConfig(configOf({ ...input, codec: 'f16' }))).not.toThrow()
  })
})
