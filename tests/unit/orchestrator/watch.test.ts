/** Proves what the server makes of slowness, of links that do not open, and of owners that do not follow. */
import { describe, expect, it } from 'vitest'
import { type Fleet, training } from './fleet.ts'

const six = (input = {}) => training({ replicas: 3, batch: 6, ...input }, ['a', 'b', 'c', 'd', 'e', 'f'])

describe('a node that is much slower than its stage', () => {
  it('loses its leases ten seconds after half of the others had finished', () => {
    const fleet = six()
    fleet.pass(1000)
    for (const id of ['a', 'b', 'c', 'd', 'e']) fleet.finish(id)
    fleet.pass(9500)
    expect(fleet.sent('revoked')).toEqual([])
    fleet.pass(2000)
    expect(fleet.sent('revoked', 'f')).toHaveLength(1)
    expect(fleet.of('recovered')).toEqual([{ type: 'recovered', runId: 'run', leases: 2, cause: 'slow' }])
    expect(fleet.told().at(-1)).toBe(
      'A volunteer of stage 2 is much slower than its stage at step 1. Its 2 microbatches are computed by others.',
    )
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('keeps them while it only waits for others itself', () => {
    const fleet = six()
    for (const id of ['a', 'b', 'c', 'd']) fleet.finish(id)
    for (let i = 0; i < 15; i++) {
      fleet.report('f', { type: 'waiting', step: 1, on: ['e'] })
      fleet.pass(1000)
    }
    expect(fleet.sent('revoked', 'f')).toEqual([])
    expect(fleet.sent('revoked', 'e')).toHaveLength(1)
  })

  it('is not whoever took its leases over: that one has its own time', () => {
    const fleet = six()
    fleet.pass(1000)
    for (const id of ['a', 'b', 'c', 'd', 'e']) fleet.finish(id)
    fleet.pass(11_000)
    expect(fleet.sent('revoked').length).toBe(1)
    fleet.pass(8000)
    expect(fleet.sent('revoked')).toHaveLength(1)
  })

  it('is kept where nobody else could do its work', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    fleet.finish('a')
    fleet.pass(60_000)
    expect(fleet.sent('revoked')).toEqual([])
  })
})

describe('somebody who is waited for', () => {
  it('is asked for a sign of life when it was silent for a second', () => {
    const fleet = six()
    fleet.report('b', { type: 'waiting', step: 1, on: ['a', 'nobody'] })
    expect(fleet.sent('ping')).toEqual([])
    fleet.now += 1500
    fleet.report('b', { type: 'waiting', step: 1, on: ['a'] })
    fleet.report('b', { type: 'waiting', step: 1, on: ['a'] })
    fleet.report('d', { type: 'linkLost', node: 'a' })
    expect(fleet.sent('ping', 'a')).toEqual([{ type: 'ping' }])
    fleet.report('d', { type: 'linkLost', node: 'c' })
    expect(fleet.sent('ping', 'c')).toHaveLength(1)
  })
})

describe('two nodes that wait for each other', () => {
  const stuck = (fleet: ReturnType<typeof six>, ms: number, one: string, other: string) => {
    for (let passed = 0; passed < ms; passed += 1000) {
      // Somebody else is named first, who is not to blame.
      fleet.report(one, { type: 'waiting', step: 1, on: ['nobody', other] })
      fleet.report(other, { type: 'waiting', step: 1, on: [one] })
      fleet.pass(1000)
    }
  }

  it('have no link that works: one of them leaves the step', () => {
    const fleet = training()
    stuck(fleet, 14_000, 'a', 'b')
    expect(fleet.sent('revoked')).toEqual([])
    stuck(fleet, 3000, 'a', 'b')
    expect(fleet.sent('revoked')).toHaveLength(1)
    expect(fleet.told().join(' ')).toContain('cannot reach a volunteer of stage')
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('are not two of whom one was not heard until now, or has its leases since a moment ago', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    for (let i = 0; i < 18; i++) {
      fleet.report('b', { type: 'waiting', step: 1, on: ['a'] })
      fleet.pass(1000, ['b'])
    }
    // Everything that it had to say comes at once.
    fleet.report('a', { type: 'waiting', step: 1, on: ['b'] })
    fleet.pass(500)
    expect(fleet.run().generation).toBe(1)
    stuck(fleet, 13_000, 'a', 'b')
    expect(fleet.run().generation).toBe(1)
    stuck(fleet, 3000, 'a', 'b')
    expect(fleet.told()).toContain('Two volunteers of stages 1 and 2 cannot reach each other.')

    const moved = training({ replicas: 2 }, ['a', 'b', 'c', 'd'])
    moved.pass(14_000)
    moved.leave('c')
    stuck(moved, 13_000, 'a', 'b')
    expect(moved.sent('revoked')).toEqual([])
  })

  it('are given three times as long where what came after the checkpoint would be lost', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    // A step that takes so long that it is not its stall that ends it.
    fleet.pass(30_000)
    fleet.step()
    expect(fleet.run()).toMatchObject({ step: 1, checkpoint: { step: 0 } })
    stuck(fleet, 43_000, 'a', 'b')
    expect(fleet.of('rollBack')).toEqual([])
    stuck(fleet, 4000, 'a', 'b')
    expect(fleet.told()).toContain('Two volunteers of stages 1 and 2 cannot reach each other.')
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 0 }])
  })

  it('are seated elsewhere where neither stage has anybody else', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    stuck(fleet, 17_000, 'a', 'b')
    expect(fleet.told()).toContain('Two volunteers of stages 1 and 2 cannot reach each other.')
    expect(fleet.run()).toMatchObject({ brokenInARow: 1 })
  })
})

describe('a node whose bytes nobody can believe', () => {
  const error = { code: 'frame.checksum', message: 'The payload does not match its checksum.', remedy: 'Reload.' }

  it('is named in the run’s story, with who says so, and its microbatches are computed by another', () => {
    const fleet = six()
    // Both neighbours get nothing from it that they could use.
    for (let passed = 0; passed < 30_000 && fleet.sent('revoked', 'a').length === 0; passed += 1000) {
      for (const id of ['b', 'd']) {
        fleet.report(id, { type: 'distrusted', node: 'a', error })
        fleet.report(id, { type: 'linkLost', node: 'a' })
        fleet.report(id, { type: 'waiting', step: 1, on: ['a'] })
      }
      fleet.pass(1000)
    }
    expect(fleet.sent('revoked')).toHaveLength(1)
    expect(fleet.sent('revoked', 'a')).toHaveLength(1)
    const device = (id: string) => fleet.state.nodes.get(id)!.deviceId.slice(0, 12)
    expect(fleet.told()).toContain(
      `Device ${device('b')} could not believe what device ${device('a')} sent it (frame.checksum): ${error.message}`,
    )
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('fills no story with it, however often it is said, and of strangers nothing is said', () => {
    const fleet = six()
    const before = fleet.told().length
    for (let i = 0; i < 1000; i++) fleet.report('b', { type: 'distrusted', node: 'a', error })
    fleet.report('d', { type: 'distrusted', node: 'nobody', error })
    expect(fleet.told().length - before).toBe(16)
  })
})

describe('an owner that neither sums nor waits for anything', () => {
  /** `a` owns the one shard and is asked for the sum; `b` stands by with the moments. */
  const summing = () => {
    const fleet = training({ stages: 1, replicas: 1 }, ['a', 'b'])
    fleet.finishAll()
    return fleet
  }
  const owners = (fleet: Fleet) => fleet.run().owners[0]![0]!

  it('gives way to somebody else who has the moments, and is not waited for', () => {
    const fleet = summing()
    expect(owners(fleet)).toEqual(['a'])
    fleet.pass(14_500)
    expect(owners(fleet)).toEqual(['a'])
    fleet.pass(1000)
    expect(owners(fleet)).toEqual(['b', 'a'])
    fleet.sums(1, ['b'])
    expect(fleet.of('prepareStep')).toHaveLength(1)
    fleet.updates(['b'])
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('is not one that waits for the shares of others', () => {
    const fleet = summing()
    for (let i = 0; i < 12; i++) {
      fleet.report('a', { type: 'waiting', step: 1, on: ['somebody'] })
      fleet.pass(2000)
    }
    expect(owners(fleet)).toEqual(['a'])
  })
})

describe('a second owner that does not follow', () => {
  it('in summing is not waited for', () => {
    const fleet = training({ stages: 1 }, ['a', 'b'])
    fleet.finishAll()
    fleet.sums(1, ['a'])
    fleet.pass(4500)
    expect(fleet.of('prepareStep')).toEqual([])
    fleet.pass(1000)
    expect(fleet.of('prepareStep')).toHaveLength(1)
    expect(fleet.told().join(' ')).toContain('did not follow')
  })

  it('in summing takes the first one’s place all the same, should that be lost and its own sum be there by then', () => {
    const fleet = training({ stages: 1 }, ['a', 'b'])
    fleet.finishAll()
    fleet.sums(1, ['a'])
    fleet.pass(5500)
    expect(fleet.of('prepareStep')).toHaveLength(1)
    fleet.sums(1, ['b'])
    fleet.leave('a')
    expect(fleet.view('b').owners).toEqual([['b'], ['b']])
    fleet.updates(['b'])
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('is not one that has summed and waits for another stage', () => {
    const fleet = training({ replicas: 2 }, ['a', 'b', 'c', 'd'])
    fleet.finishAll()
    const [one, other] = fleet.run().members as [string[], string[]]
    fleet.sums(1, one)
    fleet.pass(6000)
    expect(fleet.told().join(' ')).not.toContain('did not follow')
    fleet.sums(1, other)
    expect(fleet.of('prepareStep')).toHaveLength(1)
    // The second owners' comparisons are waited for as ever.
    expect(fleet.run().round!.stages[0]!.waived).toEqual([false, false])
    fleet.pass(4000)
    for (const id of fleet.state.nodes.keys())
      for (const [shard, [first]] of fleet.view(id).owners.entries())
        if (first === id) fleet.report(id, { type: 'updated', step: 1, shard })
    expect(fleet.of('commitStep')).toEqual([])
    expect(fleet.told().join(' ')).not.toContain('did not follow')
  })

  it('in comparing is not waited for, and is no copy of the moments', () => {
    const fleet = training({ stages: 1 }, ['a', 'b'])
    fleet.finishAll()
    fleet.sums()
    for (const shard of [0, 1]) {
      const first = fleet.view('a').owners[shard]![0]!
      fleet.report(first, { type: 'updated', step: 1, shard })
    }
    expect(fleet.of('commitStep')).toEqual([])
    fleet.pass(6000)
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(fleet.run().holders[0]!.map((holders) => [...holders.keys()])).toEqual([['a'], ['b']])
    // It follows after all.
    fleet.report('b', { type: 'compared', step: 1, shard: 0, agrees: true })
    expect([...fleet.run().holders[0]![0]!.keys()]).toEqual(['a', 'b'])
  })
})
