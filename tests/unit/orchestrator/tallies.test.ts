/** Proves who loses what when the owners of a shard summed something else than its contributors signed for. */
import { describe, expect, it } from 'vitest'
import { digestOfSum, type Fleet, hash, shareOf, training } from './fleet.ts'

const STRANGE = hash('f').slice(32)
const CONTRIBUTORS = ['a', 'b', 'c', 'd'].map((id) => [id, 1] as const)

/** Four nodes of one stage whose first shard belongs to `a` and `b`; all have finished. */
function finished(): Fleet {
  const fleet = training({ stages: 1, replicas: 4, batch: 8 }, ['a', 'b', 'c', 'd'])
  fleet.finishAll()
  expect(fleet.view('a').owners[0]!.slice(0, 2)).toEqual(['a', 'b'])
  fleet.take()
  return fleet
}

/** What an owner of the first shard got: what was signed for, but from some. */
const got = (falseOnes: readonly string[]) =>
  CONTRIBUTORS.map(([id, leases]) => (falseOnes.includes(id) ? STRANGE : shareOf(0, id, leases)))

function sum(fleet: Fleet, owner: string, falseOnes: readonly string[]): void {
  const digest = digestOfSum(got(falseOnes))
  fleet.report(owner, { type: 'reduced', step: 1, attempt: 1, shard: 0, squaredNorm: 1, digest })
}

function tally(fleet: Fleet, owner: string, digests: string[]): void {
  fleet.report(owner, { type: 'tallied', step: 1, attempt: 1, shard: 0, digests })
}

const others = (fleet: Fleet) => fleet.sums(1, ['c', 'd'])

describe('a sum of other shares than were signed for', () => {
  it('counts once its owner has named no false one, and no sooner', () => {
    const fleet = finished()
    sum(fleet, 'a', ['d'])
    expect(fleet.sent('tally', 'a')).toMatchObject([{ step: 1, attempt: 1, shard: 0 }])
    expect(fleet.run().round!.stages[0]!.norms[0]!.size).toBe(0)
  })

  it('takes the leases from whom both owners name, and is made anew', () => {
    const fleet = finished()
    for (const owner of ['a', 'b']) sum(fleet, owner, ['d'])
    for (const owner of ['a', 'b']) tally(fleet, owner, got(['d']))
    expect(fleet.sent('revoked', 'd')).toHaveLength(1)
    expect(fleet.of('recovered')).toMatchObject([{ leases: 2, cause: 'false' }])
    expect(fleet.of('disputed')).toEqual([{ type: 'disputed', runId: 'run', step: 1, devices: ['device-d'] }])
    expect(fleet.told()).toContain(
      'A volunteer of stage 1 sent another gradient than it signed for; others do its work again.',
    )
    fleet.finishAll()
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')[0]!.work.map(({ device }) => device)).not.toContain('device-d')
  })

  it('is of no use where the other owner has what was signed for', () => {
    const fleet = finished()
    sum(fleet, 'a', ['d'])
    tally(fleet, 'a', got(['d']))
    expect(fleet.of('recovered')).toEqual([])
    sum(fleet, 'b', [])
    expect(fleet.view('b').owners[0]).not.toContain('a')
    expect(new Set(fleet.of('disputed')[0]!.devices)).toEqual(new Set(['device-a', 'device-d']))
    expect(fleet.of('recovered')).toEqual([])
  })

  it('takes the leases from an owner that has its own share otherwise than it gave it to the other', () => {
    const fleet = finished()
    sum(fleet, 'b', [])
    sum(fleet, 'a', ['b'])
    tally(fleet, 'a', got(['b']))
    expect(fleet.sent('revoked', 'b')).toHaveLength(1)
  })

  it('is of no use where its owner names other digests than it summed, or does not answer', () => {
    const fleet = finished()
    sum(fleet, 'a', ['d'])
    tally(fleet, 'a', got(['c']))
    sum(fleet, 'b', [])
    expect(fleet.view('b').owners[0]).not.toContain('a')
    const silent = finished()
    sum(silent, 'a', ['d'])
    sum(silent, 'b', [])
    others(silent)
    expect(silent.of('prepareStep')).toEqual([])
    silent.pass(silent.state.timing.laggardMs + 500)
    expect(silent.view('b').owners[0]).not.toContain('a')
  })

  it('is given the time to name it, however long the step went on before', () => {
    const fleet = training({ stages: 1, replicas: 4, batch: 8 }, ['a', 'b', 'c', 'd'])
    fleet.finishAll()
    fleet.pass(fleet.state.timing.laggardMs + 2000)
    for (const owner of ['a', 'b']) sum(fleet, owner, ['d'])
    fleet.pass(500)
    expect(fleet.of('disputed')).toEqual([])
    for (const owner of ['a', 'b']) tally(fleet, owner, got(['d']))
    expect(fleet.sent('revoked', 'd')).toHaveLength(1)
  })

  it('is not looked for where somebody did not sign', () => {
    const fleet = training({ stages: 1, replicas: 2, batch: 4 }, ['a', 'b'])
    fleet.finish('a', { signs: false })
    fleet.finish('b')
    for (const id of ['a', 'b'])
      for (const shard of [0, 1])
        fleet.report(id, { type: 'reduced', step: 1, attempt: 1, shard, squaredNorm: 1, digest: STRANGE })
    expect(fleet.sent('tally')).toEqual([])
    expect(fleet.of('prepareStep')).toHaveLength(1)
  })

  it('cannot be hidden by naming no digest', () => {
    const fleet = finished()
    fleet.report('a', { type: 'reduced', step: 1, attempt: 1, shard: 0, squaredNorm: 1, digest: null })
    expect(fleet.sent('tally', 'a')).toHaveLength(1)
  })
})

describe('receipts', () => {
  it.each([
    ['no shares', []],
    ['too few shares', [STRANGE]],
  ])('that name %s are refused', (_, shares) => {
    const fleet = training({ stages: 1, replicas: 2, batch: 4 }, ['a', 'b'])
    fleet.sign('a', undefined, { shares })
    fleet.finish('a', { signs: false })
    fleet.finish('b')
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')[0]!.work.map(({ device }) => device)).toEqual(['device-b'])
    expect(fleet.sent('credited', 'a')[0]!.refused).toMatchObject([{ error: { code: 'receipt.shares' } }])
  })

  it('of the only node of a stage need no shares', () => {
    const fleet = training({ stages: 1, replicas: 1, batch: 4 }, ['a'])
    fleet.sign('a', undefined, { shares: [] })
    fleet.finish('a', { signs: false })
    fleet.report('a', { type: 'reduced', step: 1, attempt: 1, shard: 0, squaredNorm: 1, digest: null })
    fleet.updates()
    expect(fleet.of('commitStep')[0]!.work).toHaveLength(1)
  })
})
