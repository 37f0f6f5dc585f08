/** Owns the proof that the pages ask for the right account, and that a chain out of reach hides nothing. */
import { expect, test } from 'vitest'
import { emptyLedger } from '../../../src/ledger/accounts.ts'
import { accountView } from '../../../src/ledger/view.ts'
import { SkeinError } from '../../../src/protocol/errors.ts'
import type { SealRow } from '../../../src/protocol/ledger.ts'
import type { PayoutBatch } from '../../../src/protocol/payouts.ts'
import type { DeviceView } from '../../../src/protocol/wallet.ts'
import { memoryReceipts } from '../../../src/store/receipts.ts'
import { Earnings, type EarningsSources } from '../../../src/ui/state/earnings.svelte.ts'
import { LedgerBook, ROWS_A_PAGE } from '../../../src/ui/state/ledgerBook.svelte.ts'
import { batchSentence } from '../../../src/ui/words/payout.ts'
import { hex, SampleLedger, work } from '../ledger/sampleLedger.ts'

const device = hex(1)
const wallet = hex(2)
const unbound: DeviceView = {
  deviceId: device,
  wallet: null,
  walletId: null,
  boundAt: null,
  revokedAt: null,
  proof: null,
}
const bound: DeviceView = { ...unbound, wallet: '5Fx', walletId: wallet, boundAt: 1 }
const view = {
  rows: 0,
  head: hex(0),
  lastSeal: null,
  epochLength: { unit: 'ms' as const, length: 3_600_000 },
  fault: null,
}
const batch: PayoutBatch = {
  id: 4,
  epoch: 3,
  run: null,
  root: hex(7),
  state: 'paid',
  detail: '',
  total: '10',
  transfers: 1,
  attempts: 1,
  lastAttempt: { hash: `0x${hex(8)}`, nonce: 0, death: 90 },
  block: { number: 80, hash: `0x${hex(9)}` },
  extrinsic: `0x${hex(8)}`,
  amount: '10',
  createdAt: 0,
  changedAt: 0,
}

const standing = (of: string) => ({
  ...{ device: of, audited: 7, passed: 6, rate: 0.125, watched: 0, convictions: 0, shutUntil: null, reason: null },
})

function earningsOf(of: DeviceView, change: Partial<EarningsSources['payouts']> = {}) {
  const asked: string[] = []
  const earnings = new Earnings({
    api: { runs: () => Promise.reject(new Error('away')) },
    ledger: {
      ledger: () => Promise.resolve(view),
      account(id) {
        asked.push(id)
        return Promise.resolve(accountView(emptyLedger(), id))
      },
    },
    audits: { standing: (device) => Promise.resolve(standing(device)) },
    payouts: {
      chain: () => Promise.resolve(null),
      payouts: () => Promise.resolve({ status: null, batches: [batch] }),
      ...change,
    },
    identity: {
      device: () => Promise.resolve(of),
      devicesOf: (address) => Promise.resolve({ wallet: address, walletId: wallet, devices: [of] }),
    },
    receipts: () => Promise.resolve(memoryReceipts()),
    deviceId: () => Promise.resolve(device),
  })
  return { earnings, asked }
}

test('an unbound device shows its own account and no payouts', async () => {
  const { earnings, asked } = earningsOf(unbound)
  expect(earnings.pays).toBe(null)
  await earnings.refresh()
  expect(asked).toEqual([`device:${device}`])
  expect([earnings.bound, earnings.pays, earnings.batches, earnings.error]).toEqual([false, false, [], null])
})

test('a bound device shows its wallet’s account, and the root that a paid batch carried', async () => {
  const { earnings, asked } = earningsOf(bound)
  await earnings.refresh()
  expect(asked).toEqual([`wallet:${wallet}`])
  expect([earnings.bound, earnings.wallet?.devices.length]).toEqual([true, 1])
  expect(earnings.anchorOf(3)).toEqual({ root: hex(7), block: `0x${hex(9)}` })
  expect(earnings.anchorOf(2)).toBe(null)
})

test('a revoked device shows its own account again, and says that it is revoked', async () => {
  const { earnings, asked } = earningsOf({ ...bound, revokedAt: 5 })
  await earnings.refresh()
  expect([asked, earnings.bound, earnings.revoked]).toEqual([[`device:${device}`], false, true])
})

test('a chain out of reach is told, and hides nothing of what was earned', async () => {
  const away = new SkeinError({ code: 'chain.unreachable', message: 'Away.', remedy: 'Wait.' })
  const { earnings } = earningsOf(bound, { chain: () => Promise.reject(away) })
  await earnings.refresh()
  expect(earnings.error?.code).toBe('chain.unreachable')
  expect([earnings.account?.account, earnings.pays]).toEqual([`wallet:${wallet}`, null])
})

test('a batch under way says whether it can still be included, and that it is signed again only after that', () => {
  const frozen: PayoutBatch = { ...batch, state: 'frozen', block: null, extrinsic: null }
  expect(batchSentence({ ...frozen, attempts: 0, lastAttempt: null }, 80)).toContain('not signed yet')
  expect(batchSentence(frozen, 80)).toContain('before block 90')
  expect(batchSentence({ ...frozen, attempts: 2 }, 90)).toContain('Signature 2 was in no block')
  expect(batchSentence({ ...batch, attempts: 2 }, 95)).toContain('Signed 2 times, included once.')
})

test('the ledger’s rows are turned page by page, and the first page follows the head', async () => {
  const ledger = new SampleLedger()
  const rows = Array.from({ length: 60 }, (_, i) => {
    const entry = work({ step: i + 1 })
    return { ...ledger.add(entry), entry }
  })
  const seals: SealRow[] = []
  let head = 30
  const book = new LedgerBook({
    ledger: () => Promise.resolve({ ...view, rows: head }),
    rows: (from, limit) => Promise.resolve({ rows: rows.slice(from - 1, from - 1 + limit), head }),
    epochs: () => Promise.resolve(seals),
  })
  const shown = () => [book.rows[0]?.seq, book.rows.at(-1)?.seq, book.atHead, book.hasOlderRows]
  await book.refresh()
  expect(shown()).toEqual([30, 30 - ROWS_A_PAGE + 1, true, true])
  await book.older()
  expect(shown()).toEqual([5, 1, false, false])
  head = 60
  await book.refresh()
  expect(shown()).toEqual([5, 1, false, false])
  await book.newer()
  expect(shown()).toEqual([30, 6, false, true])
  await book.newer()
  await book.newer()
  expect(shown()).toEqual([60, 36, true, true])
})
