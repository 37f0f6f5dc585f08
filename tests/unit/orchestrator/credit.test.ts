/** Proves what a step's work earns: all of it, once, the device whose work is in the sum; and what a false claim costs. */
import { describe, expect, it } from 'vitest'
import { microbatchCredit } from '../../../src/model/credit.ts'
import { workIn, type ReceiptEntry } from '../../../src/protocol/receipt.ts'
import { training, type Fleet } from './fleet.ts'

/** `device stage microbatches`, in order. */
function credited(fleet: Fleet): string[] {
  const [commit] = fleet.of('commitStep').slice(-1)
  return workIn(commit!.work)
    .map(({ device, stage, microbatches }) => `${device} ${stage} ${microbatches}`)
    .sort()
}

/** What each node was told, such as `4 accepted` or `2 receipt.missing`. */
function told(fleet: Fleet, nodeId: string): string[] {
  return fleet.sent('credited', nodeId).flatMap(({ work, refused }) => [
    ...workIn(work).map(({ microbatches }) => `${microbatches} accepted`),
    ...refused.map(({ microbatches, error }) => `${microbatches} ${error.code}`), // prettier-ignore
  ])
}

/** The others sign what is so, and all comes to its commit. */
function complete(fleet: Fleet, ...signed: string[]): void {
  for (const id of fleet.run().members.flat()) fleet.finish(id, { signs: !signed.includes(id) })
  fleet.sums()
  fleet.updates()
}

const [A, B, C, D] = ['device-a', 'device-b', 'device-c', 'device-d']
const changed = (entries: ReceiptEntry<string>[], at: number, change: Partial<ReceiptEntry<string>>) =>
  entries.map((entry, i) => (i === at ? { ...entry, ...change } : entry))

describe('a step', () => {
  it('credits every microbatch of each stage to its owner, in model FLOPs, with the commit', () => {
    const fleet = training()
    fleet.step()
    expect(credited(fleet)).toEqual([`${A} 0 2`, `${B} 1 2`, `${C} 0 2`, `${D} 1 2`])
    const [{ work, claims, metric }] = fleet.of('commitStep') as [ReturnType<Fleet['of']>[0] & { type: 'commitStep' }]
    expect(claims).toEqual({ attested: 8, unattested: 0, disputed: 0 })
    for (const entry of work)
      expect(entry).toMatchObject({
        kind: 'work',
        run: 'run',
        generation: 1,
        step: metric.step,
        credit: (2n * microbatchCredit(fleet.run().config, entry.stage)).toString(),
        receipt: `${entry.device} 1 1 0`,
      })
    expect(told(fleet, 'a')).toEqual(['2 accepted'])
  })

  it('writes what it earns down before anybody may apply it', () => {
    const fleet = training()
    fleet.finishAll()
    fleet.sums()
    const [prepared] = fleet.of('prepareStep')
    fleet.updates()
    expect(prepared!.work).toHaveLength(4)
    expect(fleet.of('commitStep')[0]!.work).toEqual(prepared!.work)
  })

  it('earns nothing where it only scores', () => {
    const fleet = training({ steps: 1, stages: 1, replicas: 1 }, ['a'])
    fleet.step()
    fleet.take()
    fleet.sign('a')
    fleet.finishAll({ signs: true })
    expect(fleet.of('commitStep')).toEqual([])
    expect(fleet.sent('credited')).toEqual([])
  })
})

describe('work that moved', () => {
  it('is the new owner’s, and what the old one signed before is void', () => {
    const fleet = training()
    fleet.finish('a')
    fleet.leave('a')
    // Its share of the sum went with it: who waits for it says so.
    fleet.report('c', { type: 'waiting', step: 1, on: ['a'] })
    expect(fleet.leasesOf('c')).toEqual([0, 1, 2, 3])
    complete(fleet)
    expect(credited(fleet)).toEqual([`${B} 1 2`, `${C} 0 4`, `${D} 1 2`])
  })

  it('leaves a neighbour that used the old owner’s tensors its credit', () => {
    const fleet = training()
    const used = fleet.entries('b')
    expect(used[0]!.up).toBe('a')
    fleet.leave('a')
    fleet.sign('b', used)
    complete(fleet, 'b')
    expect(credited(fleet)).toEqual([`${B} 1 2`, `${C} 0 4`, `${D} 1 2`])
    expect(fleet.of('commitStep')[0]!.claims).toEqual({ attested: 6, unattested: 2, disputed: 0 })
  })

  it('is signed for as a whole by who has more of it now', () => {
    const fleet = training()
    fleet.finish('c')
    fleet.leave('a')
    expect(fleet.view('c').version).toBe(2)
    complete(fleet)
    expect(credited(fleet)).toContain(`${C} 0 4`)
    expect(workIn(fleet.of('commitStep')[0]!.work).find(({ device }) => device === C)!.receipt).toBe(`${C} 1 2 0`)
  })

  it('counts though a receipt for the leases before came late', () => {
    const fleet = training()
    const early = fleet.entries('c')
    fleet.leave('a')
    fleet.sign('c', early, { leases: 1 })
    complete(fleet)
    expect(credited(fleet)).toContain(`${C} 0 4`)
  })

  it('of a device that went after it had finished is still its own, where all have its share', () => {
    const fleet = training()
    fleet.finishAll()
    fleet.leave('a')
    fleet.sums()
    fleet.updates()
    expect(credited(fleet)).toEqual([`${A} 0 2`, `${B} 1 2`, `${C} 0 2`, `${D} 1 2`])
  })

  it('is not disputed where the maker went, came back and made the tensor again', () => {
    const fleet = training()
    fleet.finish('a')
    fleet.say('a', { type: 'pause' })
    fleet.say('a', { type: 'resume' })
    fleet.ready('a')
    fleet.sign('b', changed(fleet.entries('b'), 0, { activationTaken: 'f'.repeat(32) }))
    complete(fleet, 'b')
    expect(fleet.of('commitStep')[0]!.claims).toMatchObject({ disputed: 0 })
    expect(credited(fleet)).toContain(`${B} 1 2`)
  })
})

describe('a claim that is not so', () => {
  it.each([['activationTaken'], ['gradientMade']] as const)('of %s costs both sides that microbatch alone', (what) => {
    const fleet = training()
    fleet.sign('b', changed(fleet.entries('b'), 1, { [what]: 'f'.repeat(32) }))
    complete(fleet, 'b')
    expect(credited(fleet)).toEqual([`${A} 0 1`, `${B} 1 1`, `${C} 0 2`, `${D} 1 2`])
    for (const id of ['a', 'b']) expect(told(fleet, id)).toEqual(['1 accepted', '1 receipt.mismatch'])
    expect(fleet.of('commitStep')[0]!.claims).toEqual({ attested: 7, unattested: 0, disputed: 1 })
    const [disputed] = fleet.of('disputed')
    expect([...disputed!.devices].sort()).toEqual(['device-a', 'device-b'])
    expect(fleet.told().filter((text) => text.includes('different bytes'))).toEqual([
      expect.stringMatching(/device-a.*device-b|device-b.*device-a/),
    ])
  })

  it('of a neighbour that never had the microbatch costs who makes it', () => {
    const fleet = training()
    fleet.sign('b', changed(fleet.entries('b'), 0, { up: 'd' }))
    complete(fleet, 'b')
    expect(told(fleet, 'b')).toEqual(['1 accepted', '1 receipt.neighbour'])
    expect(told(fleet, 'a')).toEqual(['2 accepted'])
  })

  it('of a revoked owner is compared with what that one signed', () => {
    const fleet = training()
    const used = fleet.entries('b')
    fleet.finish('a')
    fleet.leave('a')
    fleet.report('c', { type: 'waiting', step: 1, on: ['a'] })
    fleet.sign('b', changed(used, 0, { activationTaken: 'f'.repeat(32) }))
    complete(fleet, 'b')
    expect(told(fleet, 'b')).toEqual(['1 accepted', '1 receipt.mismatch'])
    // The new owner had nothing to do with it.
    expect(credited(fleet)).toContain(`${C} 0 4`)
  })

  it.each([
    [
      'is signed by nobody it knows',
      {},
      { fault: { code: 'receipt.signature', message: '', remedy: '' } },
      'receipt.signature',
    ],
    ['is of another step', {}, { step: 7 }, 'receipt.stale'],
    ['is of another run', {}, { run: 'other' }, 'receipt.stale'],
    ['is of another stage', {}, { stage: 0 }, 'receipt.stale'],
    ['is of leases to come', {}, { leases: 2 }, 'receipt.stale'],
    ['names a microbatch of somebody else', { microbatch: 3 }, {}, 'receipt.leases'],
    ['lacks an edge', { gradientMade: null }, {}, 'receipt.edges'],
    ['has an edge that the stage has not', { gradientTaken: 'f'.repeat(32) }, {}, 'receipt.edges'],
  ] as const)('and a receipt that %s earns nothing, and says why', (_, change, about, code) => {
    const fleet = training()
    fleet.sign('b', changed(fleet.entries('b'), 0, change), about)
    complete(fleet, 'b')
    expect(credited(fleet)).toEqual([`${A} 0 2`, `${C} 0 2`, `${D} 1 2`])
    expect(told(fleet, 'b')).toEqual([`2 ${code}`])
    // Its neighbours do not answer for it.
    expect(told(fleet, 'a')).toEqual(['2 accepted'])
  })

  it('a receipt that names a microbatch twice earns nothing', () => {
    const fleet = training()
    const [first] = fleet.entries('b')
    fleet.sign('b', [first!, first!])
    complete(fleet, 'b')
    expect(told(fleet, 'b')).toEqual(['2 receipt.leases'])
  })

  it('is not made good by another once the node has finished', () => {
    const fleet = training()
    const honest = fleet.entries('b')
    fleet.sign('b', changed(honest, 0, { activationTaken: 'f'.repeat(32) }))
    fleet.finish('b', { signs: false })
    fleet.sign('b', honest)
    complete(fleet, 'b')
    expect(told(fleet, 'b')).toEqual(['1 accepted', '1 receipt.mismatch'])
  })

  it('of a node that signs nothing costs that node alone', () => {
    const fleet = training()
    complete(fleet, 'b')
    expect(told(fleet, 'b')).toEqual(['2 receipt.missing'])
    expect(fleet.of('commitStep')[0]!.claims).toEqual({ attested: 4, unattested: 2, disputed: 0 })
    expect(credited(fleet)).toEqual([`${A} 0 2`, `${C} 0 2`, `${D} 1 2`])
  })
})
