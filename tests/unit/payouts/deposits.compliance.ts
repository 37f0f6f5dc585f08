/** Owns what every store of deposits must do, whichever database keeps it. */
import { expect, it } from 'vitest'
import type { DepositStore } from '../../../server/db/depositStore.ts'

const [run, other, bob, eve] = ['a', 'b', 'c', 'd'].map((digit) => digit.repeat(64)) as [string, string, string, string]
const HUGE = 2n ** 70n
const deposit = (wallet: string, from: string, planck: bigint, position: number) => ({ wallet, from, planck, position })

export function describeDepositStore(name: string, open: () => Promise<DepositStore>): void {
  it(`${name} keeps who sent what, once, and how far the chain was looked at`, async () => {
    const store = await open()
    expect(await store.scanned()).toBeNull()
    expect(await store.senders(run, 0)).toEqual([])
    const first = [deposit(run, bob, HUGE, 2), deposit(run, eve, 5n, 7), deposit(other, eve, 9n, 9)]
    await store.record(10, first)
    await store.record(10, first)
    await store.record(12, [deposit(run, bob, 1n, 2)])
    await store.record(15, [])
    expect(await store.scanned()).toBe(15)
    expect(await store.senders(run, 0)).toEqual([
      { wallet: bob, planck: HUGE + 1n },
      { wallet: eve, planck: 5n },
    ])
    expect(await store.senders(run, 10)).toEqual([{ wallet: bob, planck: 1n }])
    expect(await store.senders(other, 0)).toEqual([{ wallet: eve, planck: 9n }])
  })
}
