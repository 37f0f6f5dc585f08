/** Proves the merge of a step: shares in the server's order and versions, one update a shard, two owners that agree. */
import { describe, expect, it } from 'vitest'
import { holding } from '../../../src/stage/machine.ts'
import { digestOf, Stage } from './stage.ts'

const OWNERS = [['me', 'you'], ['you', 'me']] // prettier-ignore
const BOTH: [string, number][] = [['me', 1], ['you', 1]] // prettier-ignore

/** One of two replicas of a one-stage run, first owner of shard 0 and second of shard 1, its microbatch done. */
const finished = (owners: string[][] = OWNERS) => {
  const stage = Stage.ready({ replicas: 2 })
  stage.settle(stage.step(1, { leases: [[0, null, null]], owners }))
  return stage
}
const reduced = (owners?: string[][]) => {
  const stage = finished(owners)
  for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
  stage.settle(stage.reduce(1, BOTH))
  return stage
}

describe('shares of the gradient sum', () => {
  it('go to the two owners of each shard and not to its keeper', () => {
    const stage = finished([['you', 'third', 'me'], ['me', 'you', 'third']]) // prettier-ignore
    expect(stage.sends()).toEqual(['gradientShard 0 to you', 'gradientShard 0 to third', 'gradientShard 1 to you'])
    expect(stage.of('send')[0]!.address).toEqual({ kind: 'gradientShard', generation: 1, step: 1, index: 0, boundary: 0, attempt: 1 }) // prettier-ignore
  })

  it('go to an owner that takes another’s place, read by then or not', () => {
    const stage = finished([['me'], ['you', 'me']]) // prettier-ignore
    expect(stage.sends()).toEqual(['gradientShard 1 to you'])
    expect(stage.sends(stage.owners([['me'], ['third', 'me']]))).toEqual(['gradientShard 1 to third']) // prettier-ignore
    const actions = stage.owners([['me', 'you'], ['third', 'me', 'you']]) // prettier-ignore
    expect(stage.sends(stage.settle(actions))).toEqual(['gradientShard 0 to you'])
    expect(stage.owners([['me', 'you'], ['third', 'me', 'you']])).toEqual([]) // prettier-ignore
  })

  it('are summed in the server’s order, whatever came first', () => {
    const stage = finished()
    stage.frame('you', 'gradientShard', 0)
    expect(stage.of('reduce')).toEqual([])
    const order: [string, number][] = [['third', 1], ['me', 1], ['you', 1]] // prettier-ignore
    stage.reduce(1, order)
    expect(stage.of('reduce')).toEqual([])
    const actions = stage.settle(stage.frame('third', 'gradientShard', 0))
    const contributions = ['gradientShard 0 of third', 'own 0 v1', 'gradientShard 0 of you']
    const digests = contributions.map(digestOf)
    expect(stage.of('reduce')).toEqual([{ type: 'reduce', step: 1, attempt: 1, shard: 0, contributions, digests }])
    expect(stage.last('reduced')).toEqual({ type: 'reduced', generation: 1, step: 1, attempt: 1, shard: 0, squaredNorm: 9, digest: digestOf(digests.join()) }) // prettier-ignore
    expect(stage.reports(actions)).toEqual(['reduced'])
  })

  it('count once a sender, in exactly the version that the server names', () => {
    const stage = finished()
    stage.frame('you', 'gradientShard', 0, { attempt: 2 })
    stage.frame('you', 'gradientShard', 0, { attempt: 2 })
    stage.frame('you', 'gradientShard', 0, { attempt: 1 })
    expect(stage.state.refusedFrames).toBe(2)
    stage.settle(stage.reduce(1, BOTH))
    expect(stage.of('reduce')).toEqual([])
    stage.settle(stage.reduce(2, [['me', 1], ['you', 2]])) // prettier-ignore
    expect(stage.of('reduce').map(({ attempt, shard }) => [attempt, shard])).toEqual([[2, 0]])
    stage.frame('you', 'gradientShard', 0, { attempt: 2 })
    expect(stage.of('reduce')).toHaveLength(1)
  })

  it('come from no more senders than a stage can have', () => {
    const stage = finished()
    for (let i = 0; i < 1030; i++) stage.frame(`n${i}`, 'gradientShard', 0)
    expect(stage.state.current!.shards[0]!.contributions.size).toBe(1024)
    expect(stage.state.refusedFrames).toBe(6)
  })

  it('are taken by an owner and a keeper only', () => {
    const stage = finished([['you', 'third', 'me'], ['you', 'third']]) // prettier-ignore
    stage.frame('you', 'gradientShard', 0)
    stage.frame('you', 'gradientShard', 1)
    expect(stage.state.refusedFrames).toBe(1)
    expect(stage.of('reduce', stage.reduce(1, [['you', 1]]))).toEqual([])
    // The keeper takes a lost owner's place, and has what it needs.
    expect(stage.of('reduce', stage.owners([['third', 'me'], ['you', 'third']]))).toHaveLength(1) // prettier-ignore
  })
})

describe('a contributor that is lost', () => {
  const lost = (stage: Stage, attempt: number, node: string) =>
    stage.server({ type: 'lost', generation: 1, step: 1, attempt, node })
  const THREE: [string, number][] = [['me', 1], ['gone', 2], ['you', 1]] // prettier-ignore
  /** With the share of `gone` in shard 0 and not in shard 1. */
  const lacking = () => {
    const stage = finished()
    for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
    stage.frame('gone', 'gradientShard', 0, { attempt: 2 })
    stage.settle(stage.reduce(1, THREE))
    return stage
  }

  it('is told to be missing in the shards that lack its share, which the other owner is asked for', () => {
    const stage = lacking()
    expect(lost(stage, 2, 'gone')).toEqual([])
    expect(lost(stage, 1, 'third')).toEqual([])
    const actions = lost(stage, 1, 'gone')
    const message = { type: 'missing', generation: 1, step: 1, attempt: 1, node: 'gone', shards: [1] }
    const address = { kind: 'relayedShard', generation: 1, step: 1, index: 1, boundary: 1, attempt: 1 }
    expect(actions).toEqual([
      { type: 'report', message },
      { type: 'want', to: 'you', address },
    ])
    // The other owner is asked again, and not who is gone.
    expect(stage.wants(stage.idle(1))).toEqual(['relayedShard 1 of you'])
    const came = stage.settle(stage.frame('you', 'relayedShard', 1, { boundary: 1, attempt: 1 }))
    expect(stage.of('reduce', came)[0]!.contributions).toEqual(['own 1 v1', 'relayedShard 1 of you', 'gradientShard 1 of you']) // prettier-ignore
    expect(lost(stage, 1, 'gone')).toEqual([])
  })

  it('is spoken for by the other owner only, once, and not before it is lost', () => {
    const stage = lacking()
    const relayed = (from: string, options: object = {}) =>
      stage.frame(from, 'relayedShard', 1, { boundary: 1, attempt: 1, ...options })
    expect(relayed('you')).toEqual([])
    lost(stage, 1, 'gone')
    relayed('third')
    relayed('you', { boundary: 2 })
    relayed('you', { boundary: 9 })
    relayed('you', { attempt: 2 })
    expect(stage.of('reduce').map(({ shard }) => shard)).toEqual([0])
    expect(stage.state.refusedFrames).toBe(5)
    expect(stage.of('reduce', relayed('you'))).toHaveLength(1)
    expect(relayed('you')).toEqual([])
    expect(stage.state.refusedFrames).toBe(6)
  })

  it('has its share given to the other owner by who has it', () => {
    const stage = lacking()
    const ask = (from: string, shard: number, options: object = {}) =>
      stage.want(from, 'relayedShard', shard, { boundary: 1, attempt: 1, ...options })
    const [given] = stage.of('send', ask('you', 0))
    expect(given).toMatchObject({ to: 'you', tensor: 'gradientShard 0 of gone', again: true })
    expect(given!.address).toMatchObject({ kind: 'relayedShard', index: 0, boundary: 1, attempt: 1 })
    expect(ask('you', 1)).toEqual([])
    expect(ask('third', 0)).toEqual([])
    expect(ask('you', 0, { attempt: 2 })).toEqual([])
    expect(ask('you', 0, { boundary: 9 })).toEqual([])
  })
})

describe('attempts', () => {
  it('of which the last counts, from shares that are kept until the commit', () => {
    const stage = finished()
    for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
    const first = stage.of('reduce', stage.reduce(1, BOTH))
    const second = stage.of('reduce', stage.reduce(2, [['you', 1], ['me', 1]])) // prettier-ignore
    expect(second[0]!.contributions).toEqual(['gradientShard 0 of you', 'own 0 v1'])
    expect(stage.settle(first)).toEqual(first)
    expect(stage.reports(stage.settle(second))).toEqual(['reduced', 'reduced'])
    expect(stage.reduce(1, BOTH)).toEqual([])
    expect(stage.reduce(2, BOTH)).toEqual([])
  })

  it('that leave this node alone after a sum of more take its own share, not the sum', () => {
    const stage = reduced()
    const [again] = stage.of('reduce', stage.reduce(2, [['me', 1]]))
    expect(again).toMatchObject({ attempt: 2, contributions: ['own 0 v1'] })
  })

  it('of which this node is the only contributor need no share', () => {
    const stage = finished([['me'], ['me']]) // prettier-ignore
    expect(stage.of('readGradient')).toEqual([])
    expect(stage.of('reduce', stage.reduce(1, [['me', 1]])).map(({ contributions }) => contributions)).toEqual([[], []])
    const late = Stage.ready()
    late.step(1, { leases: [[0, null, null]] })
    expect(late.of('reduce', late.reduce(1, [['me', 1]]))).toEqual([])
    expect(late.of('reduce', late.computed('forwardBackward', 0))).toHaveLength(1)
  })

  it('have this node’s own share, which was read before it was signed for, where nobody else needs it', () => {
    const stage = finished([['me'], ['you', 'me']]) // prettier-ignore
    expect(stage.of('readGradient').map(({ shard }) => shard)).toEqual([0, 1])
    stage.frame('you', 'gradientShard', 0)
    const actions = stage.settle(stage.reduce(1, BOTH))
    expect(stage.of('readGradient', actions)).toEqual([])
    expect(stage.of('reduce', actions)[0]!.contributions).toEqual(['own 0 v1', 'gradientShard 0 of you'])
  })

  it('after the update answer with the sum there was', () => {
    const stage = reduced()
    stage.settle(stage.apply(OWNERS))
    const actions = stage.reduce(2, BOTH)
    expect(actions.map(({ type }) => type)).toEqual(['report', 'report'])
    expect(stage.last('reduced')).toMatchObject({ attempt: 2, shard: 1, squaredNorm: 9 })
  })
})

describe('the update', () => {
  it('waits for the sum and for the server’s word, and comes once a step', () => {
    const stage = finished()
    expect(stage.apply(OWNERS)).toEqual([])
    for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
    const actions = stage.settle(stage.reduce(1, BOTH))
    expect(stage.of('update', actions)).toEqual([
      { type: 'update', shard: 0, step: 1, lr: 0.1, scale: 0.5 },
      { type: 'update', shard: 1, step: 1, lr: 0.1, scale: 0.5 },
    ])
    stage.settle(stage.apply(OWNERS))
    stage.settle(stage.apply([['you', 'me'], ['me', 'you']])) // prettier-ignore
    expect(stage.of('update')).toHaveLength(2)
  })

  it('is asked of the device once, though the word comes again while it is under way', () => {
    const stage = reduced()
    expect(stage.of('update', stage.apply(OWNERS))).toHaveLength(2)
    expect(stage.apply(OWNERS)).toEqual([])
  })

  it('is sent by the first owner to its stage', () => {
    const stage = reduced()
    stage.settle(stage.apply(OWNERS))
    expect(stage.last('updated')).toEqual({ type: 'updated', generation: 1, step: 1, shard: 0 })
    expect(stage.of('send').slice(-2)).toMatchObject([
      { to: 'you', tensor: 'new 0', again: false, address: { kind: 'parameterShard', step: 1, index: 0 } },
      { to: 'third', tensor: 'new 0' },
    ])
  })

  it('is compared by the second owner, whichever of the two is ready first', () => {
    for (const early of [true, false]) {
      const stage = reduced()
      const updates = stage.apply(OWNERS)
      if (!early) stage.settle(updates)
      const came = stage.frame('you', 'parameterShard', 1)
      expect(stage.of('writeParameters', came)).toHaveLength(early ? 0 : 1)
      stage.settle(early ? updates : came)
      expect(stage.of('writeParameters')).toEqual([
        { type: 'writeParameters', shard: 1, step: 1, tensor: 'parameterShard 1 of you', compare: true, mean: false },
      ])
      expect(stage.last('compared')).toEqual({ type: 'compared', generation: 1, step: 1, shard: 1, agrees: true })
      expect(stage.frame('you', 'parameterShard', 1)).toEqual([])
    }
  })

  it('that the two do not agree on is told', () => {
    const stage = reduced()
    stage.settle(stage.apply(OWNERS))
    stage.frame('you', 'parameterShard', 1)
    stage.do({ type: 'parametersWritten', generation: 1, step: 1, shard: 1, agrees: false })
    expect(stage.last('compared')).toMatchObject({ shard: 1, agrees: false })
  })

  it('is taken uncompared by everyone else, once a sender, from who owns the shard', () => {
    const stage = finished([['you', 'third', 'me'], ['third', 'you']]) // prettier-ignore
    const written = stage.settle(stage.frame('you', 'parameterShard', 0))
    expect(stage.of('writeParameters', written)[0]).toMatchObject({ compare: false })
    expect(stage.reports(written)).toEqual([])
    expect(stage.frame('you', 'parameterShard', 0)).toEqual([])
    stage.settle(stage.frame('third', 'parameterShard', 0))
    // What the first owner sent before it was lost does not come back over what its successor sent.
    expect(stage.frame('you', 'parameterShard', 0)).toEqual([])
    expect(stage.of('writeParameters').map(({ tensor }) => tensor)).toEqual([
      'parameterShard 0 of you',
      'parameterShard 0 of third',
    ])
  })

  it('of a first owner that was lost goes out again from the second, in the bytes that stand there', () => {
    for (const compared of [true, false]) {
      const stage = reduced()
      stage.settle(stage.apply(OWNERS))
      if (compared) stage.settle(stage.frame('you', 'parameterShard', 1))
      const again = stage.apply([['me'], ['me', 'third']], { receivers: ['me', 'third'] }) // prettier-ignore
      expect(stage.last('updated')).toMatchObject({ shard: 1 })
      // Shard 0 has gone to all of them already, and who owns a shard now gets this node's share of it.
      const sent = stage.of('send', again).map(({ to, tensor }) => [to, tensor])
      expect(sent).toEqual([
        ['third', 'own 1 v1'],
        ['third', compared ? 'parameterShard 1 of you' : 'new 1'],
      ])
      expect(stage.frame('you', 'parameterShard', 1)).toEqual([])
    }
  })

  it('is taken from the new first owner where the lost one’s was taken before, at the latest in the next step', () => {
    for (const inTime of [true, false]) {
      const stage = finished([['you', 'third'], ['me', 'you']]) // prettier-ignore
      stage.settle(stage.frame('you', 'parameterShard', 0))
      stage.frame('you', 'gradientShard', 1)
      stage.settle(stage.reduce(1, BOTH))
      stage.settle(stage.apply([['third'], ['me']])) // prettier-ignore
      if (inTime) stage.settle(stage.frame('third', 'parameterShard', 0))
      const next = stage.step(2, { leases: [[0, null, null]], owners: [['third', 'me'], ['me']] }) // prettier-ignore
      expect(stage.computes(next)).toHaveLength(inTime ? 1 : 0)
      expect(stage.wants(next)).toContain('momentShard 0 of third')
      if (inTime) continue
      expect(stage.wants(next)).toContain('parameterShard 0 of third')
      const came = stage.settle(stage.frame('third', 'parameterShard', 0, { step: 1 }))
      expect(stage.computes(came)).toHaveLength(1)
      expect(stage.reports(came)).toEqual(['receipt', 'finished'])
    }
  })

  it('of a second owner that the first never answered does not stand', () => {
    const stage = reduced()
    stage.settle(stage.apply(OWNERS))
    const next = stage.step(2, { leases: [[0, null, null]], owners: OWNERS })
    expect(stage.computes(next)).toEqual([])
    expect(stage.wants(next)).toEqual(['parameterShard 1 of you'])
    expect(stage.want('third', 'parameterShard', 1, { step: 1 })).toEqual([])
  })

  it('waits for moments that are on their way', () => {
    const stage = Stage.ready({ replicas: 1, at: 3 })
    stage.state.moments[0] = 2
    stage.settle(stage.step(4, { leases: [[0, null, null]], owners: [['me', 'you']] }))
    expect(stage.wants()).toEqual(['momentShard 0 of you'])
    // The sum is told of when nothing but the word to apply it is missing.
    expect(stage.reports(stage.settle(stage.reduce(1, [['me', 1]])))).toEqual([])
    expect(holding(stage.state)!.reduced).toEqual([])
    expect(stage.apply([['me', 'you']])).toEqual([])
    const held = stage.settle(stage.frame('you', 'momentShard', 0, { step: 3 }))
    expect(stage.reports(held)).toEqual(['held', 'reduced', 'updated'])
    expect(stage.of('writeMoments', held)).toHaveLength(1)
  })
})
