/** Owns what every store of payouts must do, whichever database keeps it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Hex, Inclusion } from '../../../server/chain/port.ts'
import type { PayoutStore } from '../../../server/db/payoutStore.ts'
import type { Attempt, PaidEntry } from '../../../server/payouts/types.ts'

export interface OpenPayouts {
  store: PayoutStore
  /** What the ledger got. */
  ledger(): PaidEntry[]
  /** Makes the ledger refuse. */
  breakLedger(): void
  /** The same database, opened anew. */
  reopen(): Promise<PayoutStore>
  clean(): Promise<void>
}

const hash = (n: number): Hex => `0x${n.toString(16).padStart(64, '0')}`
const payer = { genesis: hash(1), hot: 'aa'.repeat(32) }
/** Beyond what SQLite's integers and JavaScript's numbers hold. */
const HUGE = 2n ** 100n + 1n
const draft = (epoch = 3) => ({
  epoch,
  root: 'dd'.repeat(32),
  refund: null,
  transfers: Array.from({ length: 501 }, (_, n) => ({ wallet: hash(n).slice(2), planck: HUGE + BigInt(n) })),
})
const total = draft().transfers.reduce((sum, { planck }) => sum + planck, 0n)
const attempt = (number = 1): Attempt => ({
  number,
  bytes: `0x00${number}0`,
  hash: hash(100 + number),
  nonce: 7,
  birth: { number: 10, hash: hash(10) },
  death: 74,
  specVersion: 900,
})
const inclusion: Inclusion = {
  block: { number: 12, hash: hash(12) },
  index: 2,
  success: true,
  completed: true,
  transfers: [],
  remarks: [],
  error: null,
}
const entry: PaidEntry = {
  kind: 'payout',
  epoch: 3,
  wallet: hash(1).slice(2),
  planck: '5',
  block: hash(12).slice(2),
  extrinsic: hash(101).slice(2),
}
const refused = { code: 'payout.state' }

export function describePayoutStore(name: string, open: () => Promise<OpenPayouts>): void {
  describe(name, () => {
    let opened: OpenPayouts
    let store: PayoutStore
    beforeEach(async () => {
      opened = await open()
      store = opened.store
    })
    afterEach(() => opened.clean())

    it('keeps a frozen batch, its order and its amounts to the last unit', async () => {
      expect(await store.open()).toBeNull()
      const frozen = await store.freeze(draft(), payer, 5)
      const kept = await (await opened.reopen()).open()
      expect(kept).toEqual(frozen)
      expect(kept).toMatchObject({ ...draft(), ...payer, attempts: 0, attempt: null })
    })

    it('keeps the bytes of an attempt', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      await store.addAttempt(id, attempt(), 6)
      expect(await (await opened.reopen()).open()).toMatchObject({ attempts: 1, attempt: attempt() })
    })

    it('has one batch under way at a time', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      await expect(store.freeze(draft(), payer, 6)).rejects.toMatchObject(refused)
      expect((await store.open())!.id).toBe(id)
      expect(await store.batches(10, null, null)).toHaveLength(1)
    })

    it('refuses a second attempt beside one that can still be included', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      await expect(store.addAttempt(id, attempt(2), 6)).rejects.toMatchObject(refused)
      await store.addAttempt(id, attempt(1), 6)
      await expect(store.addAttempt(id, attempt(2), 7)).rejects.toMatchObject(refused)
      await store.expire(id, 1, 8)
      expect(await store.open()).toMatchObject({ attempts: 1, attempt: null })
      await expect(store.expire(id, 1, 8)).rejects.toMatchObject(refused)
      await store.addAttempt(id, attempt(2), 9)
      expect(await store.open()).toMatchObject({ attempts: 2, attempt: attempt(2) })
    })

    it('settles once, with the ledger', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      await expect(store.settle(id, attempt(), inclusion, [entry], 7)).rejects.toMatchObject(refused)
      await store.addAttempt(id, attempt(), 6)
      await expect(store.settle(id, attempt(2), inclusion, [entry], 7)).rejects.toMatchObject(refused)
      await store.settle(id, attempt(), inclusion, [entry], 7)
      await expect(store.settle(id, attempt(), inclusion, [entry], 8)).rejects.toMatchObject(refused)
      await expect(store.release(id, 'no', inclusion, 8)).rejects.toMatchObject(refused)
      expect(opened.ledger()).toEqual([entry])
      expect(await store.open()).toBeNull()
      expect(await store.batches(10, null, null)).toEqual([
        {
          id,
          epoch: 3,
          root: draft().root,
          run: null,
          state: 'paid',
          detail: '',
          total,
          transfers: 501,
          attempts: 1,
          lastAttempt: { hash: hash(101), nonce: 7, death: 74 },
          block: inclusion.block,
          extrinsic: hash(101),
          createdAt: 5,
          changedAt: 7,
        },
      ])
    })

    it('keeps refunds apart from payouts, and by their runs', async () => {
      const refund = { run: 'r1', from: 'ab'.repeat(32), rest: 'ac'.repeat(32) }
      const transfers = [{ wallet: hash(1).slice(2), planck: HUGE }]
      const of = { epoch: 0, root: draft().root, transfers, refund }
      const { id } = await store.freeze(of, { ...payer, hot: refund.from }, 5)
      store = await opened.reopen()
      expect(await store.open()).toMatchObject({ id, hot: refund.from, refund, transfers })
      expect(await store.frozen()).toEqual(new Map())
      expect(await store.frozenInEpoch(0)).toBe(0n)
      expect(await store.refundsOf('r1')).toMatchObject([{ id, run: 'r1', state: 'frozen' }])
      await store.release(id, 'refused', null, 6)
      expect(await store.refundsOf('r1')).toEqual([])
      expect(await store.refundsOf('r2')).toEqual([])
    })

    it('settles nothing when the ledger refuses', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      await store.addAttempt(id, attempt(), 6)
      opened.breakLedger()
      await expect(store.settle(id, attempt(), inclusion, [entry], 7)).rejects.toThrow('the ledger refuses')
      expect(await store.open()).toMatchObject({ id, attempt: attempt() })
      expect(opened.ledger()).toEqual([])
    })

    it('gives amounts back only when nothing can be paid any more', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      expect((await store.frozen()).get(hash(500).slice(2))).toBe(HUGE + 500n)
      await store.addAttempt(id, attempt(), 6)
      await expect(store.release(id, 'too soon', null, 7)).rejects.toMatchObject(refused)
      await store.release(id, 'It failed.', { ...inclusion, success: false }, 7)
      expect(await store.frozen()).toEqual(new Map())
      expect(await store.frozenInEpoch(3)).toBe(0n)
      expect((await store.batches(10, null, null))[0]).toMatchObject({ state: 'released', detail: 'It failed.' })
      expect(opened.ledger()).toEqual([])
    })

    it('keeps amounts of a disputed batch set aside', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      expect(await store.disputed()).toBeNull()
      await store.dispute(id, 'Look.', null, 7)
      expect(await store.disputed()).toBe(id)
      expect(await store.open()).toBeNull()
      expect((await store.frozen()).size).toBe(501)
    })

    it('counts what an epoch has set aside, and no other', async () => {
      const first = await store.freeze(draft(3), payer, 5)
      await store.addAttempt(first.id, attempt(), 6)
      await store.settle(first.id, attempt(), inclusion, [], 7)
      await store.freeze(draft(4), payer, 8)
      expect([await store.frozenInEpoch(3), await store.frozenInEpoch(4), await store.frozenInEpoch(5)]).toEqual([
        total,
        total,
        0n,
      ])
    })

    it('finds the batches of a wallet and its amounts', async () => {
      const { id } = await store.freeze(draft(), payer, 5)
      const wallet = hash(2).slice(2)
      expect((await store.batches(10, null, wallet)).map((record) => record.id)).toEqual([id])
      expect(await store.batches(10, null, hash(9999).slice(2))).toEqual([])
      expect(await store.batches(10, id, null)).toEqual([])
      expect(await store.amountsOf(wallet, [id])).toEqual(new Map([[id, HUGE + 2n]]))
    })
  })
}
