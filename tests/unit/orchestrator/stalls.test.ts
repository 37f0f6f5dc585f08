/** Proves how long a step may stand still, and that one which began again does not wait as long for a device that is dead. */
import { describe, expect, it } from 'vitest'
import { training, type Fleet } from './fleet.ts'

/** Nobody's work gets on for two minutes: the step begins again, and all are taken to hold what they held. */
function begunAgain(replicas: number, nodes: readonly string[]): Fleet {
  const fleet = training({ replicas }, nodes)
  fleet.pass(120_000)
  expect(fleet.run()).toMatchObject({ generation: 2, step: 0 })
  // The stall is over once the next round is under way.
  fleet.pass(500)
  expect(fleet.run().round).not.toBeNull()
  fleet.take()
  return fleet
}

const waiting = (fleet: Fleet, id: string, on: string) => fleet.report(id, { type: 'waiting', step: 1, on: [on] })

/** Time passes while some nodes say every two seconds that they wait. */
function passWaiting(fleet: Fleet, ms: number, pairs: readonly (readonly [string, string])[]): void {
  for (let passed = 0; passed < ms; passed += 2000) {
    for (const [id, on] of pairs) waiting(fleet, id, on)
    fleet.pass(2000)
  }
}

describe('after a step began again', () => {
  it('a device that says nothing of what it holds gives way after half a minute to another that has the weights', () => {
    const fleet = begunAgain(2, ['a', 'b', 'c', 'd'])
    fleet.ready('a', 'b', 'c')
    fleet.pass(29_000)
    expect(fleet.run().members[1]).toEqual(['b', 'd'])
    fleet.pass(1500)
    expect(fleet.run()).toMatchObject({ generation: 2, members: [['a', 'c'], ['b']] })
    expect(fleet.sent('release', 'd')).toMatchObject([{ generation: 2, reason: 'no headway' }])
    expect(fleet.told().join(' ')).toContain('nothing came from it since the step began again')
    expect(fleet.leasesOf('b')).toEqual([0, 1, 2, 3])
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('the run goes back where that device alone had the weights: who waits for them has none', () => {
    const fleet = begunAgain(2, ['a', 'b', 'c', 'd'])
    fleet.ready('a', 'c')
    passWaiting(fleet, 28_000, [['d', 'b']])
    expect(fleet.run().generation).toBe(2)
    passWaiting(fleet, 4000, [['d', 'b']])
    expect(fleet.told()).toContain('Nobody in stage 2 says that it has the weights since step 1 began again.')
    expect(fleet.state.nodes.get('b')!.penaltyUntil).toBeGreaterThan(fleet.now + 50_000)
    fleet.pass(1000)
    expect(fleet.run().members[1]![0]).toBe('d')
  })

  it('the run goes back where all that are left of a stage wait for one another, though later', () => {
    const fleet = begunAgain(3, ['a', 'b', 'c', 'd', 'e', 'f'])
    fleet.ready('a', 'c', 'e')
    const gone = 'Nobody in stage 2 says that it has the weights since step 1 began again.'
    const circle = [
      ['b', 'd'],
      ['d', 'f'],
      ['f', 'b'],
    ] as const
    // Weights on their way may take longer than an answer.
    passWaiting(fleet, 40_000, circle)
    // A step that begins once more meanwhile is no new wait.
    const error = { code: 'audit.false', message: 'False.', remedy: '' }
    fleet.do({ type: 'convicted', device: 'device-c', runId: 'run', generation: 2, stage: 0, step: 1, error })
    expect(fleet.run().generation).toBe(3)
    fleet.ready('a', 'e')
    passWaiting(fleet, 16_000, circle)
    expect(fleet.told()).not.toContain(gone)
    passWaiting(fleet, 6000, circle)
    expect(fleet.told()).toContain(gone)
    expect(fleet.state.nodes.get('b')!.penaltyUntil).toBeLessThan(fleet.now)
  })

  it('who is ready a step behind has not got the weights of the last one', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    fleet.pass(10_000)
    fleet.step()
    fleet.pass(60_500)
    fleet.take()
    expect(fleet.run()).toMatchObject({ generation: 2, step: 1 })
    fleet.ready('a')
    fleet.report('b', { type: 'ready', step: 0, expectedMs: null })
    fleet.pass(31_000)
    expect(fleet.told()).toContain('Nobody in stage 2 says that it has the weights since step 2 began again.')
  })

  it('a slow device has the time of a few of its microbatches to answer', () => {
    const fleet = training({ replicas: 2 }, ['a', 'b', 'c', 'd'])
    fleet.finishAll({ busyMs: 20_000 })
    fleet.pass(120_000)
    fleet.pass(500)
    expect(fleet.run()).toMatchObject({ generation: 2, step: 0 })
    fleet.ready('a', 'b', 'c')
    fleet.pass(75_000)
    expect(fleet.run().members[1]).toEqual(['b', 'd'])
    fleet.ready('d')
    fleet.pass(20_000)
    expect(fleet.run().members[1]).toEqual(['b', 'd'])
  })

  it('who waits for others, or has answered, has the patience of any step', () => {
    const fleet = begunAgain(1, ['a', 'b'])
    fleet.ready('a')
    passWaiting(fleet, 50_000, [['b', 'a']])
    fleet.ready('b')
    fleet.pass(40_000)
    expect(fleet.run().generation).toBe(2)
  })

  it('who is only silent is waited for as ever', () => {
    const fleet = begunAgain(1, ['a', 'b'])
    fleet.ready('a')
    fleet.pass(19_000, ['a'])
    fleet.beat('b')
    fleet.pass(10_000, ['a'])
    // Suspect by now: silence has its own time.
    fleet.pass(5000, ['a'])
    expect(fleet.run().generation).toBe(2)
    fleet.beat('b')
    fleet.ready('b')
    fleet.step()
    expect(fleet.run().step).toBe(1)
  })
})

describe('a step that is being applied and stands still', () => {
  it('goes on without the owner that nothing comes from: the other one gets the time to update', () => {
    // Neither gives way to the other in this: the stall is what ends it.
    const fleet = training({ stages: 1, replicas: 2 }, ['a', 'b'], {}, { laggardMs: Infinity })
    fleet.finishAll()
    fleet.sums()
    fleet.take()
    expect(fleet.run().owners[0]!.map(([id]) => id)).toEqual(['a', 'b'])
    fleet.report('b', { type: 'updated', step: 1, shard: 1 })
    fleet.pass(120_500)
    expect(fleet.run()).toMatchObject({ generation: 1, step: 0, members: [['b']] })
    fleet.updates(['b'])
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(fleet.of('rollBack')).toEqual([])
  })
})
