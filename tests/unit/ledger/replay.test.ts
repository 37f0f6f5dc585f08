/** Proves the rules of the ledger: whose credit is whose, what is voided, what is owed and what may be paid. */
import { beforeEach, describe, expect, it } from 'vitest'
import { accountView } from '../../../src/ledger/view.ts'
import type { EntryOf, LedgerEntry } from '../../../src/protocol/ledger.ts'
import { hex, PFLOP, SampleLedger, START, work } from './sampleLedger.ts'

let ledger: SampleLedger
beforeEach(() => {
  ledger = new SampleLedger()
})

const device = hex(1)
const wallet = hex(101)
const price = (planckPerPflop: string, run = 'r1'): LedgerEntry => ({ kind: 'price', run, planckPerPflop })
const bind = (by = device, to = wallet): LedgerEntry => ({ kind: 'bind', device: by, wallet: to, proof: hex(9) })
const conviction = (change: Partial<EntryOf<'conviction'>> = {}): LedgerEntry => ({
  kind: 'conviction',
  device,
  run: 'r1',
  fromStep: 1,
  toStep: 5,
  credit: String(PFLOP),
  reason: 'Zeros.',
  ...change,
})
const payout = (planck: string, epoch = 1, extrinsic = hex(80 + epoch)): LedgerEntry => ({
  kind: 'payout',
  epoch,
  wallet,
  planck,
  block: hex(7),
  extrinsic,
})
const add = (...entries: LedgerEntry[]) => entries.forEach((entry) => ledger.add(entry))
const refused = (entry: LedgerEntry, code: string) => {
  const before = ledger.state.head
  expect(() => ledger.add(entry)).toThrow(expect.objectContaining({ code }))
  expect(ledger.state.head).toBe(before)
}
const view = (account = `wallet:${wallet}`) => accountView(ledger.state, account)
/** The next seal is at a later moment. */
const seal = () => {
  ledger.at += 1000
  ledger.seal()
}

describe('credit', () => {
  it('is the device’s until it is bound, then the wallet’s with all that came before, then the device’s again', () => {
    add(price('10'), work(), bind(), work({ step: 2 }), { kind: 'revoke', device }, work({ step: 3 }))
    expect(view().credit).toMatchObject({ earned: String(2n * PFLOP), pending: String(2n * PFLOP) })
    expect(view().planck).toMatchObject({ worth: '20', pending: '20', verified: '0' })
    expect(view(`device:${device}`)).toMatchObject({ wallet: null, credit: { earned: String(PFLOP) } })
    add(bind(device, hex(102)))
    expect(view(`wallet:${hex(102)}`).credit.earned).toBe(String(PFLOP))
    expect(view().credit.earned).toBe(String(2n * PFLOP))
    expect(view(`device:${device}`)).toMatchObject({ wallet: hex(102), devices: [{ earned: String(3n * PFLOP) }] })
    expect(view().devices).toEqual([])
  })

  it('of a step counts once for each device and stage, and again after a rollback', () => {
    add(work(), work({ stage: 1 }), work({ device: hex(2) }), work({ step: 2 }))
    refused(work({ step: 2 }), 'ledger.work_repeated')
    refused(work({ step: 1, device: hex(3) }), 'ledger.work_repeated')
    add(work({ generation: 1 }), work({ run: 'r2' }))
    refused(work({ generation: 0, step: 9 }), 'ledger.work_repeated')
    expect(ledger.state.credit).toBe(6n * PFLOP)
  })

  it('of audits and of standing by counts like work', () => {
    const { generation: _, microbatches: __, receipt: ___, ...share } = work({ credit: '5' })
    add({ ...share, kind: 'audit' }, { ...share, kind: 'standby', credit: '6' })
    expect(view(`device:${device}`).credit).toMatchObject({ earned: '11', audit: '5', standby: '6' })
  })

  it('is listed by UTC day and by run', () => {
    const midnight = Math.ceil(START / 86_400_000) * 86_400_000
    ledger.at = midnight - 1
    add(work({ credit: '1' }))
    ledger.at = midnight
    add(work({ run: 'r2', credit: '2' }), work({ step: 2, credit: '4' }))
    const { days, runs } = view(`device:${device}`)
    const [after, before] = [midnight, midnight - 1].map((at) => new Date(at).toISOString().slice(0, 10))
    expect(days).toEqual([
      { day: after, earned: '6' },
      { day: before, earned: '1' },
    ])
    expect(runs.map(({ run, earned }) => [run, earned])).toEqual([
      ['r1', '5'],
      ['r2', '2'],
    ])
  })
})

describe('worth', () => {
  it('is rounded down in each run, and a run’s price holds from its row on', () => {
    add(work({ credit: String(PFLOP) }), price('3'), price('3', 'r2'), bind())
    add(work({ step: 2, credit: String(PFLOP / 2n) }), work({ run: 'r2', credit: String(PFLOP / 2n) }))
    // 0 for what came before the price; 1.5 and 1.5 are 1 and 1.
    expect(view().planck.worth).toBe('2')
    add(work({ step: 3, credit: String(PFLOP / 2n) }))
    expect(view().planck.worth).toBe('4')
    add(price('100'), work({ step: 4 }))
    expect(view().planck.worth).toBe('104')
  })
})

describe('a conviction', () => {
  it('voids the credit of its window and says why; a waiver gives it back, also to the wallet bound since', () => {
    add(price('10'), work(), work({ step: 2 }), work({ step: 9 }), work({ run: 'r2' }))
    refused(conviction({ credit: String(2n * PFLOP + 1n) }), 'ledger.void_exceeds')
    refused(conviction({ device: hex(3) }), 'ledger.void_exceeds')
    add(conviction({ credit: String(PFLOP + 3n) }))
    refused(conviction({ credit: String(PFLOP) }), 'ledger.void_exceeds')
    add(bind())
    expect(view()).toMatchObject({
      credit: { earned: String(4n * PFLOP), voided: String(PFLOP + 3n) },
      planck: { worth: '19' },
      convictions: [{ device, fromStep: 1, toStep: 5, reason: 'Zeros.', waived: false }],
    })
    expect(ledger.state.credit).toBe(3n * PFLOP - 3n)
    add({ kind: 'waiver', device, reason: 'Our fault.' })
    expect(view()).toMatchObject({ credit: { voided: '0' }, planck: { worth: '30' }, convictions: [{ waived: true }] })
    add({ kind: 'waiver', device, reason: 'Once more gives nothing.' })
    expect(ledger.state.credit).toBe(4n * PFLOP)
  })

  it('is waived for everybody only when it came after the last seal', () => {
    add(work(), work({ device: hex(2) }), conviction())
    seal()
    add(conviction({ device: hex(2) }), { kind: 'waiver', device: null, reason: 'Outage.' })
    expect(view(`device:${device}`).credit.voided).toBe(String(PFLOP))
    expect(view(`device:${hex(2)}`).credit.voided).toBe('0')
  })

  it('reaches back over one seal and not over two', () => {
    add(work())
    seal()
    add(work({ step: 2, credit: '1' }), conviction({ credit: '1' }))
    seal()
    refused(conviction({ credit: '2' }), 'ledger.void_exceeds')
    add(conviction({ credit: '1' }))
  })

  it('leaves alone what is paid, and reaches what an unpaid device brought to a wallet that was paid', () => {
    add(price('10'), bind(), work(), work({ device: hex(2) }))
    seal()
    add(payout('10'), bind(hex(2)))
    refused(conviction({ credit: '1' }), 'ledger.void_exceeds')
    add(conviction({ device: hex(2) }))
    expect(view().credit.voided).toBe(String(PFLOP))
  })
})

describe('a payout', () => {
  beforeEach(() => {
    add(price('10'), bind(), work())
    seal()
  })

  it('moves verified to paid', () => {
    add(work({ step: 2 }))
    expect(view()).toMatchObject({
      credit: { pending: String(PFLOP), verified: String(PFLOP), paid: '0' },
      planck: { pending: '10', verified: '10', paid: '0' },
      epoch: 1,
    })
    add(payout('10'))
    expect(view()).toMatchObject({
      credit: { pending: String(PFLOP), verified: '0', paid: String(PFLOP) },
      planck: { pending: '10', verified: '0', paid: '10' },
      payouts: [{ epoch: 1, planck: '10', block: hex(7), extrinsic: hex(81) }],
    })
  })

  it('is refused beyond what was owed at a seal, twice for an extrinsic, and for an epoch that is not sealed', () => {
    add(work({ step: 2 }))
    refused(payout('11'), 'ledger.payout_exceeds')
    refused(payout('1', 2), 'ledger.payout_unsealed')
    refused({ ...(payout('1') as EntryOf<'payout'>), wallet: hex(77) }, 'ledger.payout_exceeds')
    add(payout('6'))
    refused(payout('4'), 'ledger.payout_repeated')
    add(payout('1', 1, hex(70)))
    refused(payout('4', 1, hex(71)), 'ledger.payout_exceeds')
    seal()
    add(payout('13', 2))
    refused(payout('1', 2), 'ledger.payout_repeated')
  })

  it('of a later epoch may be in a block first', () => {
    add(work({ step: 2 }))
    seal()
    add(payout('10', 2), payout('10', 1))
    expect(view().planck).toMatchObject({ paid: '20', verified: '0' })
  })

  it('that was frozen before a conviction is a debt that later work pays off', () => {
    add(conviction(), payout('10'))
    seal()
    expect(view().planck).toMatchObject({ worth: '0', paid: '10', verified: '0' })
    add(work({ step: 2, credit: String(3n * PFLOP) }))
    seal()
    refused(payout('21', 3), 'ledger.payout_exceeds')
    add(payout('20', 3))
    expect(ledger.state.seals.at(-1)!.entry).toMatchObject({ epoch: 3, accounts: 1, credit: String(3n * PFLOP) })
  })

  it('cannot name an epoch from before a conviction that the wallet was sealed with since, once that is paid', () => {
    add(conviction())
    seal()
    refused(payout('10', 2), 'ledger.payout_exceeds')
  })
})

describe('a seal', () => {
  it.each([
    ['epoch', 2],
    ['first', 2],
    ['last', 1],
    ['accounts', 2],
    ['credit', '1'],
    ['root', hex(1)],
  ] as const)('with another %s is refused', (field, value) => {
    add(work(), work({ step: 2 }))
    const sound = new SampleLedger()
    sound.add(work())
    sound.add(work({ step: 2 }))
    const entry = JSON.parse(sound.seal().entry) as EntryOf<'seal'>
    refused({ ...entry, [field]: value }, `ledger.seal_${field}`)
    add(entry)
    refused(JSON.parse(ledgerSealAgain(entry)) as LedgerEntry, 'ledger.seal_clock')
  })

  /** The seal that would come next, at the same moment. */
  const ledgerSealAgain = (entry: EntryOf<'seal'>) => {
    const sound = new SampleLedger()
    sound.add(work())
    sound.add(work({ step: 2 }))
    sound.seal()
    sound.at += 1
    return JSON.stringify({ ...(JSON.parse(sound.seal().entry) as EntryOf<'seal'>), clock: entry.clock })
  }
})

it('a device that is bound to nothing cannot be revoked', () => {
  add(work())
  refused({ kind: 'revoke', device }, 'ledger.not_bound')
})
