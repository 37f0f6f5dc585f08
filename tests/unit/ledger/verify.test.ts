/** Proves that an export is checked to the last byte: any change is found, and found where it is. */
import { describe, expect, it } from 'vitest'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { canonicalJson } from '../../../src/ledger/canonicalJson.ts'
import { chain, EMPTY_HEAD, NO_ROW, rowLine } from '../../../src/ledger/rows.ts'
import { portableSha256 } from '../../../src/ledger/sha256.ts'
import { ExportVerifier, isFault } from '../../../src/ledger/verify.ts'
import type { LedgerEntry, LedgerRow } from '../../../src/protocol/ledger.ts'
import { hex, sampleLines, seeded } from './sampleLedger.ts'

const SEED = 20_261_129
const lines = [...sampleLines(SEED, { rows: 3000, devices: 40, epoch: 100 })].map(({ line }) => line)
const rowAt = (seq: number) => JSON.parse(lines[seq - 1]!) as LedgerRow
const headerOf = (rows: readonly string[]) =>
  canonicalJson({
    format: 'skein-ledger',
    version: 1,
    rows: rows.length,
    head: rows.length ? (JSON.parse(rows.at(-1)!) as LedgerRow).hash : NO_ROW,
  })
const exported = (rows = lines, header = headerOf(rows)) => `${[header, ...rows].join('\n')}\n`

/** Checks a file as its readers do: bytes to text, text to lines. */
function verify(file: string | Uint8Array, sha256 = nodeSha256) {
  const text = typeof file === 'string' ? file : new TextDecoder('utf-8', { ignoreBOM: true }).decode(file)
  const verifier = new ExportVerifier(sha256)
  const last = text.endsWith('\n') || text === '' ? -1 : undefined
  for (const line of text.split('\n').slice(0, last)) if (verifier.push(line)) break
  return verifier.end()
}

/** The rows from `seq` on again, with other words in them and every hash made right. */
function rewritten(change: (entry: LedgerEntry, seq: number) => LedgerEntry): string[] {
  let head = EMPTY_HEAD
  return lines.map((line) => {
    const { seq, at, entry } = JSON.parse(line) as LedgerRow
    const row = chain(nodeSha256, head, change(entry, seq), at)
    head = row
    return rowLine(row)
  })
}

describe('an export', () => {
  it('of every kind of row is sound, by either hash, and adds up', () => {
    const kinds = new Set(lines.map((line) => (JSON.parse(line) as LedgerRow).entry.kind))
    expect([...kinds].sort()).toEqual(
      ['audit', 'bind', 'conviction', 'payout', 'price', 'revoke', 'seal', 'standby', 'waiver', 'work'].sort(),
    )
    const outcome = verify(exported())
    expect(outcome).toMatchObject({ rows: 3000, head: rowAt(3000).hash })
    expect(verify(exported(), portableSha256)).toEqual(outcome)
    const planck = lines.map((line) => (JSON.parse(line) as LedgerRow).entry).filter((entry) => entry.kind === 'payout')
    expect(outcome).toMatchObject({ paid: planck.reduce((sum, entry) => sum + BigInt(entry.planck), 0n) })
  })

  it('of no rows is sound, and an empty file is no export', () => {
    expect(verify(exported([]))).toMatchObject({ rows: 0, head: NO_ROW })
    expect(verify('')).toMatchObject({ code: 'export.empty' })
  })

  it('with one flipped bit anywhere is refused at the row that holds it', () => {
    const small = [...sampleLines(SEED, { rows: 150, devices: 10, epoch: 40 })].map(({ line }) => line)
    expect(verify(exported(small))).toMatchObject({ rows: 150, epochs: 3 })
    const sound = new TextEncoder().encode(exported(small))
    const ends = [...sound.entries()].filter(([, byte]) => byte === 10).map(([i]) => i)
    const random = seeded(SEED)
    for (let trial = 0; trial < 400; trial++) {
      const position = Math.floor(random() * sound.length)
      const bit = Math.floor(random() * 8)
      const damaged = sound.slice()
      damaged[position]! ^= 1 << bit
      const outcome = verify(damaged)
      const line = ends.findIndex((end) => position <= end)
      const words = `seed ${SEED}, trial ${trial}: bit ${bit} of byte ${position}, in line ${line}`
      expect(isFault(outcome), words).toBe(true)
      expect(outcome, words).toMatchObject({ seq: line })
      expect((outcome as { message: string }).message.length, words).toBeGreaterThan(10)
    }
  }, 120_000)

  it.each([
    ['a row missing', lines.toSpliced(1499, 1), 1500, 'export.row_order'],
    ['a row twice', lines.toSpliced(1500, 0, lines[1499]!), 1501, 'export.row_order'],
    ['two rows exchanged', lines.toSpliced(1499, 2, lines[1500]!, lines[1499]!), 1500, 'export.row_order'],
    ['its end missing', lines.slice(0, 2000), 2001, 'export.cut_short'],
  ])('with %s is refused there', (_, rows, seq, code) => {
    expect(verify(exported(rows, headerOf(lines)))).toMatchObject({ seq, code })
  })

  it('with a row more than the header promises is refused', () => {
    expect(verify(exported(lines, headerOf(lines.slice(0, 2999))))).toMatchObject({
      seq: 3000,
      code: 'export.more_rows',
    })
  })

  it('of another format, or with a header of its own, is refused', () => {
    const header = headerOf(lines)
    for (const wrong of [header.replace('"version":1', '"version":2'), ` ${header}`, lines[0]!, 'x'])
      expect(verify(exported(lines, wrong))).toMatchObject({ seq: 0, code: 'export.header' })
    const other = headerOf(lines).replace(rowAt(3000).hash, hex(1))
    expect(verify(exported(lines, other))).toMatchObject({ seq: 0, code: 'export.head' })
  })

  it('with a row in other JSON of the same meaning, or without end, is refused', () => {
    const spaced = lines.with(9, lines[9]!.replace('"seq":', '"seq": '))
    expect(verify(exported(spaced, headerOf(lines)))).toMatchObject({ seq: 10, code: 'export.row_bytes' })
    const long = lines.with(9, `${lines[9]!.slice(0, -1)},"x":"${'x'.repeat(20_000)}"}`)
    expect(verify(exported(long, headerOf(lines)))).toMatchObject({ seq: 10, code: 'export.line_too_long' })
  })
})

describe('a forger who makes every hash right', () => {
  const firstOf = (kind: LedgerEntry['kind']) => lines.findIndex((line) => line.includes(`"kind":"${kind}"`)) + 1

  it('raises the credit of one row and is refused at the seal after it', () => {
    const target = firstOf('work')
    const rows = rewritten((entry, seq) =>
      seq === target && entry.kind === 'work' ? { ...entry, credit: `${entry.credit}0` } : entry,
    )
    expect(verify(exported(rows))).toMatchObject({ seq: firstOf('seal'), code: 'ledger.seal_credit' })
  })

  it('gives the credit of one row to another device and is refused at the seal after it', () => {
    const target = firstOf('work')
    const rows = rewritten((entry, seq) =>
      seq === target && entry.kind === 'work' ? { ...entry, device: hex(39) } : entry,
    )
    expect(verify(exported(rows))).toMatchObject({ seq: firstOf('seal'), code: 'ledger.seal_root' })
  })

  it('pays a planck more than is owed and is refused there', () => {
    const target = firstOf('payout')
    const rows = rewritten((entry, seq) =>
      seq === target && entry.kind === 'payout' ? { ...entry, planck: String(BigInt(entry.planck) + 1n) } : entry,
    )
    expect(verify(exported(rows))).toMatchObject({ seq: target, code: 'ledger.payout_exceeds' })
  })

  it('sets a clock back and is refused there', () => {
    let head = EMPTY_HEAD
    const rows = lines.map((line, i) => {
      const { at, entry } = JSON.parse(line) as LedgerRow
      // The chain itself would not let time run backwards.
      const row = chain(nodeSha256, i === 1999 ? { ...head, at: 0 } : head, entry, i === 1999 ? 1 : at)
      head = row
      return rowLine(row)
    })
    expect(verify(exported(rows))).toMatchObject({ seq: 2000, code: 'export.row_time' })
  })
})
