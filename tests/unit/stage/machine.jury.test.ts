/** Proves how a stage recomputes another replica's claim beside its own work, and shows its own. */
import { describe, expect, it } from 'vitest'
import type { Digest } from '../../../src/protocol/receipt.ts'
import { digestOf, Stage } from './stage.ts'

const AUDIT = 'a'.repeat(64)
const OWNERS = [['other', 'third', 'me'], ['third', 'other', 'me']] // prettier-ignore
type Lease = [number, number, number, Digest | null, Digest | null]

const taken = (kind: string, microbatch: number, from: string) => digestOf(`${kind} ${microbatch} of ${from}`)
/** A claim of a stage in the middle. */
const rowOf = (microbatch: number): Lease => [
  microbatch,
  0,
  1,
  taken('activation', microbatch, 'up'),
  taken('gradient', microbatch, 'down'),
]

/** A middle stage in its first step, without leases unless it is given some. */
function middle(leases: [number, string, string][] = [], owners = OWNERS): Stage {
  const stage = Stage.ready({ stage: 1, stages: 3, replicas: 2 })
  stage.settle(stage.step(1, { leases, owners }))
  return stage
}

const ask = (stage: Stage, leases: Lease[] = [rowOf(4), rowOf(5)], microbatch = 5, audit = AUDIT) =>
  stage.server({ type: 'recompute', generation: 1, step: 1, audit, peers: ['up', 'down'], leases, microbatch, shard: 1, seed: [3, 9] }) // prettier-ignore

function give(stage: Stage, microbatch: number) {
  const first = stage.settle(stage.frame('up', 'activation', microbatch))
  return [...first, ...stage.settle(stage.frame('down', 'gradient', microbatch))]
}

const did = (stage: Stage) =>
  stage.log.flatMap((action) =>
    action.type === 'recompute'
      ? [`${action.op} ${action.microbatch}`]
      : ['beginStep', 'restoreGradient', 'testify', 'compute'].includes(action.type)
        ? [action.type]
        : [],
  )
const declined = (stage: Stage) => stage.log.flatMap((a) => (a.type === 'report' && a.message.type === 'declined' ? [a.message] : [])) // prettier-ignore

describe('a claim to recompute', () => {
  it('is computed from what its neighbours keep, on a cleared gradient, and told as the drawn tensors', () => {
    const stage = middle()
    const wants = ask(stage)
    expect(stage.of('want', wants).map(({ to, address }) => `${address.kind} ${address.index} of ${to}`)).toEqual([
      'activation 4 of up',
      'gradient 4 of down',
      'activation 5 of up',
      'gradient 5 of down',
    ])
    give(stage, 5)
    give(stage, 4)
    expect(did(stage)).toEqual(['beginStep', 'forward 5', 'backward 5', 'forward 4', 'backward 4', 'testify'])
    expect(stage.of('testify')).toEqual([
      {
        ...{ type: 'testify', audit: AUDIT, step: 1, shard: 1, seed: [3, 9], losses: [0, 0] },
        input: 'activation 5 of up',
        activation: 'forward 5 again',
        inputGradient: 'backward 5 again',
      },
    ])
    expect(stage.reports().at(-1)).toBe('recomputed')
  })

  it('of the last stage tells the mean losses in the order of the claim', () => {
    const stage = Stage.ready({ stage: 1, stages: 2, replicas: 2 })
    stage.step(1, { owners: OWNERS })
    const leases = [7, 2].map((m): Lease => [m, 0, -1, taken('activation', m, 'up'), null])
    ask(stage, leases, 2)
    for (const m of [2, 7]) stage.settle(stage.frame('up', 'activation', m))
    expect(did(stage)).toEqual(['beginStep', 'forwardBackward 2', 'forwardBackward 7', 'testify'])
    expect(stage.of('testify')[0]).toMatchObject({ losses: [1.5, 1.5], activation: null })
  })

  it('waits for this node’s own work, and clears its sum only when that was read', () => {
    const stage = middle([[0, 'up', 'down']])
    ask(stage, [rowOf(4)], 4)
    give(stage, 4)
    expect(did(stage)).toEqual([])
    give(stage, 0)
    expect(did(stage)).toEqual(['beginStep', 'compute', 'compute', 'beginStep', 'forward 4', 'backward 4', 'testify'])
    const order = stage.log.map((action) => action.type)
    expect(order.lastIndexOf('readGradient')).toBeLessThan(order.lastIndexOf('beginStep'))
    expect(stage.reports()).toEqual(['ready', 'receipt', 'finished', 'recomputed'])
  })

  it('is declined where an input is not what the claim took', () => {
    const stage = middle()
    ask(stage, [[4, 0, 1, digestOf('something else'), taken('gradient', 4, 'down')]], 4)
    give(stage, 4)
    expect(stage.of('testify')).toEqual([])
    expect(declined(stage)).toMatchObject([{ audit: AUDIT, step: 1, reason: expect.stringContaining('other inputs') }])
  })

  it('takes inputs from the named neighbours alone, once', () => {
    const stage = middle()
    ask(stage, [rowOf(4)], 4)
    stage.frame('down', 'activation', 4)
    stage.frame('up', 'activation', 4, { boundary: 1 })
    expect(did(stage)).toEqual([])
    give(stage, 4)
    expect(stage.of('testify')).toHaveLength(1)
  })

  it('asks again for inputs that do not come', () => {
    const stage = middle()
    ask(stage, [rowOf(4)], 4)
    stage.frame('up', 'activation', 4)
    stage.log.length = 0
    stage.idle(3)
    expect(stage.of('want').map(({ to }) => to)).toContain('down')
    expect(stage.of('want').map(({ to }) => to)).not.toContain('up')
    expect(stage.reports()).not.toContain('waiting')
  })

  it.each([
    ['new leases', (stage: Stage) => stage.leases(2, [[0, 'up', 'down'], [9, 'up', 'down']])], // prettier-ignore
    ['a sum', (stage: Stage) => stage.reduce(1, [['me', 1], ['other', 1]])], // prettier-ignore
    ['another step', (stage: Stage) => stage.step(2, { leases: [], owners: OWNERS })],
    ['a revocation', (stage: Stage) => stage.revoked()],
  ])('gives way to %s', (_, what) => {
    const stage = middle([[0, 'up', 'down']], [['me', 'third'], ['third', 'me']]) // prettier-ignore
    give(stage, 0)
    ask(stage, [rowOf(4)], 4)
    what(stage)
    expect(declined(stage)).toMatchObject([{ audit: AUDIT, step: 1 }])
    give(stage, 4)
    expect(stage.of('testify')).toEqual([])
  })

  it('leaves this node’s own share to be put back before more leases are added to it', () => {
    const stage = middle([[0, 'up', 'down']])
    give(stage, 0)
    ask(stage, [rowOf(4)], 4)
    give(stage, 4)
    stage.log.length = 0
    stage.settle(stage.leases(2, [[0, 'up', 'down'], [9, 'up', 'down']])) // prettier-ignore
    give(stage, 9)
    expect(stage.of('restoreGradient')).toEqual([0, 1].map((shard) => ({ type: 'restoreGradient', shard, tensor: `own ${shard} v1` }))) // prettier-ignore
    expect(did(stage)).toEqual(['restoreGradient', 'restoreGradient', 'compute', 'compute'])
    expect(stage.reports().at(-1)).toBe('finished')
  })

  it('is declined by who sums already, who has its own sum on the device alone, and for other work than the stage’s', () => {
    const summing = middle([[0, 'up', 'down']], [['me', 'third'], ['third', 'me']]) // prettier-ignore
    give(summing, 0)
    summing.reduce(1, [['me', 1], ['third', 1]]) // prettier-ignore
    ask(summing)
    const alone = middle([[0, 'up', 'down']], [['me'], ['me']])
    give(alone, 0)
    ask(alone, [rowOf(4)], 4)
    give(alone, 4)
    const edges = middle()
    ask(edges, [[4, -1, 1, null, taken('gradient', 4, 'down')]], 4)
    for (const stage of [summing, alone, edges]) {
      expect(declined(stage)).toHaveLength(1)
      expect(stage.of('testify')).toEqual([])
    }
  })

  it('is computed from what others keep where the server names them, and goes on with what came before', () => {
    const stage = middle()
    ask(stage, [rowOf(4)], 4)
    stage.settle(stage.frame('up', 'activation', 4))
    const again = stage.server({ type: 'recompute', generation: 1, step: 1, audit: AUDIT, peers: ['up', 'claimant'], leases: [rowOf(4)], microbatch: 4, shard: 1, seed: [3, 9] }) // prettier-ignore
    expect(stage.of('want', again).map(({ to, address }) => `${address.kind} of ${to}`)).toEqual([
      'gradient of claimant',
    ])
    stage.settle(stage.frame('down', 'gradient', 4))
    expect(stage.of('testify')).toEqual([])
    const tensor = 'gradient 4 of down'
    stage.settle(stage.do({ type: 'frame', from: 'claimant', address: stage.address('gradient', 4), tensor, digest: digestOf(tensor) })) // prettier-ignore
    expect(stage.of('testify')).toHaveLength(1)
  })

  it('follows another, and is asked for once', () => {
    const stage = middle()
    ask(stage, [rowOf(4)], 4)
    ask(stage, [rowOf(4)], 4)
    ask(stage, [rowOf(4), rowOf(5)], 5, 'b'.repeat(64))
    give(stage, 4)
    give(stage, 5)
    expect(stage.of('testify').map(({ audit }) => audit[0])).toEqual(['a', 'b'])
  })
})

describe('what a claimant shows', () => {
  const show = (stage: Stage, microbatch = 0) =>
    stage.server({ type: 'show', generation: 1, step: 1, audit: AUDIT, microbatch, shard: 1 })

  it('is what it made of the microbatch, and its share of the shard', () => {
    const stage = middle([[0, 'up', 'down']])
    give(stage, 0)
    expect(show(stage)).toEqual(
      [['activation', 'forward 0'], ['gradient', 'backward 0'], ['share', 'own 1 v1']].map(([kind, tensor]) => ({ type: 'exhibit', audit: AUDIT, step: 1, kind, tensor })), // prettier-ignore
    )
  })

  it('is nothing of leases that changed since, or that it never had', () => {
    const stage = middle([[0, 'up', 'down']])
    give(stage, 0)
    show(stage, 3)
    stage.leases(2, [[0, 'up', 'down'], [9, 'up', 'down']]) // prettier-ignore
    show(stage)
    expect(stage.of('exhibit')).toEqual([])
    expect(declined(stage)).toHaveLength(2)
  })
})

describe('what another made whose claim is audited', () => {
  const show = (stage: Stage, kind: 'activation' | 'gradient' | 'share', maker: string, microbatch = 0) =>
    stage.server({ type: 'showTaken', generation: 1, step: 1, audit: AUDIT, kind, maker, microbatch, shard: 0 })

  it('is shown by who took it, as it came', () => {
    const stage = middle([[0, 'up', 'down']], [['me', 'other'], ['other', 'third']]) // prettier-ignore
    give(stage, 0)
    stage.frame('other', 'gradientShard', 0)
    const shown = [show(stage, 'activation', 'up'), show(stage, 'gradient', 'down'), show(stage, 'share', 'other')]
    expect(shown.flat()).toEqual(
      [['activation', 'activation 0 of up'], ['gradient', 'gradient 0 of down'], ['share', 'gradientShard 0 of other']].map(([kind, tensor]) => ({ type: 'exhibit', audit: AUDIT, step: 1, kind, tensor, taken: true })), // prettier-ignore
    )
  })

  it('is nothing that came from somebody else, or not at all', () => {
    const stage = middle([[0, 'up', 'down']])
    give(stage, 0)
    expect(show(stage, 'activation', 'down')).toEqual([])
    expect(show(stage, 'gradient', 'down', 3)).toEqual([])
    expect(show(stage, 'share', 'other')).toEqual([])
  })
})

describe('shares', () => {
  it('are read and sent before they are signed for, all of them', () => {
    const stage = middle([[0, 'up', 'down']])
    stage.signs = false
    give(stage, 0)
    expect(stage.of('sign')).toMatchObject([{ shares: [digestOf('own 0 v1'), digestOf('own 1 v1')] }])
    expect(stage.sends().filter((sent) => sent.startsWith('gradientShard'))).toHaveLength(4)
    expect(stage.reports()).toEqual(['ready'])
  })

  it('are not signed for where nobody takes them', () => {
    const stage = middle([[0, 'up', 'down']], [['me'], ['me']])
    give(stage, 0)
    expect(stage.of('readGradient')).toEqual([])
    expect(stage.of('sign')).toMatchObject([{ shares: [] }])
  })

  it('that were summed are named by their digests when the server asks', () => {
    const stage = middle([[0, 'up', 'down']], [['me', 'other'], ['other', 'third']]) // prettier-ignore
    give(stage, 0)
    stage.frame('other', 'gradientShard', 0)
    const tally = (attempt: number) => stage.server({ type: 'tally', generation: 1, step: 1, attempt, shard: 0 })
    expect(tally(1)).toEqual([])
    stage.settle(stage.reduce(1, [['me', 1], ['other', 1]])) // prettier-ignore
    const digests = [digestOf('own 0 v1'), digestOf('gradientShard 0 of other')]
    expect(tally(1)).toEqual([{ type: 'tally', step: 1, attempt: 1, shard: 0, digests }])
    expect(tally(2)).toEqual([])
  })
})
