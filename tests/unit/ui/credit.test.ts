/** Owns the proof that the pages say of credit, of rows and of payouts what is true here and now. */
import { describe, expect, test } from 'vitest'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import { dayBars } from '../../../src/ui/earnings/dayBars.ts'
import { creditSentence, epochWords, short, extraWords } from '../../../src/ui/words/credit.ts'
import { entryCredit, entryLabels, entryWords } from '../../../src/ui/words/ledgerRow.ts'

const plain = (text: string) => text.replaceAll('\u00a0', ' ')
const hash = 'ab'.repeat(32)

describe('a state of credit', () => {
  const hourly = { unit: 'ms', length: 3_600_000 } as const

  test('says when it is sealed', () => {
    expect(creditSentence('pending', { bound: false, epochLength: hourly, pays: null })).toContain('every hour')
    expect(plain(epochWords({ unit: 'ms', length: 600_000 }))).toBe('every 10 min')
    expect(epochWords({ unit: 'block', length: 1200 })).toBe('every 1,200 finalized blocks')
  })

  test.each([
    [{ bound: false, pays: true }, 'Connect a wallet'],
    [{ bound: true, pays: true }, 'waits for the next payout'],
    [{ bound: true, pays: false }, 'it has no chain configured'],
    [{ bound: false, pays: false }, 'it has no chain configured'],
  ])('promises no payment that cannot come: %o', (where, said) => {
    const sentence = creditSentence('verified', { ...where, epochLength: hourly })
    expect(sentence).toContain(said)
    if (!where.pays) expect(sentence).not.toMatch(/wallet|payout/)
  })
})

test('a hash is shown by its two ends', () => {
  expect(short(hash)).toBe('abababab…abab')
  expect(short('r1')).toBe('r1')
})

describe('a row of the ledger', () => {
  const rows: [LedgerEntry, string][] = [
    [
      {
        kind: 'work',
        run: 'r1',
        generation: 0,
        step: 1200,
        stage: 0,
        device: hash,
        microbatches: 1,
        credit: '5',
        receipt: null,
      },
      '1 microbatch of step 1,200, stage 1 of run r1, device abababab…abab',
    ],
    [
      { kind: 'standby', run: 'r1', step: 7, stage: 1, device: hash, credit: '2' },
      'through step 7, stage 2 of run r1, device abababab…abab',
    ],
    [{ kind: 'bind', device: hash, wallet: hash, proof: hash }, 'device abababab…abab earns for wallet abababab…abab'],
    [
      { kind: 'waiver', device: null, reason: 'a bad build' },
      'all that was voided since the last seal is given back: a bad build',
    ],
    [
      { kind: 'price', run: 'r1', planckPerPflop: '1000000' },
      'a PFLOP of run r1 is worth 1,000,000 planck from here on',
    ],
    [
      { kind: 'payout', epoch: 3, wallet: hash, planck: '12345678901234567890', block: hash, extrinsic: hash },
      '12,345,678,901,234,567,890 planck to wallet abababab…abab for epoch 3, in block abababab…abab',
    ],
  ]

  test.each(rows)('is told in a sentence: %o', (entry, said) => {
    expect(plain(entryWords(entry))).toBe(said)
    expect(entryLabels[entry.kind]).toBeTruthy()
  })

  test('has its credit in a column of its own, where it has any', () => {
    expect(rows.map(([entry]) => entryCredit(entry))).toEqual([5n, 2n, null, null, null, null])
  })
})

describe('credit by day', () => {
  const days = [
    { day: '2026-03-02', earned: '50' },
    { day: '2026-02-27', earned: '200' },
    { day: '2026-01-01', earned: '900' },
  ]

  test('has the days on which nothing was earned, and bars as long as the best of those shown', () => {
    expect(dayBars(days, 4)).toEqual([
      { day: '2026-03-02', earned: 50n, share: 0.25 },
      { day: '2026-03-01', earned: 0n, share: 0 },
      { day: '2026-02-28', earned: 0n, share: 0 },
      { day: '2026-02-27', earned: 200n, share: 1 },
    ])
  })

  test('goes back to the first day and no further', () => {
    const all = dayBars(days, Infinity)
    expect([all.length, all.at(-1)]).toEqual([61, { day: '2026-01-01', earned: 900n, share: 1 }])
    expect(dayBars([], 14)).toEqual([])
  })
})

test('what of the credit is for standing by or for audits is said where there is any', () => {
  expect(extraWords({ standby: '0', audit: '0' })).toBe('')
  expect(plain(extraWords({ standby: '2000000000', audit: '0' }))).toBe(
    'Of it, 2.00 GFLOP for standing by, at 2 % of a member’s credit at most.',
  )
  expect(plain(extraWords({ standby: '1000000', audit: '3000000' }))).toContain('computing again what others')
})
