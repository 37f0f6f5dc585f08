/** Proves that lanes that take steps of their own are leased whole, move whole, and are merged at the outer rate. */
import { describe, expect, it } from 'vitest'
import { type Fleet, training } from './fleet.ts'

/** Two inner steps of one microbatch a lane: lane 0 has microbatches 0 and 1, lane 1 has 2 and 3, and so on. */
const local = (lanes: number) =>
  ({ sync: 'local', local: { innerSteps: 2, lanes, outer: { lr: 0.5 } }, batch: lanes, microbatch: 1 }) as const

describe('lanes', () => {
  it('are leased whole, whatever the speeds', () => {
    const fleet = training({ ...local(4), stages: 1 }, ['a', 'b'])
    expect([fleet.leasesOf('a'), fleet.leasesOf('b')]).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
    ])
    fleet.finish('a', { busyMs: 10 })
    fleet.finish('b', { busyMs: 30 })
    fleet.sums()
    fleet.updates()
    expect([fleet.leasesOf('a'), fleet.leasesOf('b')]).toEqual([
      [0, 1, 2, 3, 4, 5],
      [6, 7],
    ])
  })

  it('move whole, each to whoever has least to do', () => {
    const fleet = training({ ...local(3), replicas: 3, stages: 1 }, ['a', 'b', 'c'])
    fleet.leave('c')
    const [a, b] = [fleet.leasesOf('a'), fleet.leasesOf('b')]
    expect([...a, ...b].sort()).toEqual([0, 1, 2, 3, 4, 5])
    expect([
      [0, 1, 4, 5],
      [0, 1],
    ]).toContainEqual(a)
    expect([
      [2, 3, 4, 5],
      [2, 3],
    ]).toContainEqual(b)
  })

  it('are merged at the outer rate, by the mean over lanes and without clipping', () => {
    const fleet = training({ ...local(2), stages: 1, optimizer: { gradClip: 1e-3 } }, ['a', 'b'])
    fleet.step()
    const { lr, scale } = fleet.view('a').apply ?? fleet.of('prepareStep')[0]!
    expect([lr, scale]).toEqual([0.5, 0.5])
    const { metric } = fleet.of('commitStep')[0]!
    const shards = fleet.run().owners[0]!.length
    expect(metric.gradNorm).toBeCloseTo(0.5 * Math.sqrt(shards), 12)
    expect(metric.tokens).toBe(2 * 2 * 64)
  })

  it('tell how far they are, which is headway of the step', () => {
    const fleet = training({ ...local(2), stages: 1 }, ['a', 'b'])
    const movedAt = () => fleet.run().round!.movedAt
    const before = movedAt()
    fleet.pass(2000)
    const { step } = fleet.view('a')
    fleet.report('a', { type: 'advanced', step: step + 1, lane: 0, inner: 1 })
    expect(movedAt()).toBe(before)
    fleet.report('a', { type: 'advanced', step, lane: 0, inner: 1 })
    expect(movedAt()).toBe(before + 2000)
  })
})

describe('sums of what is final', () => {
  /** Of eight shards 0, 1, 2 and 7 are final in step 1 after the first of two updates. */
  const overlapping = { ...local(2), local: { innerSteps: 2, lanes: 2, overlap: 1 }, stages: 1 } as const
  const advance = (fleet: Fleet, id: string, lane: number, inner: number, step = 1) =>
    fleet.report(id, { type: 'advanced', step, lane, inner })
  const asked = (fleet: Fleet, id: string) =>
    fleet.sent('reduce', id).map(({ attempt, shards }) => [attempt, shards?.join() ?? 'all'])

  it('are asked for once every lane is as far, and the rest in the same attempt when all have finished', () => {
    const fleet = training(overlapping, ['a', 'b'])
    advance(fleet, 'a', 0, 1)
    expect(asked(fleet, 'a')).toEqual([])
    advance(fleet, 'b', 1, 1)
    expect(asked(fleet, 'a')).toEqual([[1, '0,1,2,7']])
    expect(asked(fleet, 'b')).toEqual([[1, '0,1,2,7']])
    fleet.finishAll()
    expect(asked(fleet, 'b').at(-1)).toEqual([1, 'all'])
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('are void when leases move, and come again in another attempt', () => {
    const fleet = training({ ...overlapping, replicas: 3 }, ['a', 'b', 'c'])
    const [first, second] = ['a', 'b', 'c'].filter((id) => fleet.leasesOf(id).length > 0) as [string, string]
    for (const [lane, id] of [first, second].entries()) advance(fleet, id, lane, 1)
    const other = ['a', 'b', 'c'].find((id) => id !== first && id !== second)!
    fleet.leave(second)
    expect(fleet.leasesOf(other)).toEqual([2, 3])
    // What its predecessor had done does not count for who has the lane now, nor what anybody says of another’s.
    advance(fleet, first, 0, 2)
    advance(fleet, first, 1, 2)
    expect(asked(fleet, first)).toHaveLength(1)
    advance(fleet, other, 1, 1)
    expect(asked(fleet, first).at(-1)).toEqual([2, '0,1,2,7'])
    fleet.finishAll()
    expect(asked(fleet, other).at(-1)).toEqual([2, 'all'])
  })

  it('are not told before their time, and everybody hears which attempt is applied', () => {
    const fleet = training({ ...overlapping, replicas: 2 }, ['a', 'b', 'c'])
    advance(fleet, 'a', 0, 1)
    advance(fleet, 'b', 1, 1)
    fleet.sums()
    expect(fleet.of('prepareStep')).toEqual([])
    fleet.step()
    for (const id of fleet.run().members[0]!) expect(fleet.sent('apply', id)[0]).toMatchObject({ attempt: 1 })
  })

  it('are not asked for where nothing overlaps', () => {
    const fleet = training({ ...local(2), stages: 1 }, ['a', 'b'])
    advance(fleet, 'a', 0, 1)
    advance(fleet, 'b', 1, 1)
    expect(asked(fleet, 'a')).toEqual([])
  })
})
