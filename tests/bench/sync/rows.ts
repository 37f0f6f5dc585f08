/** Owns what `npm run bench -- sync` trains, and the records it makes: one a trained row, kept as they come. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { fail } from '../../../src/protocol/errors.ts'
import {
  localConfigSchema,
  mergeCodecSchema,
  optimizerConfigSchema,
  runConfigSchema,
  type RunConfig,
} from '../../../src/protocol/runConfig.ts'

export const ROWS = ['exact', 'local f32', 'local int8', 'local int4'] as const
export type RowName = (typeof ROWS)[number]

/** What every row has in common. */
export interface Setting {
  readonly dModel: number
  readonly layers: number
  readonly blockSize: number
  readonly replicas: number
  /** Sequences in one update of all lanes together. */
  readonly batch: number
  readonly innerSteps: number
  /** Where lanes begin. */
  readonly moments: RunConfig['local']['moments']
  readonly outerLr: number
  readonly outerMomentum: number
  /** Inner steps over which shards become final. */
  readonly overlap: number
  readonly optimizer: RunConfig['optimizer']['kind']
  readonly lr: number
  /** What the rate falls to over the run, by a half cosine. */
  readonly minLr: number
  /** Over the whole run; a multiple of the inner steps. */
  readonly updates: number
  readonly seed: number
  readonly data: string
}

/** Numbers in one head, whatever the model's width. */
export const HEAD_SIZE = 32

/** As many updates on as many tokens whatever the row. One stage: what is merged is the same however a model is cut. */
export function rowConfig(row: RowName, setting: Setting, vocabSize: number, evalTokens: number): RunConfig {
  const { dModel, layers, blockSize, replicas, batch, optimizer: kind, lr, minLr, updates, seed } = setting
  const { innerSteps, moments, outerLr, outerMomentum, overlap } = setting
  const heads = dModel / HEAD_SIZE
  const local = row !== 'exact'
  return runConfigSchema.parse({
    model: { dModel, layers, heads, kvHeads: heads, ffn: 3 * dModel, blockSize, vocabSize },
    optimizer: { kind, lr, minLr },
    ...{ stages: 1, replicas, batch, seed, codec: 'f32', evalTokens },
    microbatch: local ? batch / replicas : batch,
    steps: local ? updates / innerSteps : updates,
    sync: local ? 'local' : 'exact',
    local: {
      ...{ innerSteps, moments, outer: { lr: outerLr, momentum: outerMomentum }, overlap },
      ...(local && { mergeCodec: row.slice('local '.length) }),
    },
  })
}

export const syncRecordSchema = z.strictObject({
  where: z.literal('dawn'),
  adapter: z.string().min(1),
  impl: z.string().regex(/^\S+ \S+$/),
  data: z.string().min(1),
  dModel: z.int().positive(),
  layers: z.int().positive(),
  blockSize: z.int().positive(),
  replicas: z.int().positive(),
  batch: z.int().positive(),
  innerSteps: z.int().positive(),
  moments: localConfigSchema.shape.moments.unwrap(),
  outerLr: z.number().positive(),
  outerMomentum: z.number().min(0),
  overlap: z.int().min(0),
  optimizer: optimizerConfigSchema.shape.kind.unwrap(),
  lr: z.number().positive(),
  minLr: z.number().min(0),
  updates: z.int().positive(),
  seed: z.int().min(0),
  row: z.enum(ROWS),
  mergeCodec: mergeCodecSchema,
  /** Sent by one replica, and received, for each token that the run trains on. */
  mergeBytesPerToken: z.number().min(0),
  /** Times that this is below the exact merge's; null where that was not trained. */
  ratioToExact: z.number().nullable(),
  valLoss: z.number(),
  /** Part by which `valLoss` is above the exact run's. */
  gap: z.number().nullable(),
  seconds: z.number().positive(),
})
export type SyncRecord = z.infer<typeof syncRecordSchema>

const MODEL = ['dModel', 'layers', 'blockSize'] as const
const SETTING = [...MODEL, 'replicas', 'batch', 'optimizer', 'lr', 'minLr', 'updates', 'seed', 'data'] as const
const LOCAL = ['innerSteps', 'moments', 'outerLr', 'outerMomentum', 'overlap'] as const

export function isOf(record: SyncRecord, row: RowName, setting: Setting): boolean {
  if (record.row !== row || SETTING.some((key) => record[key] !== setting[key])) return false
  return row === 'exact' || LOCAL.every((key) => record[key] === setting[key])
}

/** Each with its gap and its ratio to the exact run of the same data, updates, optimizer and seed. */
export function againstExact(records: readonly SyncRecord[]): SyncRecord[] {
  return records.map((record) => {
    const base = records.find((other) => isOf(other, 'exact', record))
    return {
      ...record,
      gap: base ? record.valLoss / base.valLoss - 1 : null,
      ratioToExact: base ? base.mergeBytesPerToken / record.mergeBytesPerToken : null,
    }
  })
}

/** @throws SkeinError `bench.records` where the file holds anything else */
export function readRecords(file: string): SyncRecord[] {
  if (!existsSync(file)) return []
  try {
    return z.array(syncRecordSchema).parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return fail('bench.records', `${file} holds no records of this bench.`, 'Name another file with --json.')
  }
}

export function writeRecords(file: string, records: readonly SyncRecord[]): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(records, null, 2)}\n`)
  renameSync(`${file}.new`, file)
}
