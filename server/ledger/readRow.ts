/** Owns the reading of stored rows, checked: the database may have been written by another version or by hand. */
import { z } from 'zod'
import type { RowText } from '../../src/ledger/rows.ts'
import { fail } from '../../src/protocol/errors.ts'
import { ledgerRowSchema, sealRowSchema } from '../../src/protocol/ledger.ts'
import type { LedgerRow, SealRow } from '../../src/protocol/ledger.ts'

function parse<T>(schema: z.ZodType<T>, text: RowText): T {
  let entry: unknown
  try {
    entry = JSON.parse(text.entry)
  } catch {
    entry = undefined
  }
  const parsed = schema.safeParse({ ...text, entry })
  if (parsed.success) return parsed.data
  return fail(
    'store.corrupt',
    `Row ${text.seq} of the ledger is not what this version writes: ${z.prettifyError(parsed.error)}`.slice(0, 1000),
    'Start the version that wrote it, or restore the data folder from a backup.',
  )
}

/** @throws SkeinError `store.corrupt` */
export const readRow = (text: RowText): LedgerRow => parse(ledgerRowSchema, text)
/** @throws SkeinError `store.corrupt` */
export const sealRow = (text: RowText): SealRow => parse(sealRowSchema, text)
