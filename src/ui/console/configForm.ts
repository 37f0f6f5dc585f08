/** Owns the way from what a person typed to a run configuration, or to a sentence at each field that is wrong. */
import type { z } from 'zod'
import { validateRunConfig, type DatasetFacts } from '../../model/config.ts'
import { parameterCount, runLayouts } from '../../model/layout.ts'
import { estimateStageMemory } from '../../model/memory.ts'
import { SkeinError } from '../../protocol/errors.ts'
import { runConfigSchema, type RunConfig } from '../../protocol/runConfig.ts'
import { stepTokens } from '../../protocol/lanes.ts'
import { runFields } from './runFields.ts'

/** What the inputs hold: text for numbers and choices. */
export type FormValues = Record<string, string | boolean>
/** A sentence for each wrong field, by path; `''` is the form itself. */
export type FormErrors = Record<string, string>

export interface ReadConfig {
  /** Null while anything is wrong. */
  readonly config: RunConfig | null
  readonly errors: FormErrors
}

/** The values of the schema's defaults; the vocabulary is left to the dataset. */
export function defaultValues(): FormValues {
  return { ...valuesOf(runConfigSchema.parse({})), [VOCABULARY]: '' }
}

/** May stay empty: the dataset knows how many tokens it has. */
const VOCABULARY = 'model.vocabSize'
/** May stay empty: then it is as many as there are replicas. */
const LANES = 'local.lanes'

export function valuesOf(config: RunConfig): FormValues {
  return Object.fromEntries(
    runFields.map((field) => {
      const value = field.path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config)
      return [field.path, typeof value === 'boolean' ? value : String(value ?? '')]
    }),
  )
}

/** Reads the values; checks the schema first, then what only the whole configuration shows. */
export function readConfig(values: FormValues, dataset?: DatasetFacts): ReadConfig {
  const raw: Record<string, unknown> = {}
  const errors: FormErrors = {}
  for (const field of runFields) {
    const value = values[field.path]
    if (field.path === VOCABULARY && value === '') {
      if (dataset) put(raw, field.path, dataset.vocabSize)
      continue
    }
    if (field.path === LANES && value === '') continue
    const number = field.kind === 'integer' || field.kind === 'number'
    if (number && (typeof value !== 'string' || value.trim() === '' || Number.isNaN(Number(value)))) {
      errors[field.path] = 'Enter a number.'
      continue
    }
    put(raw, field.path, number ? Number(value) : value)
  }
  if (Object.keys(errors).length > 0) return { config: null, errors }
  const parsed = runConfigSchema.safeParse(raw)
  if (!parsed.success) {
    for (const issue of parsed.error.issues) errors[issue.path.join('.')] ??= issueSentence(issue)
    return { config: null, errors }
  }
  try {
    validateRunConfig(parsed.data, dataset)
  } catch (caught) {
    if (!(caught instanceof SkeinError)) throw caught
    errors[fieldOfError(caught.code)] = `${caught.message} ${caught.remedy}`
    return { config: null, errors }
  }
  return { config: parsed.data, errors }
}

/** The field at which an error of the configuration is shown, `''` where no single field is to blame. */
export function fieldOfError(code: string): string {
  return blamed[code] ?? ''
}

const blamed: Record<string, string> = {
  'run.heads_do_not_divide': 'model.heads',
  'run.kv_heads': 'model.kvHeads',
  'run.head_dim': 'model.heads',
  'run.stages_exceed_layers': 'stages',
  'run.tied_stages': 'model.tieEmbeddings',
  'run.code_width': 'codecWidth',
  'run.microbatch_does_not_divide': 'microbatch',
  'run.lanes_do_not_divide': 'batch',
  'run.inner_steps': 'local.innerSteps',
  'run.overlap': 'local.overlap',
  'run.vocabulary': 'model.vocabSize',
  'run.block_exceeds_dataset': 'model.blockSize',
}

export interface ConfigFigures {
  readonly parameters: number
  readonly tokensPerStep: number
  readonly tokens: number
  /** Bytes that each stage takes on a device, by formula. */
  readonly stageBytes: readonly number[]
}

/** What a valid configuration amounts to. */
export function configFigures(config: RunConfig): ConfigFigures {
  const perStep = stepTokens(config)
  return {
    parameters: parameterCount(runLayouts(config)),
    tokensPerStep: perStep,
    tokens: perStep * config.steps,
    stageBytes: Array.from({ length: config.stages }, (_, stage) => estimateStageMemory(config, stage).total),
  }
}

function put(into: Record<string, unknown>, path: string, value: unknown): void {
  const keys = path.split('.')
  const last = keys.pop()!
  let at = into
  for (const key of keys) at = (at[key] ??= {}) as Record<string, unknown>
  at[last] = value
}

function issueSentence(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.expected === 'int' ? 'Enter a whole number.' : 'Enter a number.'
    case 'too_small':
      return `Enter ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}.`
    case 'too_big':
      return `Enter ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}.`
    default:
      return issue.message
  }
}
