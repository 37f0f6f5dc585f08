/** Owns what every ledger store must do, whichever database keeps it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Store } from '../../../server/db/store.ts'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { NO_ROW, rowHash } from '../../../src/ledger/rows.ts'
import type { LedgerEntry, SealEntry } from '../../../src/protocol/ledger.ts'
import { hex, START, work } from '../ledger/sampleLedger.ts'
import { checkpoint, dataset, metric, run } from './store.compliance.ts'

const seal = (epoch: number, last: number): SealEntry => ({
  kind: 'seal',
  epoch,
  first: 1,
  last,
  root: hex(epoch),
  accounts: 2,
  credit: '3',
  unit: 'ms',
  clock: START + epoch,
})

export function describeLedgerStore(name: string, open: () => Promise<{ store: Store; clean(): Promise<void> }>): void {
  describe(`ledger: ${name}`, () => {
    let store: Store
    let clean: () => Promise<void>
    beforeEach(async () => {
      ;({ store, clean } = await open())
      await store.insertDataset(dataset())
      await store.insertRun(run(), checkpoint())
    })
    afterEach(async () => {
      await store.close()
      await clean()
    })
    const kept = () => store.ledger.rows(1, 10_000)

    it('chains rows from 64 zeros on, and hands them out in order', async () => {
      const { ledger } = store
      expect(await ledger.head()).toEqual({ seq: 0, at: 0, hash: NO_ROW })
      const [one, two] = await ledger.append([work(), work({ step: 2 })], START)
      expect(one).toMatchObject({ seq: 1, at: START, prev: NO_ROW, entry: expect.stringMatching(/^\{"credit":/) })
      expect(two).toMatchObject({ seq: 2, prev: one!.hash })
      expect(two!.hash).toBe(rowHash(nodeSha256, 2, START, one!.hash, two!.entry))
      expect(await kept()).toEqual([one, two])
      expect(await ledger.rows(2, 10)).toEqual([two])
      expect(await ledger.rows(1, 1)).toEqual([one])
      expect(await ledger.rows(3, 1)).toEqual([])
      expect(await ledger.head()).toEqual({ seq: 2, at: START, hash: two!.hash })
    })

    it('never lets time run backwards', async () => {
      await store.ledger.append([work()], START)
      const [row] = await store.ledger.append([work({ step: 2 })], START - 5000)
      expect(row!.at).toBe(START)
    })

    it('appends all of a batch or nothing, and nothing that is no entry', async () => {
      const bad = { ...work(), credit: '1.5' } as LedgerEntry
      await expect(store.ledger.append([work(), bad], START)).rejects.toThrow()
      await expect(store.ledger.append([{ ...work(), extra: 1 } as LedgerEntry], START)).rejects.toThrow()
      expect(await kept()).toEqual([])
    })

    it('refuses what was checked against another last row', async () => {
      await store.ledger.append([work()], START, 0)
      await expect(store.ledger.append([work({ step: 2 })], START, 0)).rejects.toMatchObject({ code: 'ledger.moved' })
      await expect(store.ledger.seal(seal(1, 1), [], START, 0)).rejects.toMatchObject({ code: 'ledger.moved' })
      expect(await kept()).toHaveLength(1)
    })

    it('lets one after the other append when many ask at once', async () => {
      const asked = Array.from({ length: 50 }, (_, i) => store.ledger.append([work({ step: i + 1 })], START))
      await Promise.all([...asked, store.commitStep('r1', metric(1), [work({ run: 'r1' })])])
      const rows = await kept()
      expect(rows.map(({ seq }) => seq)).toEqual(Array.from({ length: 51 }, (_, i) => i + 1))
      for (const [i, row] of rows.entries()) expect(row.prev).toBe(rows[i - 1]?.hash ?? NO_ROW)
    })

    it('keeps the work of a step with its commit, and none of a step that is refused', async () => {
      await store.commitStep('r1', metric(1), [work(), work({ stage: 1 })])
      await expect(store.commitStep('r1', metric(1), [work()])).rejects.toMatchObject({ code: 'store.step_order' })
      const bad = { ...work({ step: 2 }), device: 'short' } as LedgerEntry
      await expect(store.commitStep('r1', metric(2), [work({ step: 2 }), bad])).rejects.toThrow()
      expect((await store.run('r1'))!.step).toBe(1)
      expect(await store.metrics('r1')).toHaveLength(1)
      expect(await kept()).toHaveLength(2)
      await store.commitStep('r1', metric(2), [work({ step: 2 })])
      await store.commitStep('r1', metric(3))
      await store.rollBack('r1', 0)
      // Work is paid whatever becomes of its step.
      expect(await kept()).toHaveLength(3)
    })

    it('seals each epoch once and knows the leaves of every one', async () => {
      const { ledger } = store
      const [a, b, c] = ['device:a', 'device:b', 'device:c']
      await ledger.append([work()], START)
      const changes = [
        { account: b, leaf: 'b1' },
        { account: a, leaf: 'a1' },
      ]
      await ledger.seal(seal(1, 1), changes, START, 1)
      await expect(ledger.seal(seal(1, 2), [], START, 2)).rejects.toThrow()
      await ledger.append([work({ step: 2 })], START)
      await ledger.seal(
        seal(2, 3),
        [
          { account: b, leaf: null },
          { account: c, leaf: 'c2' },
        ],
        START,
        3,
      )
      await ledger.seal(seal(3, 4), [{ account: b, leaf: 'b3' }], START, 4)
      expect(await ledger.leaves(1)).toEqual(['a1', 'b1'])
      expect(await ledger.leaves(2)).toEqual(['a1', 'c2'])
      expect(await ledger.leaves(3)).toEqual(['a1', 'b3', 'c2'])
      expect((await ledger.seals(null, 10)).map(({ seq }) => seq)).toEqual([5, 4, 2])
      expect((await ledger.seals(3, 1)).map(({ seq }) => seq)).toEqual([4])
      expect(await kept()).toHaveLength(5)
    })
  })
}
