/** Owns the proof that the launch form reads every field, blames the right one, and sends exactly what was typed. */
import { describe, expect, test } from 'vitest'
import type { z } from 'zod'
import type { DatasetView, LaunchRequest, RunSummary } from '../../../src/protocol/api.ts'
import type { Quote, QuoteRequest } from '../../../src/protocol/quote.ts'
import { SkeinError, toErrorBody } from '../../../src/protocol/errors.ts'
import {
  localConfigSchema,
  modelConfigSchema,
  optimizerConfigSchema,
  runConfigSchema,
} from '../../../src/protocol/runConfig.ts'
import { configFigures, defaultValues, readConfig } from '../../../src/ui/console/configForm.ts'
import { BUDGET, PRICE, readPayment, readRaise } from '../../../src/ui/console/paymentForm.ts'
import { modelPresets, runFields } from '../../../src/ui/console/runFields.ts'
import { dollars, quoteFigures } from '../../../src/ui/words/quote.ts'
import { LaunchForm } from '../../../src/ui/state/launchForm.svelte.ts'
import { detailOf } from './fixtures.ts'

const dataset: DatasetView = {
  id: 'd1',
  name: 'text',
  bytes: 100_000,
  tokens: 100_000,
  trainTokens: 90_000,
  tokenizer: 'byte',
  vocabSize: 256,
  createdAt: 0,
}

type Ask = (request: QuoteRequest) => Promise<Quote>
const unasked: Ask = () => Promise.reject(new Error('nobody asked'))

function formWith(launch: (request: LaunchRequest) => Promise<RunSummary>, quote = unasked) {
  const api = { datasets: async () => [dataset], launch, quote, uploadDataset: async () => dataset }
  return new LaunchForm(api, toErrorBody)
}

describe('what a run would cost', () => {
  const answer = (credit: string): Quote => ({
    credit,
    creditPerStep: '1',
    cost: null,
    costPerStep: null,
    time: { known: false, reason: 'No device.' },
    clouds: [],
  })

  test('is asked for what is typed, without a price that is none, and for nothing that is wrong', async () => {
    const form = formWith(async () => detailOf({}))
    expect(form.quoteRequest).toBeNull()
    await form.loadDatasets()
    expect(form.quoteRequest).toMatchObject({ datasetId: 'd1', config: { steps: 150 } })
    expect(form.quoteRequest).not.toHaveProperty('planckPerPflop')
    form.price = '1 000'
    form.set('steps', '3')
    expect(form.quoteRequest).toMatchObject({ config: { steps: 3 }, planckPerPflop: '1000' })
    form.price = '0'
    expect(form.quoteRequest).not.toHaveProperty('planckPerPflop')
    form.set('steps', 'x')
    expect(form.quoteRequest).toBeNull()
  })

  test('is that of the last question, however late an earlier answer comes', async () => {
    const waiting: ((quote: Quote) => void)[] = []
    const form = formWith(
      async () => detailOf({}),
      () => new Promise((resolve) => waiting.push(resolve)),
    )
    await form.loadDatasets()
    const first = form.askQuote(form.quoteRequest)
    const second = form.askQuote(form.quoteRequest)
    waiting[1]!(answer('2'))
    waiting[0]!(answer('1'))
    await Promise.all([first, second])
    expect(form.quote!.credit).toBe('2')
    await form.askQuote(null)
    expect(form.quote).toBeNull()
  })

  test('is not shown when the server refuses, and the reason is', async () => {
    const refusal = new SkeinError({ code: 'dataset.unknown', message: 'Gone.', remedy: 'Upload it.' })
    const form = formWith(
      async () => detailOf({}),
      () => Promise.reject(refusal),
    )
    await form.loadDatasets()
    await form.askQuote(form.quoteRequest)
    expect([form.quote, form.quoteError!.code]).toEqual([null, 'dataset.unknown'])
  })

  test('is told in words that claim no more than is known', () => {
    const unknown = quoteFigures(answer('2500000000000000'))
    expect(unknown.map(({ value, note }) => [value, note])).toEqual([
      ['2.50\u00a0PFLOP', 'model FLOPs of all steps, forward and backward'],
      ['–', 'without a price nobody is paid'],
      ['–', 'No device.'],
    ])
    const time = { known: true, seconds: 90, devices: 3, measured: 1, flopsPerSecond: 2e9 } as const
    const known = quoteFigures({ ...answer('1'), cost: '1234', costPerStep: '9', time })
    expect(known[1]).toMatchObject({ value: '1,234', unit: 'planck' })
    expect(known[2]).toMatchObject({ value: '1\u00a0min 30\u00a0s' })
    expect(known[2]!.note).toContain('3 devices')
    expect(known[2]!.note).toContain('1 of the connected')
    expect(dollars(0.00123)).toBe('under 1 cent')
    expect(dollars(1234.5)).toBe('$1,234.50')
  })
})

describe('what a run pays', () => {
  test('is nothing unless both are given, and read as people write long numbers', () => {
    expect(readPayment('', ' ')).toEqual({ payment: null, errors: {} })
    expect(readPayment('1,000 000', '0')).toEqual({ payment: { planckPerPflop: '1000000', budget: '0' }, errors: {} })
    for (const price of ['', '0', '-1', '1.5', 'x', '1'.repeat(40)])
      expect(Object.keys(readPayment(price, '5').errors), price).toEqual([PRICE])
    for (const budget of ['', '-1', '2e9', '1'.repeat(40)])
      expect(Object.keys(readPayment('5', budget).errors), budget).toEqual([BUDGET])
  })

  test('is raised to more than it was, and to nothing else', () => {
    expect(readRaise('1 001', '1000')).toEqual({ budget: '1001' })
    for (const typed of ['1000', '999', '', 'x', '-5', '1e9']) expect(readRaise(typed, '1000')).toHaveProperty('error')
  })

  test('goes along with the launch, and holds it up while it is wrong', async () => {
    const requests: LaunchRequest[] = []
    const form = formWith(async (request) => {
      requests.push(request)
      return detailOf({})
    })
    await form.loadDatasets()
    form.name = 'Paid'
    form.price = '7'
    expect(await form.launch()).toBeNull()
    expect(form.errors).toHaveProperty([BUDGET])
    form.budget = '100'
    await form.launch()
    form.price = form.budget = ''
    await form.launch()
    expect(requests.map(({ payment }) => payment)).toEqual([{ planckPerPflop: '7', budget: '100' }, undefined])
  })
})

describe('fields', () => {
  test('there is one for every leaf of the configuration', () => {
    const leaves = (schema: z.ZodObject, prefix: string) => Object.keys(schema.shape).map((key) => prefix + key)
    const expected = [
      // Who types a configuration does not know the devices that will come: the server cuts the layers.
      ...leaves(runConfigSchema, '').filter((path) => !['model', 'optimizer', 'local', 'partition'].includes(path)),
      ...leaves(modelConfigSchema, 'model.'),
      ...leaves(optimizerConfigSchema, 'optimizer.'),
      ...leaves(localConfigSchema, 'local.').filter((path) => path !== 'local.outer'),
      ...['local.outer.lr', 'local.outer.momentum'],
    ]
    expect(runFields.map((field) => field.path).sort()).toEqual(expected.sort())
  })

  test('untouched, they read as the defaults', () => {
    expect(readConfig(defaultValues()).config).toEqual(runConfigSchema.parse({}))
  })

  test('every choice is one that a run may take', () => {
    for (const field of runFields) {
      if (field.kind !== 'choice') continue
      for (const [choice] of field.choices) {
        const { config, errors } = readConfig({ ...defaultValues(), [field.path]: choice })
        expect(errors, `${field.path} ${choice}`).toEqual({})
        expect(field.path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config)).toBe(
          choice,
        )
      }
      expect(readConfig({ ...defaultValues(), [field.path]: 'other' }).errors).toHaveProperty([field.path])
    }
    const optimizers = runFields.find(({ path }) => path === 'optimizer.kind')
    expect(optimizers).toMatchObject({
      choices: [
        ['adamw', expect.any(String)],
        ['muon', expect.any(String)],
      ],
    })
  })

  test('what counts only beside another choice is there with that choice alone', () => {
    const shown = (change: Record<string, string>) => {
      const values = { ...defaultValues(), ...change }
      return runFields.filter(({ when }) => when?.(values)).map(({ path }) => path)
    }
    const lanes = runFields.map(({ path }) => path).filter((path) => path.startsWith('local.'))
    expect(lanes).toHaveLength(7)
    expect(shown({})).toEqual([])
    expect(shown({ codec: 'bottleneck-f32' })).toEqual(['codecWidth'])
    expect(shown({ sync: 'local' })).toEqual(lanes)
    expect(shown({ 'optimizer.kind': 'muon' })).toEqual(['optimizer.momentum'])
  })

  test('every preset is a configuration that can be trained', () => {
    for (const preset of modelPresets) {
      const shape = Object.fromEntries(Object.entries(preset.values).map(([path, value]) => [path, String(value)]))
      const read = readConfig({ ...defaultValues(), ...shape, stages: '4', batch: '4', microbatch: '1' })
      expect(read.errors, preset.name).toEqual({})
    }
  })
})

describe('errors', () => {
  const errorsOf = (change: Record<string, string | boolean>) => readConfig({ ...defaultValues(), ...change }).errors

  test.each([
    ['steps', '', 'Enter a number.'],
    ['steps', 'many', 'Enter a number.'],
    ['steps', '1.5', 'Enter a whole number.'],
    ['steps', '0', 'Enter at least 1.'],
    ['optimizer.lr', '0', 'Enter more than 0.'],
    ['optimizer.beta1', '1', 'Enter less than 1.'],
    ['stages', '65', 'Enter at most 64.'],
  ])('%s = “%s” says “%s”', (path, value, sentence) =>
    expect(errorsOf({ [path]: value })).toEqual({ [path]: sentence }),
  )

  test('what only the whole configuration shows is blamed on a field, with its remedy', () => {
    expect(errorsOf({ 'model.heads': '5' })['model.heads']).toContain('Choose a number of heads')
    expect(errorsOf({ stages: '5', replicas: '1' })).toHaveProperty('stages')
    expect(errorsOf({ microbatch: '5' })).toHaveProperty('microbatch')
    expect(errorsOf({ 'model.tieEmbeddings': true })).toHaveProperty(['model.tieEmbeddings'])
  })
})

test('figures count what the layout holds', () => {
  const config = runConfigSchema.parse({})
  const figures = configFigures(config)
  const d = 128
  const layer = 4 * d * d + 3 * d * 384 + 2 * d
  expect(figures.parameters).toBe(2 * 256 * d + 4 * layer + d)
  expect(figures.tokensPerStep).toBe(768)
  expect(figures.stageBytes).toHaveLength(2)
})

describe('launching', () => {
  test('asks for a name and a dataset before it asks the server', async () => {
    let asked = 0
    const form = formWith(async () => {
      asked++
      return detailOf()
    })
    expect(await form.launch()).toBeNull()
    expect(form.errors).toMatchObject({ name: expect.any(String), datasetId: expect.any(String) })
    expect(asked).toBe(0)
  })

  test('sends what was typed', async () => {
    const sent: LaunchRequest[] = []
    const form = formWith(async (request) => {
      sent.push(request)
      return detailOf()
    })
    await form.loadDatasets()
    form.name = '  first light '
    form.set('steps', '42')
    form.set('codec', 'int8')
    expect(await form.launch()).not.toBeNull()
    expect(sent).toEqual([
      { name: 'first light', datasetId: 'd1', config: runConfigSchema.parse({ steps: 42, codec: 'int8' }) },
    ])
  })

  test('leaves the vocabulary to the dataset, or takes the one typed if the dataset fits in', async () => {
    const characters: DatasetView = { ...dataset, id: 'd2', createdAt: 1, tokenizer: 'character', vocabSize: 65 }
    const cuts: string[] = []
    const api = {
      datasets: async () => [dataset],
      launch: () => Promise.reject<RunSummary>(new Error('not here')),
      quote: unasked,
      uploadDataset: async (_name: string, _file: Blob, tokenizer: string) => (cuts.push(tokenizer), characters),
    }
    const form = new LaunchForm(api, toErrorBody)
    form.tokenizer = 'character'
    await form.uploadFile(new File(['text'], 'text.txt'))
    expect(cuts).toEqual(['character'])
    expect(form.dataset).toEqual(characters)
    const parametersOf = () => form.figures!.parameters
    const d = runConfigSchema.parse({}).model.dModel
    const small = parametersOf()
    form.set('model.vocabSize', '256')
    expect(parametersOf() - small).toBe(2 * (256 - 65) * d)
    form.set('model.vocabSize', '64')
    expect(form.errors['model.vocabSize']).toContain('65 characters')
  })

  test('shows the server’s error, at its field where it has one', async () => {
    const body = { code: 'run.stages_exceed_layers', message: 'Too many stages.', remedy: 'Use fewer.' }
    const form = formWith(() => Promise.reject<RunSummary>(new SkeinError(body)))
    await form.loadDatasets()
    form.name = 'x'
    expect(await form.launch()).toBeNull()
    expect(form.serverError).toEqual(body)
    expect(form.errors.stages).toBe('Too many stages. Use fewer.')
    form.set('stages', '1')
    expect(form.errors.stages).toBeUndefined()
    expect(form.busy).toBe(false)
  })
})
