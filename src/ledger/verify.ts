/** Owns the check of a whole export: every byte of every row, the chain, the rules, every seal and every payout. */
import type { z } from 'zod'
import { SkeinError } from '../protocol/errors.ts'
import { exportHeaderSchema, ledgerRowSchema } from '../protocol/ledger.ts'
import type { ExportHeader, LedgerRow } from '../protocol/ledger.ts'
import { emptyLedger } from './accounts.ts'
import type { LedgerState } from './accounts.ts'
import { canonicalJson } from './canonicalJson.ts'
import { applyRow } from './replay.ts'
import { rowHash, rowLine } from './rows.ts'
import type { Sha256 } from './sha256.ts'

/** Characters of a line at most; the longest row, a conviction, has about 4,000. */
export const MAX_LINE = 16_384

/** The first thing that is wrong; everything before it is sound. */
export interface ExportFault {
  /** 0 for the header. */
  seq: number
  code: string
  message: string
}

export interface ExportSummary {
  rows: number
  /** The hash of the last row. */
  head: string
  epochs: number
  accounts: number
  /** Accepted credit, in FLOPs. */
  credit: bigint
  /** Planck. */
  paid: bigint
}

/** Takes an export line by line, in order, and remembers of it what the accounts add up to. */
export class ExportVerifier {
  readonly state: LedgerState = emptyLedger()
  readonly #sha256: Sha256
  #header: ExportHeader | null = null
  #fault: ExportFault | null = null

  constructor(sha256: Sha256) {
    this.#sha256 = sha256
  }

  /** @param line without its line feed; @returns what is wrong with it, or with an earlier one */
  push(line: string): ExportFault | null {
    if (this.#fault) return this.#fault
    if (!this.#header) this.#readHeader(line)
    else this.#readRow(line)
    return this.#fault
  }

  /** Call it after the last line. @returns what is wrong, or what the sound ledger adds up to */
  end(): ExportFault | ExportSummary {
    const { head, seals, credit, accounts } = this.state
    if (!this.#header) this.#wrong('export.empty', 'There is no header: nothing was exported.', 0)
    else if (head.seq !== this.#header.rows)
      this.#wrong('export.cut_short', `The header promises ${this.#header.rows} rows; row ${head.seq} is the last.`)
    else if (head.hash !== this.#header.head)
      this.#wrong('export.head', `The last row's hash is ${head.hash}; the header says ${this.#header.head}.`, 0)
    if (this.#fault) return this.#fault
    let paid = 0n
    let holders = 0
    for (const account of accounts.values()) {
      paid += account.paid
      if (account.earned > 0n || account.paid > 0n) holders += 1
    }
    return { rows: head.seq, head: head.hash, epochs: seals.length, accounts: holders, credit, paid }
  }

  #wrong(code: string, message: string, seq = this.state.head.seq + 1): void {
    this.#fault ??= { seq, code, message }
  }

  #readHeader(line: string): void {
    const parsed = exportHeaderSchema.safeParse(readJson(line))
    if (!parsed.success) return this.#wrong('export.header', `The first line is no header: ${told(parsed.error)}`, 0)
    if (canonicalJson(parsed.data) !== line)
      return this.#wrong('export.header', 'The header is not written as this version writes it.', 0)
    this.#header = parsed.data
  }

  #readRow(line: string): void {
    const { head } = this.state
    const seq = head.seq + 1
    if (head.seq >= this.#header!.rows)
      return this.#wrong('export.more_rows', `The header promises ${head.seq} rows; there is another.`)
    if (line.length > MAX_LINE)
      return this.#wrong('export.line_too_long', `The row has ${line.length} characters; none has over ${MAX_LINE}.`)
    const value = readJson(line)
    if (value === undefined) return this.#wrong('export.row_syntax', 'The row is not JSON, or not one row.')
    const parsed = ledgerRowSchema.safeParse(value)
    if (!parsed.success) return this.#wrong('export.row_shape', `The row is not a ledger's: ${told(parsed.error)}`)
    const row = parsed.data
    if (row.seq !== seq) return this.#wrong('export.row_order', `The row says it is row ${row.seq}; row ${seq} is due.`)
    if (row.prev !== head.hash)
      return this.#wrong('export.row_prev', `prev is ${row.prev}; row ${head.seq} has the hash ${head.hash}.`)
    this.#check(row, line)
  }

  #check(row: LedgerRow, line: string): void {
    const text = { ...row, entry: canonicalJson(row.entry) }
    const hash = rowHash(this.#sha256, row.seq, row.at, row.prev, text.entry)
    if (hash !== row.hash)
      return this.#wrong('export.row_hash', `What the row says has the hash ${hash}; the row gives ${row.hash}.`)
    if (rowLine(text) !== line)
      return this.#wrong('export.row_bytes', 'The row is not written in the one way that has this hash.')
    if (row.at < this.state.head.at)
      return this.#wrong('export.row_time', `The row is of ${row.at}, before the row that it follows.`)
    try {
      applyRow(this.#sha256, this.state, row)
    } catch (caught) {
      if (!(caught instanceof SkeinError)) throw caught
      this.#wrong(caught.code, caught.message)
    }
  }
}

export const isFault = (outcome: ExportFault | ExportSummary): outcome is ExportFault => 'code' in outcome

function readJson(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

const told = (error: z.ZodError): string =>
  error.issues
    .map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`)
    .join('; ')
    .slice(0, 500)
