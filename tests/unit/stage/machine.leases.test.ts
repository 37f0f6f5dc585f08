/** Proves that leases move between nodes in the middle of a step and nothing is computed twice or lost. */
import { describe, expect, it } from 'vitest'
import { type LeaseOf, Stage } from './stage.ts'

const OWNERS = [['me', 'you'], ['you', 'me']] // prettier-ignore
const LEASES: LeaseOf[] = [[0, 'up', 'down'], [1, 'up', 'down']] // prettier-ignore
const middle = () => {
  const stage = Stage.ready({ stage: 1, stages: 3, replicas: 2 })
  stage.step(1, { leases: LEASES, owners: OWNERS })
  return stage
}
/** With microbatch 0 done and 1 not begun. */
const halfway = () => {
  const stage = middle()
  stage.settle(stage.frame('up', 'activation', 0))
  stage.settle(stage.frame('down', 'gradient', 0))
  return stage
}

describe('a neighbour that changes', () => {
  it('gets at once what was made for the one before, from a cache that lasts until the commit', () => {
    const stage = halfway()
    const moved = stage.leases(1, [[0, 'up2', 'down2'], [1, 'up', 'down']]) // prettier-ignore
    expect(stage.of('send', moved).map(({ to, tensor, again }) => [to, tensor, again])).toEqual([
      ['up2', 'backward 0', false],
      ['down2', 'forward 0', false],
    ])
    expect(stage.leases(1, [[0, 'up2', 'down2']])).toEqual([])
    stage.step(2, { leases: LEASES, owners: OWNERS })
    expect(stage.sends(stage.leases(1, [[0, 'up3', 'down3']]))).toEqual([])
    expect(stage.want('down3', 'activation', 0, { step: 1, boundary: 1 })).toEqual([])
  })

  it('does not make this node compute again what it had from the one before', () => {
    const stage = halfway()
    stage.leases(1, [[0, 'up2', 'down2'], [1, 'up2', 'down2']]) // prettier-ignore
    expect(stage.frame('up2', 'activation', 0)).toEqual([])
    expect(stage.frame('down2', 'gradient', 0)).toEqual([])
    expect(stage.state.refusedFrames).toBe(2)
    expect(stage.computes(stage.frame('up2', 'activation', 1))).toEqual(['forward 1'])
  })

  it('is the only one that may send from then on', () => {
    const stage = middle()
    stage.leases(1, [[0, 'up2', 'down']])
    expect(stage.frame('up', 'activation', 0)).toEqual([])
    expect(stage.computes(stage.frame('up2', 'activation', 0))).toEqual(['forward 0'])
  })

  it('is asked again for what it sent before this node knew of it', () => {
    const stage = middle()
    stage.frame('up2', 'activation', 1)
    stage.frame('up', 'activation', 7)
    expect(stage.state.refusedFrames).toBe(2)
    const moved = stage.leases(2, [[1, 'up2', 'down'], [7, 'up', 'down']]) // prettier-ignore
    expect(stage.wants(moved)).toEqual(['activation 1 of up2', 'activation 7 of up'])
    expect(stage.leases(2, [[1, 'up2', 'down']])).toEqual([])
  })

  it('gets the activation made under it, though the gradient came from the one before', () => {
    const stage = middle()
    stage.frame('down', 'gradient', 0)
    stage.leases(1, [[0, 'up', 'down2']])
    expect(stage.sends(stage.settle(stage.frame('up', 'activation', 0)))).toContain('activation 0 to down2')
  })
})

describe('leases that come to a node', () => {
  it('are computed, reported in their version, and put into a new share', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.settle(stage.step(1, { leases: [[0, null, null]], owners: OWNERS }))
    expect(stage.last('finished')).toMatchObject({ version: 1, losses: [[0, 0.5, 8]] })
    expect(stage.of('send').map(({ tensor, to, address }) => [tensor, to, address.attempt])).toEqual([
      ['own 0 v1', 'you', 1],
      ['own 1 v1', 'you', 1],
    ])
    stage.settle(stage.leases(2, [[0, null, null], [3, null, null]])) // prettier-ignore
    expect(stage.computes()).toEqual(['forwardBackward 0', 'forwardBackward 3'])
    expect(stage.last('finished')).toMatchObject({ version: 2, losses: [[0, 0.5, 8], [3, 3.5, 8]] }) // prettier-ignore
    expect(stage.of('send').map(({ tensor }) => tensor).slice(2)).toEqual(['own 0 v2', 'own 1 v2']) // prettier-ignore
    expect(stage.of('beginStep')).toHaveLength(1)
  })

  it('supersede a share that was being read', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { leases: [[0, null, null]], owners: OWNERS })
    const [read] = stage.of('readGradient', stage.computed('forwardBackward', 0))
    stage.leases(2, [[3, null, null]])
    expect(stage.answer(read!)).toEqual([])
    stage.settle(stage.computed('forwardBackward', 3))
    expect(stage.of('send').map(({ tensor }) => tensor)).toEqual(['own 0 v2', 'own 1 v2'])
  })

  it('of a node that had none begin the step', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { owners: OWNERS })
    const types = stage.leases(1, [[4, null, null]]).map(({ type }) => type)
    expect(types).toEqual(['beginStep', 'compute'])
  })

  it('of another step or an older version are not heard', () => {
    const stage = Stage.ready()
    stage.settle(stage.step(1, { leases: [[0, null, null]], version: 3 }))
    expect(stage.leases(2, [[1, null, null]])).toEqual([])
    stage.now = 2
    expect(stage.leases(4, [[1, null, null]])).toEqual([])
    expect(stage.state.current!.leases.size).toBe(1)
  })

  it('after the sum put this node’s own gradient back first, and the sum counts no more', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.settle(stage.step(1, { leases: [[0, null, null]], owners: OWNERS }))
    for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
    stage.settle(stage.reduce(1, [['me', 1], ['you', 1]])) // prettier-ignore
    expect(stage.reports().filter((type) => type === 'reduced')).toHaveLength(2)
    const moved = stage.leases(2, [[3, null, null]])
    expect(moved.map(({ type }) => type)).toEqual(['restoreGradient', 'restoreGradient', 'compute'])
    expect(stage.of('restoreGradient').map(({ shard, tensor }) => [shard, tensor])).toEqual([
      [0, 'own 0 v1'],
      [1, 'own 1 v1'],
    ])
    stage.settle(moved)
    expect(stage.settle(stage.apply(OWNERS))).toEqual([])
    const again = stage.settle(stage.reduce(2, [['me', 2], ['you', 1]])) // prettier-ignore
    expect(stage.of('reduce', again)[0]!.contributions).toEqual(['own 0 v2', 'gradientShard 0 of you'])
    expect(stage.of('update', again)).toHaveLength(2)
  })

  it('after the sum of a node without a share put zeros back', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { owners: OWNERS })
    for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
    stage.settle(stage.reduce(1, [['you', 1]]))
    const moved = stage.leases(1, [[3, null, null]])
    expect(stage.of('restoreGradient', moved).map(({ tensor }) => tensor)).toEqual([null, null])
    expect(moved.map(({ type }) => type).slice(2)).toEqual(['beginStep', 'compute'])
  })
})

describe('a node that is revoked', () => {
  it('computes no more, takes no lease, and says nothing of what is under way', () => {
    const stage = middle()
    stage.frame('up', 'activation', 0)
    stage.frame('up', 'activation', 1)
    stage.revoked()
    expect(stage.computed('forward', 0, 'late')).toEqual([])
    expect(stage.frame('down', 'gradient', 0)).toEqual([])
    expect(stage.leases(2, [[5, 'up', 'down']])).toEqual([])
    expect(stage.frame('up', 'activation', 5)).toEqual([])
    expect(stage.state.current!.leases.size).toBe(2)
    expect(stage.reports()).toEqual(['ready'])
  })

  it('gives no share of its gradient sum, not even one that was being read', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { leases: [[0, null, null]], owners: OWNERS })
    const reads = stage.of('readGradient', stage.computed('forwardBackward', 0))
    expect(stage.sends(stage.answer(reads[0]!))).toEqual(['gradientShard 0 to you'])
    stage.revoked()
    expect(stage.answer(reads[1]!)).toEqual([])
    expect(stage.want('you', 'gradientShard', 0)).toEqual([])
    expect(stage.owners([['me', 'third'], ['you', 'third']])).toEqual([]) // prettier-ignore
    stage.frame('you', 'gradientShard', 0)
    expect(stage.of('reduce', stage.reduce(1, [['me', 1], ['you', 1]]))).toEqual([]) // prettier-ignore
  })

  it('still sums what others computed, takes their parameters, and works again in the next step', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { leases: [[0, null, null]], owners: [['you', 'third'], ['me', 'you']] }) // prettier-ignore
    stage.revoked()
    expect(stage.of('writeParameters', stage.settle(stage.frame('you', 'parameterShard', 0)))).toHaveLength(1)
    stage.frame('you', 'gradientShard', 1)
    stage.settle(stage.reduce(1, [['you', 1]]))
    stage.settle(stage.apply([['you', 'third'], ['me', 'you']])) // prettier-ignore
    expect(stage.sends()).toEqual(['parameterShard 1 to you', 'parameterShard 1 to third'])
    expect(stage.computes(stage.step(2, { leases: [[0, null, null]] }))).toEqual(['forwardBackward 0'])
  })
})
