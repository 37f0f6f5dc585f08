/** Proves who gets what of a deposit that was not spent: never more than is there, nothing that could not be sent, nothing left behind. */
import { expect, it } from 'vitest'
import { planRefund, type RefundInput } from '../../../server/payouts/refund.ts'
import { Random } from '../../sim/clock.ts'

const [a, b, c, hot] = ['aa', 'bb', 'cc', 'ff'].map((byte) => byte.repeat(32)) as [string, string, string, string]
const plan = (more: Partial<RefundInput> = {}) =>
  planRefund({
    ...{ balance: 1000n, due: 0n, fee: 10n, hot, existentialDeposit: 50n },
    senders: [
      { wallet: a, planck: 600n },
      { wallet: b, planck: 400n },
    ],
    balances: [100n, 100n],
    ...more,
  })

it('what was earned is the hot account’s, the rest goes back in proportion, and who sent most takes what is left', () => {
  expect(plan({ due: 200n })).toEqual({
    transfers: [
      { wallet: hot, planck: 200n },
      { wallet: b, planck: 316n },
    ],
    rest: a,
  })
  expect(plan()).toEqual({ transfers: [{ wallet: b, planck: 396n }], rest: a })
})

it('a part that is dust to an account that is not there goes with the rest, and to one that is there it is sent', () => {
  const senders = [
    { wallet: a, planck: 960n },
    { wallet: b, planck: 40n },
  ]
  expect(plan({ senders, balances: [100n, 0n] })).toEqual({ transfers: [], rest: a })
  expect(plan({ senders, balances: [100n, 1n] })).toEqual({ transfers: [{ wallet: b, planck: 39n }], rest: a })
})

it('where nothing worth sending is left, all goes to the hot account; where nothing is at all, or nobody known, nothing does', () => {
  expect(plan({ due: 950n })).toEqual({ transfers: [], rest: hot })
  expect(plan({ balance: 60n })).toBeNull()
  expect(plan({ balance: 0n })).toBeNull()
  expect(plan({ senders: [], balances: [] })).toBeNull()
  expect(plan({ senders: [], balances: [], due: 990n })).toEqual({ transfers: [], rest: hot })
})

it('the operator’s own deposit is not paid twice', () => {
  const senders = [
    { wallet: hot, planck: 700n },
    { wallet: c, planck: 300n },
  ]
  expect(plan({ senders, due: 200n })).toEqual({ transfers: [{ wallet: c, planck: 237n }], rest: hot })
})

it('never promises more than is there, and leaves the address alive until the last transfer', () => {
  const random = new Random(7)
  for (let n = 0; n < 2000; n++) {
    const some = (most: number) => BigInt(Math.floor(random.next() * most))
    const senders = [a, b, c].slice(0, 1 + Number(some(3))).map((wallet) => ({ wallet, planck: some(1000) + 1n }))
    const input = { balance: some(3000), due: some(2000), fee: some(40), senders, balances: senders.map(() => some(2)) }
    const found = plan(input)
    if (!found) continue
    const named = found.transfers.reduce((sum, { planck }) => sum + planck, 0n)
    if (found.transfers.length > 0) expect(input.balance - input.fee - named).toBeGreaterThanOrEqual(50n)
    expect(found.transfers.some(({ wallet }) => wallet === found.rest)).toBe(false)
  }
})
