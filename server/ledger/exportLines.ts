/** Owns the export of the ledger: a header, then every row as it was hashed, a line each. */
import { canonicalJson } from '../../src/ledger/canonicalJson.ts'
import { NO_ROW, rowLine } from '../../src/ledger/rows.ts'
import { EXPORT_FORMAT } from '../../src/protocol/ledger.ts'
import type { ExportHeader } from '../../src/protocol/ledger.ts'
import type { LedgerStore } from '../db/ledgerStore.ts'

/** Rows that are in memory at a time. */
const PAGE = 1000

/** Pieces of the file; rows that come while it is written are not in it. */
export async function* exportLines(store: LedgerStore): AsyncGenerator<string> {
  const { seq, hash } = await store.head()
  const header: ExportHeader = { format: EXPORT_FORMAT, version: 1, rows: seq, head: seq === 0 ? NO_ROW : hash }
  yield `${canonicalJson(header)}\n`
  for (let from = 1; from <= seq; from += PAGE) {
    const rows = await store.rows(from, Math.min(PAGE, seq - from + 1))
    yield `${rows.map(rowLine).join('\n')}\n`
  }
}
