import { describe, expect, it } from 'vitest'
import { demoOptions } from '../../../server/cli/demo/options.ts'
import { presets } from '../../../server/cli/demo/presets.ts'
import { validateRunConfig } from '../../../src/model/config.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

const file = (config: unknown) => () => JSON.stringify(config)
const code = (args: string[], read?: () => string) => {
  try {
    demoOptions(args, read)
    return 'none'
  } catch (caught) {
    return (caught as { code: string }).code
  }
}

describe('demoOptions', () => {
  it('gives the default demo: four volunteers as two stages of two replicas', () => {
    const options = demoOptions([])!
    expect(options).toMatchObject({
      volunteers: 4,
      tokenizer: 'byte',
      data: null,
      out: 'out',
      headed: false,
      chaos: null,
    })
    expect(options.config).toEqual({ seed: 1, stages: 2, replicas: 2 })
  })

  it('makes one replica of each stage when there are as many stages as volunteers', () => {
    expect(demoOptions(['--volunteers', '4', '--stages', '4'])!.config).toMatchObject({ stages: 4, replicas: 1 })
    expect(demoOptions(['--stages', '6'])!.volunteers).toBe(6)
  })

  it('puts flags before the file and the file before the defaults', () => {
    const read = file({ stages: 1, replicas: 3, steps: 9, codec: 'int8', seed: 5 })
    const options = demoOptions(['--config', 'c.json', '--steps', '20', '--seed', '0'], read)!
    expect(options.volunteers).toBe(3)
    expect(options.config).toEqual({ stages: 1, replicas: 3, steps: 20, codec: 'int8', seed: 0 })
  })

  it('takes as many updates with local steps as with exact merges, and a batch that its lanes can part', () => {
    const { config } = demoOptions(['--sync', 'local', '--volunteers', '6'])!
    expect(config).toMatchObject({ sync: 'local', local: { innerSteps: 10 }, steps: 15, batch: 18, microbatch: 3 })
    expect(() => validateRunConfig(runConfigSchema.parse(config))).not.toThrow()
    const read = file({ steps: 90, batch: 8, local: { innerSteps: 30, mergeCodec: 'int4' } })
    const given = demoOptions(['--sync', 'local', '--config', 'c.json'], read)!.config
    expect(given).toMatchObject({ steps: 3, batch: 8, local: { innerSteps: 30, mergeCodec: 'int4' } })
    expect(demoOptions(['--sync', 'local', '--steps', '7'])!.config.steps).toBe(7)
    expect(code(['--sync', 'sometimes'])).toBe('demo.option')
  })

  it('takes configuration and tokenizer from a preset, flags before it', () => {
    const options = demoOptions(['--preset', 'nanogpt-cpu', '--steps', '30', '--stages', '1', '--volunteers', '1'])!
    expect(options).toMatchObject({ volunteers: 1, tokenizer: 'character' })
    expect(options.config).toMatchObject({ stages: 1, replicas: 1, steps: 30, batch: 12 })
    expect(options.config.model).not.toHaveProperty('vocabSize')
    expect(demoOptions(['--preset', 'nanogpt-cpu', '--tokenizer', 'byte'])!.tokenizer).toBe('byte')
  })

  it.each(Object.entries(presets))(
    'preset %s can be trained on a million characters, and scores all held out',
    (_, preset) => {
      const config = runConfigSchema.parse({ ...preset.config, stages: 2, replicas: 2 })
      const vocabSize = config.model.vocabSize
      const dataset = { tokens: 1_115_394, trainTokens: 1_003_854, tokenizer: preset.tokenizer, vocabSize }
      expect(() => validateRunConfig(config, dataset)).not.toThrow()
      expect(config.evalTokens).toBeGreaterThan(dataset.tokens - dataset.trainTokens)
    },
  )

  it('gives the disturbed demo one volunteer more than its stages need, and boundaries that lose nothing', () => {
    const options = demoOptions(['--chaos', '7'])!
    expect(options).toMatchObject({ volunteers: 5, chaos: 7 })
    expect(options.config).toMatchObject({ stages: 2, replicas: 2, steps: 60, codec: 'f32' })
    const larger = demoOptions([
      '--chaos',
      '0',
      '--volunteers',
      '8',
      '--stages',
      '3',
      '--steps',
      '9',
      '--codec',
      'f16',
    ])!
    expect(larger).toMatchObject({ volunteers: 8, chaos: 0 })
    expect(larger.config).toMatchObject({ stages: 3, replicas: 2, steps: 9, codec: 'f16' })
    expect(demoOptions(['--chaos', '1', '--config', 'c.json'], file({ stages: 1, steps: 12 }))).toMatchObject({
      volunteers: 3,
      config: { stages: 1, replicas: 2, steps: 12 },
    })
  })

  it('asks only for the usage with --help', () => {
    expect(demoOptions(['--help'])).toBeNull()
  })

  it.each([
    [['--volunteers', '5'], 'demo.volunteers'],
    [['--volunteers', '3', '--chaos', '1'], 'demo.volunteers'],
    [['--chaos', 'much'], 'demo.option'],
    [['--volunteers', '0'], 'demo.option'],
    [['--steps', '2.5'], 'demo.option'],
    [['--steps', '-1'], 'demo.option'],
    [['--seed', 'x'], 'demo.option'],
    [['--codec', 'mp3'], 'demo.option'],
    [['--tokenizer', 'word'], 'demo.option'],
    [['--preset', 'gpt-5'], 'demo.option'],
    [['--preset', 'nanogpt-cpu', '--config', 'c.json'], 'demo.option'],
    [['--unknown'], 'demo.option'],
    [['stray'], 'demo.option'],
    [['--config', '/nowhere/at/all.json'], 'demo.config'],
    [['--steps', '99999999'], 'demo.config'],
  ])('refuses %j with %s', (args, expected) => {
    expect(code(args)).toBe(expected)
  })

  it('names every wrong field of a config file', () => {
    const read = file({ model: { heads: 0 }, batch: 'many' })
    expect(() => demoOptions(['--config', 'c.json'], read)).toThrow(/model\.heads.*batch/)
  })
})
