/** Owns the records of `npm run bench -- codec`: one a trained row, kept as they come so that a broken bench goes on. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { fail } from '../../../src/protocol/errors.ts'
import { codecNameSchema, optimizerConfigSchema } from '../../../src/protocol/runConfig.ts'

export const codecRecordSchema = z.strictObject({
  where: z.literal('dawn'),
  adapter: z.string().min(1),
  impl: z.string().regex(/^\S+ \S+$/),
  setting: z.enum(['default', 'full']),
  /** The text's file name, or `stories` for the built-in corpus. */
  data: z.string().min(1),
  steps: z.int().positive(),
  optimizer: optimizerConfigSchema.shape.kind.unwrap(),
  seed: z.int().min(0),
  row: z.string().min(1),
  codec: codecNameSchema,
  /** Of one boundary, one way; null for the control, which has none. */
  bytesPerToken: z.number().positive().nullable(),
  ratioToBf16: z.number().positive().nullable(),
  /** Nats a token over the held-out windows, after the last step. */
  valLoss: z.number(),
  /** Part by which `valLoss` is above the uncompressed run's, of the same optimizer and seed; null where that was not trained. */
  gap: z.number().nullable(),
  seconds: z.number().positive(),
})
export type CodecRecord = z.infer<typeof codecRecordSchema>

/** @throws SkeinError `bench.records` where the file holds anything else */
export function readRecords(file: string): CodecRecord[] {
  if (!existsSync(file)) return []
  try {
    return z.array(codecRecordSchema).parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return fail('bench.records', `${file} holds no records of this bench.`, 'Name another file with --json.')
  }
}

export function writeRecords(file: string, records: readonly CodecRecord[]): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(records, null, 2)}\n`)
  renameSync(`${file}.new`, file)
}
