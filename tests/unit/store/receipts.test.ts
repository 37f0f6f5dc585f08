import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { receiptFile } from '../../../src/agent/receiptFile.ts'
import { receiptsOf } from '../../../src/protocol/receipt.ts'
import { memoryReceipts, worth, type KeptReceipt } from '../../../src/store/receipts.ts'
import { SignedReceipts } from '../../../src/stage/signedReceipts.ts'

const entry = (microbatch: number) => ({
  microbatch,
  up: null,
  down: null,
  activationTaken: null,
  activationMade: null,
  gradientTaken: null,
  gradientMade: null,
})

function signed(step: number, microbatches: number, about: { generation?: number; leases?: number } = {}) {
  const whole = { run: 'r1', generation: 1, step, leases: 1, stage: 0, device: 'd'.repeat(64), shares: [], ...about }
  const entries = Array.from({ length: microbatches }, (_, m) => entry(m))
  return receiptsOf(whole, entries).map((receipt) => ({ receipt, signature: 'a'.repeat(128) }))
}

function kept(step: number, at: number, microbatches = 2): KeptReceipt {
  const about = { kind: 'work', run: 'r1', generation: 1, step, stage: 0, device: 'd', receipt: null } as const
  const work = [{ ...about, microbatches, credit: String(1000 * microbatches) }]
  const error = { code: 'receipt.mismatch', message: '', remedy: '' }
  const refused = [{ microbatches: 1, error }]
  return {
    at,
    credited: { type: 'credited', runId: 'r1', step, stage: 0, work, refused },
    signed: signed(step, microbatches),
  }
}

const [MONDAY, TUESDAY] = [Date.UTC(2026, 10, 30, 23, 59), Date.UTC(2026, 11, 1, 0, 1)]

describe('receipts that are kept', () => {
  it('are the newest, while their days’ sums hold all', async () => {
    const store = memoryReceipts(3)
    for (let step = 1; step <= 5; step++) await store.add(kept(step, step < 3 ? MONDAY : TUESDAY))
    expect((await store.latest(10)).map(({ credited }) => credited.step)).toEqual([5, 4, 3])
    expect(await store.days()).toEqual([
      { day: '2026-12-01', steps: 3, microbatches: 6, refused: 3, credit: 6000n },
      { day: '2026-11-30', steps: 2, microbatches: 4, refused: 2, credit: 4000n },
    ])
  })

  it('hold what was signed, unless that is very long', async () => {
    const store = memoryReceipts()
    await store.add(kept(1, MONDAY, 64))
    await store.add(kept(2, MONDAY, 65))
    const [long, short] = await store.latest(2)
    expect(short!.signed[0]!.receipt.microbatches).toHaveLength(64)
    expect(long!.signed).toEqual([])
  })

  it('lie in the agent’s folder, a line each, the older half in another file', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'skein-receipts-'))
    try {
      await receiptFile(folder, 2).add(kept(1, MONDAY))
      // Another start of the agent.
      const file = receiptFile(folder, 2)
      await Promise.all([2, 3].map((step) => file.add(kept(step, MONDAY))))
      const steps = async (name: string) =>
        (await readFile(path.join(folder, name), 'utf8'))
          .trim()
          .split('\n')
          .map((line) => (JSON.parse(line) as KeptReceipt).credited.step)
      expect(await steps('receipts.jsonl')).toEqual([3])
      expect(await steps('receipts.old.jsonl')).toEqual([1, 2])
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('are worth what their accepted work is', () => {
    expect(worth(kept(1, MONDAY).credited)).toEqual({ microbatches: 2, refused: 1, credit: 2000n })
  })
})

describe('what was signed of late', () => {
  it('is taken once, in the last version of the leases, with all its parts', () => {
    const drawer = new SignedReceipts()
    for (const receipt of [...signed(1, 3), ...signed(1, 1030, { leases: 2 }), ...signed(2, 1)]) drawer.add(receipt)
    expect(drawer.take('r1', 1).map(({ receipt }) => [receipt.leases, receipt.microbatches.length])).toEqual([
      [2, 1024],
      [2, 6],
    ])
    expect(drawer.take('r1', 1)).toEqual([])
    expect(drawer.take('r2', 2)).toEqual([])
  })

  it('is of a few steps alone', () => {
    const drawer = new SignedReceipts()
    for (let step = 1; step <= 9; step++) for (const receipt of signed(step, 1)) drawer.add(receipt)
    expect(drawer.take('r1', 5)).toEqual([])
    expect(drawer.take('r1', 9)).toHaveLength(1)
  })
})
