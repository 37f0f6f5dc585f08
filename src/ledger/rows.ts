/** Owns how rows are chained: a row's hash covers what it says and the hash of the row before it. */
import type { LedgerEntry, LedgerRow } from '../protocol/ledger.ts'
import { canonicalJson } from './canonicalJson.ts'
import type { Sha256 } from './sha256.ts'

const DOMAIN = 'skein-ledger-row-v1\n'
/** `prev` of the first row. */
export const NO_ROW = '0'.repeat(64)

export interface LedgerHead {
  /** 0 when there is no row. */
  seq: number
  at: number
  hash: string
}
export const EMPTY_HEAD: LedgerHead = { seq: 0, at: 0, hash: NO_ROW }

/** A row whose entry is still the canonical text that was hashed. */
export interface RowText {
  seq: number
  at: number
  prev: string
  entry: string
  hash: string
}

/** @param entry the canonical JSON of the entry */
export function rowHash(sha256: Sha256, seq: number, at: number, prev: string, entry: string): string {
  return sha256.text(`${DOMAIN}[${seq},${at},"${prev}",${entry}]`)
}

/** The row that says `entry` after `head`. Time in the ledger never runs backwards, whatever the clock did. */
export function chain(sha256: Sha256, head: LedgerHead, entry: LedgerEntry, at: number): RowText {
  const seq = head.seq + 1
  const notBefore = Math.max(at, head.at)
  const text = canonicalJson(entry)
  return { seq, at: notBefore, prev: head.hash, entry: text, hash: rowHash(sha256, seq, notBefore, head.hash, text) }
}

/** The line of a row in an export, which is its canonical JSON. */
export function rowLine({ seq, at, prev, entry, hash }: RowText): string {
  return `{"at":${at},"entry":${entry},"hash":"${hash}","prev":"${prev}","seq":${seq}}`
}

/** Whether the row's hash is that of what it says. */
export function hashHolds(sha256: Sha256, { seq, at, prev, entry, hash }: LedgerRow): boolean {
  return rowHash(sha256, seq, at, prev, canonicalJson(entry)) === hash
}
