/** Owns what `npm run demo` was asked to do: its flags, the config file beneath them, and what does not fit together. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { tokenizerKindSchema, type TokenizerKind } from '../../../src/protocol/api.ts'
import { fail } from '../../../src/protocol/errors.ts'
import { codecNameSchema, runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { presets } from './presets.ts'

/** What suits two cores in a few minutes. */
const CHAOS_STEPS = 60
const CHAOS_REPLICAS = 2
const CHAOS_EVAL_TOKENS = 8192

export const DEMO_USAGE = `npm run demo -- [options]
  --volunteers N   browser profiles that take part (4)
  --stages S       slices of the model; must divide the volunteers (2)
  --steps K        optimizer updates (150)
  --data FILE      UTF-8 text to train on (little stories made up from the seed)
  --tokenizer NAME ${tokenizerKindSchema.options.join(', ')}: what a token is (byte)
  --config FILE    JSON of a run configuration; flags go before it; without model.vocabSize it is the text's
  --preset NAME    ${Object.keys(presets).join(', ')}: configuration and tokenizer of that name, in place of --config
  --codec NAME     ${codecNameSchema.options.join(', ')} (f16)
  --sync NAME      exact: replicas merge every step; local: after some steps of their own (exact)
  --seed N         first weights, order of the data, made-up stories (1)
  --out DIR        where model/ and summary.json go (out)
  --headed         show the browser
  --chaos SEED     train twice, the second time with browsers killed and replaced every few seconds and the server killed once,
                   and compare both, step by step (${CHAOS_STEPS} steps, codec f32, one volunteer more than the stages need)
  --help           this text`

export interface DemoOptions {
  readonly volunteers: number
  /** A complete launch: the schema's defaults, the file, then the flags. */
  readonly config: RunConfigInput & { stages: number; replicas: number; seed: number }
  readonly tokenizer: TokenizerKind
  readonly data: string | null
  readonly out: string
  readonly headed: boolean
  /** Seed of what goes wrong; null where nothing does. */
  readonly chaos: number | null
}

const REMEDY = 'Run `npm run demo -- --help` for the options.'

/**
 * @param read reads a file as text; a parameter for tests
 * @returns null when only the usage was asked for
 * @throws SkeinError `demo.option`, `demo.config`, `demo.volunteers`
 */
export function demoOptions(
  args: readonly string[],
  read: (file: string) => string = (file) => readFileSync(file, 'utf8'),
): DemoOptions | null {
  const values = parse(args)
  if (values.help) return null
  if (values.config !== undefined && values.preset !== undefined)
    fail('demo.option', 'A preset is a whole configuration: --config and --preset exclude each other.', REMEDY)
  const preset = values.preset === undefined ? undefined : oneOf('preset', Object.keys(presets), values.preset)
  const { config: base, tokenizer: usual } = presets[preset ?? ''] ?? { config: {}, tokenizer: 'byte' }
  const file: RunConfigInput = values.config === undefined ? base : readConfig(values.config, read)
  const seed = whole('seed', values.seed, 0) ?? file.seed ?? 1
  const stages = whole('stages', values.stages, 1) ?? file.stages ?? 2
  const chaos = whole('chaos', values.chaos, 0) ?? null
  const fromFile = file.replicas === undefined ? undefined : stages * file.replicas
  const usualCrew = chaos === null ? (fromFile ?? Math.max(4, stages)) : (fromFile ?? stages * CHAOS_REPLICAS) + 1
  const volunteers = whole('volunteers', values.volunteers, 1) ?? usualCrew
  const replicas = chaos === null ? evenReplicas(volunteers, stages) : sparedReplicas(volunteers, stages)
  const codec = oneOf('codec', codecNameSchema.options, values.codec)
  const sync = oneOf('sync', SYNCS, values.sync)
  const tokenizer = oneOf('tokenizer', tokenizerKindSchema.options, values.tokenizer) ?? usual
  const calm: RunConfigInput = chaos === null ? {} : { steps: CHAOS_STEPS, codec: 'f32', evalTokens: CHAOS_EVAL_TOKENS }
  const given = { ...calm, ...file, seed, stages, replicas }
  const steps = whole('steps', values.steps, 1)
  const config = {
    ...given,
    ...(steps !== undefined && { steps }),
    ...(codec !== undefined && { codec }),
    ...(sync === 'local' ? localSteps(given, steps) : sync && { sync }),
  }
  const checked = runConfigSchema.safeParse(config)
  if (!checked.success) refuseConfig(checked.error)
  const { data = null, out = 'out', headed = false } = values
  return { volunteers, config, tokenizer, data, out, headed, chaos }
}

const SYNCS = ['exact', 'local'] as const
/** What suits two cores in a few minutes: more updates between two merges would leave the outer step too few. */
const DEMO_INNER_STEPS = 10

/** As many updates as the demo takes with exact merges; one sequence a microbatch suits any number of lanes. */
function localSteps(given: RunConfigInput, steps: number | undefined): RunConfigInput {
  const { replicas = 1, local, batch, microbatch } = given
  const innerSteps = local?.innerSteps ?? DEMO_INNER_STEPS
  const lanes = local?.lanes ?? replicas
  const updates = given.steps ?? runConfigSchema.shape.steps.parse(undefined)
  return {
    sync: 'local',
    local: { ...local, innerSteps },
    steps: steps ?? Math.max(1, Math.round(updates / innerSteps)),
    ...(batch === undefined && microbatch === undefined && { batch: 6 * lanes, microbatch: 3 }),
  }
}

function evenReplicas(volunteers: number, stages: number): number {
  if (volunteers % stages === 0) return volunteers / stages
  const near = Math.max(1, Math.round(volunteers / stages)) * stages
  return fail(
    'demo.volunteers',
    `${volunteers} volunteers cannot fill ${stages} stages evenly.`,
    `Use a multiple of the stages, such as --volunteers ${near}.`,
  )
}

/** One stands by at least, where there are enough of them. */
function sparedReplicas(volunteers: number, stages: number): number {
  if (volunteers >= CHAOS_REPLICAS * stages) return Math.max(CHAOS_REPLICAS, Math.floor((volunteers - 1) / stages))
  return fail(
    'demo.volunteers',
    `With ${volunteers} volunteers in ${stages} stages, a stage would be lost with one of them.`,
    `Use --volunteers ${CHAOS_REPLICAS * stages} or more.`,
  )
}

function parse(args: readonly string[]) {
  try {
    const text = { type: 'string' } as const
    const flag = { type: 'boolean' } as const
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        volunteers: text,
        stages: text,
        steps: text,
        data: text,
        config: text,
        codec: text,
        sync: text,
        tokenizer: text,
        preset: text,
        seed: text,
        out: text,
        chaos: text,
        headed: flag,
        help: { ...flag, short: 'h' },
      },
    }).values
  } catch (caught) {
    return fail('demo.option', caught instanceof Error ? caught.message : String(caught), REMEDY)
  }
}

function whole(name: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value
  return fail('demo.option', `--${name} takes a whole number of at least ${least}, not “${text}”.`, REMEDY)
}

function oneOf<T extends string>(name: string, known: readonly T[], value: string | undefined): T | undefined {
  if (value === undefined || known.includes(value as T)) return value as T | undefined
  return fail('demo.option', `There is no ${name} “${value}”.`, `Use one of ${known.join(', ')}.`)
}

function readConfig(file: string, read: (file: string) => string): RunConfigInput {
  let json: unknown
  try {
    json = JSON.parse(read(file))
  } catch (caught) {
    const why = caught instanceof Error ? caught.message : String(caught)
    return fail('demo.config', `The config ${file} cannot be read: ${why}.`, 'Give a JSON file such as {"steps": 50}.')
  }
  const parsed = runConfigSchema.safeParse(json)
  return parsed.success ? (json as RunConfigInput) : refuseConfig(parsed.error)
}

function refuseConfig(error: { issues: readonly { path: readonly PropertyKey[]; message: string }[] }): never {
  const faults = error.issues.map(({ path, message }) => `${path.map(String).join('.') || 'config'}: ${message}`)
  return fail('demo.config', `The run cannot be configured so: ${faults.join('; ')}.`, 'Correct these fields.')
}
