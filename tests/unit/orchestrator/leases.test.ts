/** Proves who computes which microbatch, and that leases of whoever is lost move to others, each once, with the neighbours told. */
import { describe, expect, it } from 'vitest'
import type { Fleet } from './fleet.ts'
import { training } from './fleet.ts'

/** Two stages of three: `a`, `c`, `e` and `b`, `d`, `f`, with two of the six microbatches each. */
const six = () => training({ replicas: 3, batch: 6 }, ['a', 'b', 'c', 'd', 'e', 'f'])
const leases = (fleet: Fleet, ids: string) => Object.fromEntries([...ids].map((id) => [id, fleet.leasesOf(id)]))

describe('the leases of a step', () => {
  it('are even at first, and name the owners at the stages next to them', () => {
    const fleet = six()
    expect(leases(fleet, 'abcdef')).toEqual({ a: [0, 1], b: [0, 1], c: [2, 3], d: [2, 3], e: [4, 5], f: [4, 5] })
    expect(fleet.view('c').leases).toEqual([
      [2, '', 'd'],
      [3, '', 'd'],
    ])
    expect(fleet.view('d').leases).toEqual([
      [2, 'c', ''],
      [3, 'c', ''],
    ])
  })

  it('follow the measured speeds, smoothed from step to step', () => {
    const fleet = training({ stages: 1, batch: 8 }, ['a', 'b'])
    fleet.finish('a', { busyMs: 10 })
    fleet.finish('b', { busyMs: 30 })
    fleet.sums()
    fleet.updates()
    expect(leases(fleet, 'ab')).toEqual({ a: [0, 1, 2, 3, 4, 5], b: [6, 7] })
    fleet.finish('a', { busyMs: 10 })
    // The mean of 30 and 10 now: 20.
    fleet.finish('b', { busyMs: 10 })
    fleet.sums()
    fleet.updates()
    expect(leases(fleet, 'ab')).toEqual({ a: [0, 1, 2, 3, 4], b: [5, 6, 7] })
  })

  it('are few for a newcomer that nobody has measured yet', () => {
    const fleet = training({ stages: 1, batch: 10 }, ['a'])
    fleet.join('b')
    fleet.ready('b')
    expect(fleet.leasesOf('b')).toEqual([])
    fleet.step({ busyMs: 10 })
    expect(leases(fleet, 'ab')).toEqual({ a: [0, 1, 2, 3, 4, 5, 6, 7], b: [8, 9] })
  })

  it('go to no more than the replicas; a standby takes the place of one that would hold up the others', () => {
    const fleet = training({ stages: 1, batch: 4 }, ['a', 'b'])
    fleet.join('c')
    fleet.ready('c')
    fleet.step()
    expect(leases(fleet, 'abc')).toEqual({ a: [0, 1], b: [2, 3], c: [] })
    for (const [id, busyMs] of Object.entries({ a: 10, b: 50, c: 10 })) fleet.state.nodes.get(id)!.busyMs = busyMs
    fleet.step()
    expect(leases(fleet, 'abc')).toEqual({ a: [0, 1], b: [], c: [2, 3] })
  })
})

describe('an owner that is lost', () => {
  it('before it finished: its leases move to those with least to do, versions are raised, neighbours hear of it', () => {
    const fleet = six()
    fleet.finish('d')
    fleet.take()
    fleet.leave('f')
    // `d` has only to add up anew, `b` has two to compute: one more is nearer for `d`, then it is the other's turn or its own.
    expect(fleet.view('d').version).toBe(2)
    expect([...fleet.leasesOf('b'), ...fleet.leasesOf('d')].sort()).toEqual([0, 1, 2, 3, 4, 5])
    expect(fleet.leasesOf('d')).toContain(4)
    expect(fleet.view('e').leases.map(([m, , down]) => [m, fleet.leasesOf(down).includes(m)])).toEqual([
      [4, true],
      [5, true],
    ])
    // Only neighbours changed for `e`: what it has computed is not asked for again.
    expect(fleet.sent('leases', 'e')).toMatchObject([{ version: 1 }])
    expect([...fleet.sent('leases', 'a'), ...fleet.sent('leases', 'c')]).toEqual([])
    expect(fleet.of('recovered')).toEqual([{ type: 'recovered', runId: 'run', leases: 2, cause: 'left' }])
    expect(fleet.told()).toEqual([
      'A volunteer of stage 2 is gone: its tab was closed. Its 2 microbatches are computed by others within step 1.',
    ])
    fleet.step()
    expect(fleet.of('commitStep')).toMatchObject([{ metric: { step: 1, loss: 2 } }])
    expect(fleet.run()).toMatchObject({ generation: 1, recovered: 2 })
  })

  it('is not believed what it finishes under leases that were taken from it, nor is an old version', () => {
    const fleet = six()
    const { step, version } = fleet.view('d')
    fleet.pass(6000, ['a', 'b', 'c', 'd', 'e'])
    expect(fleet.sent('revoked', 'f')).toHaveLength(1)
    fleet.report('f', {
      type: 'finished',
      step,
      version,
      losses: [
        [4, 9, 9],
        [5, 9, 9],
      ],
      busyMs: 1,
    })
    fleet.report('d', {
      type: 'finished',
      step,
      version,
      losses: [
        [2, 9, 9],
        [3, 9, 9],
      ],
      busyMs: 1,
    })
    expect(fleet.run().round!.stages[1]!.pending).toEqual(new Set(['b', 'd']))
    expect(fleet.run().round!.stages[1]!.work.has('f')).toBe(false)
  })

  it('after it finished: its work counts, as long as its share is with all who sum', () => {
    const fleet = six()
    fleet.finish('f')
    fleet.leave('f')
    expect(fleet.of('recovered')).toEqual([])
    fleet.take()
    fleet.finishAll()
    expect(fleet.sent('reduce', 'b')).toMatchObject([
      {
        attempt: 1,
        contributors: [
          ['b', 1],
          ['d', 1],
          ['f', 1],
        ],
      },
    ])
    for (const id of ['b', 'd']) expect(fleet.sent('lost', id)).toMatchObject([{ step: 1, attempt: 1, node: 'f' }])
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toMatchObject([{ metric: { step: 1, loss: 2 } }])
    expect(fleet.leasesOf('b')).toEqual([0, 1, 2])
  })

  it('after it finished: its leases move once no owner of some shard has its share', () => {
    const fleet = six()
    fleet.finish('f', { lossSum: 1000 })
    fleet.leave('f')
    fleet.finishAll()
    const missing = (id: string, node: string, shards: number[], attempt = 1) =>
      fleet.report(id, { type: 'missing', step: 1, attempt, node, shards })
    // One owner of a shard gets it from the other. Two that lack different shards lack nothing.
    missing('d', 'f', [0, 1])
    missing('b', 'f', [2])
    expect(fleet.of('recovered')).toEqual([])
    missing('b', 'f', [1])
    expect(fleet.of('recovered')).toMatchObject([{ leases: 2, cause: 'silent' }])
    expect([...fleet.leasesOf('b'), ...fleet.leasesOf('d')].sort()).toEqual([0, 1, 2, 3, 4, 5])
    // Sums without the new versions are void.
    fleet.report('b', { type: 'reduced', step: 1, attempt: 1, shard: 0, squaredNorm: 1, digest: null })
    missing('b', 'f', [0, 1, 2])
    expect(fleet.of('recovered')).toHaveLength(1)
    expect(fleet.run().round!.stages[1]!.contributors).toBeNull()
    fleet.take()
    fleet.finishAll()
    const { version: b } = fleet.view('b')
    const { version: d } = fleet.view('d')
    expect(fleet.sent('reduce', 'b')).toMatchObject([{ attempt: 2 }])
    expect(Object.fromEntries(fleet.sent('reduce', 'b')[0]!.contributors)).toEqual({ b, d })
    expect(Math.max(b, d)).toBe(2)
    expect(fleet.sent('lost')).toEqual([])
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toMatchObject([{ metric: { loss: 2 } }])
  })

  it('while the sums are made: who lacks its share says so; nobody does, and the step goes on', () => {
    const fleet = six()
    fleet.finishAll()
    fleet.take()
    fleet.leave('e')
    for (const id of ['a', 'c']) expect(fleet.sent('lost', id)).toMatchObject([{ attempt: 1, node: 'e' }])
    expect(fleet.sent('lost')).toHaveLength(2)
    // A word about somebody else, or in an older attempt, takes nothing from anybody.
    for (const id of ['a', 'c']) {
      fleet.report(id, { type: 'missing', step: 1, attempt: 1, node: 'c', shards: [0, 1, 2] })
      fleet.report(id, { type: 'missing', step: 1, attempt: 0, node: 'e', shards: [0, 1, 2] })
    }
    expect(fleet.of('recovered')).toEqual([])
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('once its stage is summed needs no replacing, until somebody has to sum anew', () => {
    const fleet = six()
    fleet.finishAll()
    fleet.sums(1, ['a', 'c', 'e'])
    fleet.take()
    fleet.leave('e')
    // The places of `e` in two shards fall to others, who have to sum, and may have no share of `e`.
    expect(fleet.sent('reduce').length).toBeGreaterThan(0)
    expect(fleet.sent('lost', 'a')).toMatchObject([{ node: 'e', attempt: 1 }])
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('that nobody needed any more is named to an owner who steps in later, who would wait for it for ever', () => {
    const fleet = training({ replicas: 6, batch: 6 }, [...'abcdefghijkl'])
    fleet.finishAll()
    const stage = [...fleet.run().members[0]!]
    fleet.sums(1, stage)
    // The second stage is still summing. `gone` owns nothing of this shard; its owner goes after it.
    const shard = 0
    const [first, second] = fleet.view(stage[0]!).owners[shard]!
    const gone = stage.find((id) => !fleet.view(id).owners[shard]!.includes(id))!
    fleet.leave(gone)
    fleet.sums(1, fleet.run().members[0])
    fleet.take()
    fleet.leave(second!)
    const stepsIn = fleet.view(first!).owners[shard]![1]!
    expect(stepsIn).not.toBe(second)
    expect(fleet.sent('lost', stepsIn).map(({ node }) => node)).toEqual(expect.arrayContaining([gone, second]))
  })

  it('once the step is applied keeps its part in it', () => {
    const fleet = six()
    fleet.finishAll()
    fleet.sums()
    fleet.take()
    fleet.leave('c')
    expect([...fleet.sent('leases'), ...fleet.sent('lost'), ...fleet.sent('reduce')]).toEqual([])
    expect(fleet.of('recovered')).toEqual([])
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(leases(fleet, 'ae')).toEqual({ a: [0, 1, 2], e: [3, 4, 5] })
  })

  it('is done without after all when somebody waits for a tensor that only it had', () => {
    const fleet = six()
    fleet.finish('c')
    fleet.leave('c')
    fleet.report('d', { type: 'waiting', step: 1, on: ['c'] })
    expect([...fleet.leasesOf('a'), ...fleet.leasesOf('e')].sort()).toEqual([0, 1, 2, 3, 4, 5])
    const ups = fleet.view('d').leases.map(([m, up]) => fleet.leasesOf(up).includes(m))
    expect(ups).toEqual([true, true])
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })
})

describe('leases that were taken away', () => {
  it('never come back within the step, and do with the next', () => {
    const fleet = six()
    fleet.pass(6000, ['a', 'b', 'd', 'e', 'f'])
    expect(fleet.sent('revoked', 'c')).toEqual([{ type: 'revoked', generation: 1, step: 1 }])
    fleet.beat('c')
    fleet.leave('e')
    expect(fleet.leasesOf('c')).toEqual([])
    expect(fleet.leasesOf('a')).toEqual([0, 1, 2, 3, 4, 5])
    fleet.step()
    expect(leases(fleet, 'ac')).toEqual({ a: [0, 1, 2], c: [3, 4, 5] })
  })

  it('wait for a newcomer where nobody else is heard, and go to it when it is ready', () => {
    const fleet = training({ replicas: 2 }, ['a', 'b', 'c', 'd'])
    fleet.join('e')
    fleet.pass(6000, ['a', 'b', 'd', 'e'])
    expect(fleet.leasesOf('a')).toEqual([0, 1, 2, 3])
    // `c` has the moments, and is silent.
    fleet.leave('a')
    expect(fleet.run().generation).toBe(1)
    expect(fleet.run().round!.stages[0]!.orphans).toEqual([0, 1, 2, 3])
    for (const id of ['b', 'd']) fleet.finish(id)
    expect(fleet.sent('reduce', 'e')).toEqual([])
    fleet.ready('e')
    expect(fleet.leasesOf('e')).toEqual([0, 1, 2, 3])
    expect([...fleet.view('b').leases, ...fleet.view('d').leases].map(([, up]) => up)).toEqual(['e', 'e', 'e', 'e'])
    fleet.beat('c')
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('stay with the only one of a stage while it may come back', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    fleet.pass(6000, ['b'])
    expect(fleet.state.nodes.get('a')!.suspect).toBe(true)
    expect(fleet.sent('revoked')).toEqual([])
    fleet.beat('a')
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('move from somebody silent as soon as there is somebody to take them', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    fleet.join('c')
    fleet.pass(6000, ['b', 'c'])
    expect(fleet.sent('revoked')).toEqual([])
    fleet.ready('c')
    fleet.pass(500, ['b', 'c'])
    expect(fleet.sent('revoked', 'a')).toHaveLength(1)
    expect(fleet.leasesOf('c')).toEqual([0, 1, 2, 3])
  })
})

describe('somebody who was given up after it finished, and is heard again', () => {
  it('is no longer said to be lost: its share can still come', () => {
    const fleet = six()
    fleet.finish('f')
    fleet.pass(6000, ['a', 'b', 'c', 'd', 'e'])
    fleet.beat('f')
    fleet.take()
    fleet.finishAll()
    expect(fleet.sent('reduce', 'b')[0]!.contributors).toEqual([
      ['b', 1],
      ['d', 1],
      ['f', 1],
    ])
    expect(fleet.sent('lost')).toEqual([])
  })
})
