/** Proves that lanes that take steps of their own are leased whole, move whole, and are merged at the outer rate. */
import { describe, expect, it } from 'vitest'
import { training } from './fleet.ts'

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
