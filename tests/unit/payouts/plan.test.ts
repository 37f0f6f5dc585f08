import { describe, expect, it } from 'vitest'
import { fundsLacking, planBatch } from '../../../server/payouts/plan.ts'
import type { PlanInput } from '../../../server/payouts/plan.ts'

const wallet = (n: number) => n.toString(16).padStart(64, '0')
const ED = 500n
const input = (amounts: bigint[], change: Partial<PlanInput> = {}): PlanInput => ({
  epoch: 4,
  root: 'ab'.repeat(32),
  owed: amounts.map((planck, n) => ({ wallet: wallet(n), planck })),
  balances: amounts.map(() => 0n),
  existentialDeposit: ED,
  frozenInEpoch: 0n,
  limits: { batch: 200, epochCap: null, least: 0n },
  ...change,
})
const paid = (given: PlanInput) => planBatch(given).draft?.transfers.map(({ planck }) => planck) ?? null

describe('who is paid next', () => {
  it('is nobody when nobody is owed anything', () => {
    expect(planBatch(input([]))).toEqual({ draft: null, idle: null })
    expect(planBatch(input([0n, 0n]))).toEqual({ draft: null, idle: null })
  })

  it('leaves less than the existential deposit to a wallet that exists already', () => {
    expect(paid(input([499n, 500n, 499n], { balances: [0n, 0n, 1n] }))).toEqual([500n, 499n])
    expect(planBatch(input([499n]))).toMatchObject({ draft: null, idle: { code: 'payout.dust' } })
  })

  it('leaves out what is below the least payout', () => {
    expect(paid(input([900n, 1000n], { limits: { batch: 200, epochCap: null, least: 1000n } }))).toEqual([1000n])
  })

  it('takes as many as a batch holds, the largest first and the same for any order of what is owed', () => {
    const limits = { batch: 2, epochCap: null, least: 0n }
    const one = input([600n, 800n, 700n, 800n], { limits })
    expect(planBatch(one).draft!.transfers).toEqual([
      { wallet: wallet(1), planck: 800n },
      { wallet: wallet(3), planck: 800n },
    ])
    expect(planBatch({ ...one, owed: [...one.owed].reverse() })).toEqual(planBatch(one))
  })

  it('keeps to the cap of the epoch, earlier batches included', () => {
    const limits = { batch: 200, epochCap: 2000n, least: 0n }
    expect(paid(input([900n, 800n, 700n], { limits }))).toEqual([900n, 800n])
    expect(paid(input([900n, 800n, 700n], { limits, frozenInEpoch: 1300n }))).toEqual([700n])
    expect(planBatch(input([900n], { limits, frozenInEpoch: 1700n }))).toMatchObject({
      draft: null,
      idle: { code: 'payout.cap' },
    })
  })

  it('wants the total, the fee and the existential deposit in the hot account', () => {
    const { draft } = planBatch(input([600n, 700n]))
    expect(fundsLacking(draft!, 50n, 1850n, ED)).toBeNull()
    expect(fundsLacking(draft!, 50n, 1849n, ED)).toMatchObject({
      code: 'payout.funds_low',
      remedy: expect.stringContaining(' 1 planck'),
    })
  })
})
