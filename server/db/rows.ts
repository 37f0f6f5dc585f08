/** Owns the way between database rows and the store's records; JSON columns are checked when they are read. */
import type { Insertable, Selectable } from 'kysely'
import { z } from 'zod'
import { BYTE_VOCABULARY } from '../../src/formats/byteTokenizer.ts'
import { runStateSchema, stepMetricSchema, tokenizerKindSchema } from '../../src/protocol/api.ts'
import type { DatasetView, StepMetric } from '../../src/protocol/api.ts'
import { stageCheckpointSchema } from '../../src/protocol/control.ts'
import { fail } from '../../src/protocol/errors.ts'
import { depositSchema, paymentSchema } from '../../src/protocol/payment.ts'
import { earnedCreditSchema } from '../../src/protocol/receipt.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { Tables } from './migrations.ts'
import type { CheckpointRecord, DatasetRecord, PreparedStep, RunRecord } from './store.ts'

const stagesSchema = z.array(stageCheckpointSchema)
const preparedSchema = z.object({
  generation: z.int().min(0),
  lr: z.number(),
  scale: z.number(),
  metric: stepMetricSchema,
  // Versions before this one wrote none.
  work: z.array(earnedCreditSchema).default([]),
})

const runPaymentSchema = paymentSchema.extend({ deposit: depositSchema.nullable().default(null) })

/** JSON of a column, checked: the file may have been written by another version or by hand. */
export function readJson<T>(schema: z.ZodType<T>, text: string, what: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  return fail(
    'store.corrupt',
    `${what} in the database is not what this version writes: ${z.prettifyError(parsed.error)}`.slice(0, 1000),
    'Start the version that wrote it, or restore the data folder from a backup.',
  )
}

export function runOf(row: Selectable<Tables['runs']>): RunRecord {
  return {
    id: row.id,
    name: row.name,
    datasetId: row.dataset_id,
    config: readJson(runConfigSchema, row.config, `The config of run ${row.id}`),
    state: readJson(runStateSchema, JSON.stringify(row.state), `The state of run ${row.id}`),
    detail: row.detail,
    step: row.step,
    generation: row.generation,
    valLoss: row.val_loss,
    rollbacks: row.rollbacks,
    boundaryBytesPerToken: row.boundary_bytes_per_token,
    createdAt: row.created_at,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    prepared: row.prepared === null ? null : readJson(preparedSchema, row.prepared, `The step of run ${row.id}`),
    recovered: row.recovered,
    payment: row.payment === null ? null : readJson(runPaymentSchema, row.payment, `What run ${row.id} pays`),
  }
}

/** @throws ZodError when a figure is not finite: JSON would not keep it */
export function preparedText(prepared: PreparedStep): string {
  return JSON.stringify(preparedSchema.parse(prepared))
}

/** The columns of those fields that are present. */
export function runRow(run: Partial<RunRecord>): Partial<Insertable<Tables['runs']>> {
  const {
    datasetId,
    config,
    valLoss,
    boundaryBytesPerToken,
    createdAt,
    startedAt,
    finishedAt,
    prepared,
    payment,
    ...same
  } = run
  const row: Partial<Insertable<Tables['runs']>> = {
    ...same,
    dataset_id: datasetId,
    config: config && JSON.stringify(config),
    val_loss: valLoss,
    boundary_bytes_per_token: boundaryBytesPerToken,
    created_at: createdAt,
    started_at: startedAt,
    finished_at: finishedAt,
    prepared: prepared && preparedText(prepared),
    payment: payment && JSON.stringify(runPaymentSchema.parse(payment)),
  }
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined))
}

export function checkpointOf(row: Selectable<Tables['checkpoints']>): CheckpointRecord {
  const stages = readJson(stagesSchema, row.stages, `The checkpoint ${row.step} of run ${row.run_id}`)
  return { runId: row.run_id, step: row.step, stages, bytes: row.bytes, createdAt: row.created_at }
}

export function checkpointRow(checkpoint: CheckpointRecord): Insertable<Tables['checkpoints']> {
  return {
    run_id: checkpoint.runId,
    step: checkpoint.step,
    stages: JSON.stringify(checkpoint.stages),
    bytes: checkpoint.bytes,
    created_at: checkpoint.createdAt,
  }
}

export function datasetOf(row: Selectable<Tables['datasets']>): DatasetRecord {
  return {
    id: row.id,
    name: row.name,
    bytes: row.bytes,
    tokens: row.tokens,
    trainTokens: row.train_tokens,
    tokenizer: readJson(tokenizerKindSchema, JSON.stringify(row.tokenizer), `The tokenizer of dataset ${row.id}`),
    vocabSize: row.vocabulary === null ? BYTE_VOCABULARY : [...row.vocabulary].length,
    vocabulary: row.vocabulary,
    tokensHash: row.tokens_hash,
    createdAt: row.created_at,
  }
}

export function datasetRow(dataset: DatasetRecord): Insertable<Tables['datasets']> {
  // The vocabulary's size is that of the vocabulary.
  const { trainTokens, tokensHash, createdAt, vocabSize: _, ...same } = dataset
  return { ...same, train_tokens: trainTokens, tokens_hash: tokensHash, created_at: createdAt }
}

/** What the API shows of a dataset. */
export function datasetView({ tokensHash: _, vocabulary: __, ...view }: DatasetRecord): DatasetView {
  return view
}

export function metricOf(row: Selectable<Tables['metrics']>): StepMetric {
  const { step, loss, grad_norm: gradNorm, lr, tokens, duration_ms: durationMs, at } = row
  return { step, loss, gradNorm, lr, tokens, durationMs, at }
}
