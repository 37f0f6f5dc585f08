/** Proves who goes on with a shard whose owners are gone amid its update: with local steps whoever had taken its mean. */
import { describe, expect, it } from 'vitest'
import { training, type Fleet } from './fleet.ts'

const local = { sync: 'local', local: { innerSteps: 2, lanes: 3 }, batch: 3, microbatch: 1 } as const

/** Shard 0 is updated by `a` and compared by `b`, who both leave; of the others `c` is an owner. */
function bereft(input: Parameters<typeof training>[0] = local): Fleet {
  const fleet = training({ stages: 1, replicas: 3, ...input }, ['a', 'b', 'c'])
  expect(fleet.run().owners[0]!.slice(0, 2)).toEqual([
    ['a', 'b', 'c'],
    ['b', 'c', 'a'],
  ])
  fleet.finishAll()
  fleet.sums()
  fleet.updates(['a', 'b'])
  fleet.take()
  fleet.leave('a')
  fleet.leave('b')
  return fleet
}

/** What `c` owns alone by now, but the shard that it may only have taken. */
function finish(fleet: Fleet): void {
  fleet.view('c').owners.forEach(([first], shard) => {
    if (first === 'c' && shard > 0) fleet.report('c', { type: 'updated', step: 1, shard })
  })
}

describe('a shard whose owners are gone amid its update', () => {
  it('is asked for in its stage, and goes on with whoever had taken its mean', () => {
    const fleet = bereft()
    expect(fleet.sent('lost', 'c')).toMatchObject([{ step: 1, node: 'b' }])
    finish(fleet)
    expect(fleet.of('commitStep')).toEqual([])
    fleet.report('c', { type: 'taken', step: 1, shard: 0 })
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(fleet.of('rollBack')).toEqual([])
    expect(fleet.run()).toMatchObject({ step: 1, generation: 1 })
    expect(fleet.run().holders[0]![0]).toEqual(new Map([['c', 1]]))
    expect(fleet.told()).toContain(
      'The owners of a shard in stage 1 are gone; a volunteer that had taken its mean goes on with it.',
    )
  })

  it('is lost when nobody says so for a while', () => {
    const fleet = bereft()
    finish(fleet)
    fleet.pass(4500)
    expect(fleet.run().generation).toBe(1)
    fleet.pass(1000)
    expect(fleet.told()).toContain('The owners of a shard in stage 1 are gone, and nobody had taken its mean.')
    expect(fleet.run()).toMatchObject({ step: 0, round: null })
  })

  it('is lost at once with exact steps: who took the weights has no moments', () => {
    const fleet = bereft({})
    expect(fleet.sent('lost')).toEqual([])
    expect(fleet.told().join(' ')).toContain('A part of the optimizer')
  })

  it('has one heir, and none while its owners are there', () => {
    const fleet = training({ stages: 1, replicas: 3, ...local }, ['a', 'b', 'c', 'd'])
    fleet.finishAll()
    fleet.sums()
    const { owners } = fleet.run()
    const before = structuredClone(owners[0]!)
    fleet.report('c', { type: 'taken', step: 1, shard: 0 })
    expect(fleet.run().owners[0]).toEqual(before)
    fleet.updates(['a', 'b'])
    fleet.leave('a')
    fleet.leave('b')
    fleet.report('d', { type: 'taken', step: 1, shard: 0 })
    fleet.report('c', { type: 'taken', step: 1, shard: 0 })
    expect(fleet.run().owners[0]![0]).toEqual(['d'])
  })
})
