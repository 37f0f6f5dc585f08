/** Proves what a stage makes of what arrives: tensors filed once and from the right node, the merge, the generations. */
import { describe, expect, it } from 'vitest'
import type { ClientMessage } from '../../../src/protocol/control.ts'
import { Stage } from './stage.ts'

const SQUARE = [
  ['a', 'b'],
  ['c', 'd'],
]

/** The last stage's first replica, which owns microbatches 0 and 2, with both of them done. */
const computedOut = () => {
  const stage = new Stage(SQUARE, 'c')
  stage.step(1)
  stage.frame('a', 'activation', 0)
  stage.computed('forwardBackward', 0, 'g')
  stage.frame('a', 'activation', 2)
  stage.computed('forwardBackward', 2, 'g')
  return stage
}
const reduced = () => {
  const stage = computedOut()
  stage.do({ type: 'gradientRead', generation: 1, shard: 0, tensor: 'own 0' })
  stage.do({ type: 'gradientRead', generation: 1, shard: 1, tensor: 'own 1' })
  stage.frame('d', 'gradientShard', 0)
  stage.do({ type: 'reduced', generation: 1, squaredNorm: 9 })
  return stage
}

describe('tensors between stages', () => {
  it('go to the owner of the microbatch, with their address', () => {
    const stage = new Stage(SQUARE, 'b')
    stage.step(1)
    stage.computed('forward', 1, 'out')
    const address = { kind: 'activation', generation: 1, step: 1, index: 1, boundary: 0, replica: 1 }
    expect(stage.of('send')).toEqual([{ type: 'send', to: 'd', address, tensor: 'out' }])
    expect(computedOut().of('send')[0]).toMatchObject({ to: 'a', address: { kind: 'gradient', index: 0, boundary: 0 } })
  })

  it('are consumed once, however often they arrive', () => {
    const stage = new Stage([['a'], ['b'], ['c']], 'b')
    stage.step(1)
    for (let i = 0; i < 3; i++) stage.frame('a', 'activation', 0)
    stage.computed('forward', 0, 'x')
    stage.frame('a', 'activation', 0)
    for (let i = 0; i < 2; i++) stage.frame('c', 'gradient', 0)
    // While its backward runs, and after.
    stage.frame('c', 'gradient', 0)
    stage.computed('backward', 0, 'g')
    stage.frame('c', 'gradient', 0)
    expect(stage.computes()).toEqual(['forward 0', 'backward 0'])
    expect(stage.state.refusedFrames).toBe(6)
  })

  const cases: [string, Parameters<Stage['frame']>][] = [
    ['a stranger', ['x', 'activation', 0]],
    ['the other replica upstream', ['b', 'activation', 0]],
    ['a replica of the same stage', ['d', 'activation', 0]],
    ['the wrong boundary', ['a', 'activation', 0, { boundary: 1 }]],
    ['a microbatch of the other replica', ['b', 'activation', 1]],
    ['a microbatch beyond the step', ['a', 'activation', 4]],
    ['a generation that is over', ['a', 'activation', 0, { generation: 0 }]],
    ['a generation to come', ['a', 'activation', 0, { generation: 2 }]],
    ['a step that is over', ['a', 'activation', 0, { step: 0 }]],
    ['a step after the next', ['a', 'activation', 0, { step: 3 }]],
    ['a gradient at the last stage', ['a', 'gradient', 0]],
    ['a shard for the other replica', ['d', 'gradientShard', 1]],
    ['a shard from upstream', ['a', 'gradientShard', 0]],
    ['a shard under another replica’s name', ['d', 'gradientShard', 0, { replica: 0 }]],
    ['a shard of another stage', ['d', 'gradientShard', 0, { boundary: 0 }]],
    ['parameters of the own shard', ['d', 'parameterShard', 0]],
    ['parameters from who does not own them', ['a', 'parameterShard', 1]],
    ['parameters of a shard that does not exist', ['d', 'parameterShard', 7]],
  ]
  it.each(cases)('are refused: %s', (_, frame) => {
    const stage = new Stage(SQUARE, 'c')
    stage.step(1)
    expect(stage.frame(...frame)).toEqual([])
    expect(stage.state.refusedFrames).toBe(1)
    expect(stage.state.early).toEqual([])
    expect(stage.state.current).toMatchObject({ activations: new Map(), contributions: new Map(), received: new Set() })
  })

  it('of a gradient are refused before the activation they answer was sent', () => {
    const stage = new Stage(SQUARE, 'a')
    stage.step(1)
    stage.frame('c', 'gradient', 0)
    expect(stage.state.refusedFrames).toBe(1)
    stage.computed('forward', 0, 'x')
    stage.frame('c', 'gradient', 0)
    expect(stage.computes()).toEqual(['forward 0', 'forward 2'])
    stage.computed('forward', 2, 'x')
    expect(stage.computes().at(-1)).toBe('backward 0')
  })
})

describe('frames ahead of the server’s word', () => {
  it('wait for their step, each once, and are checked like any other', () => {
    const stage = new Stage(SQUARE, 'c', { at: 4 })
    stage.frame('a', 'activation', 2, { step: 5 })
    stage.frame('a', 'activation', 2, { step: 5 })
    stage.frame('b', 'activation', 0, { step: 5 })
    stage.frame('a', 'activation', 0, { step: 6 })
    stage.frame('d', 'gradientShard', 0, { step: 5 })
    expect(stage.state.early).toHaveLength(2)
    expect(stage.state.refusedFrames).toBe(3)
    stage.step(5)
    expect(stage.state.early).toEqual([])
    expect(stage.computes()).toEqual(['forwardBackward 2'])
    expect(stage.state.current!.contributions.size).toBe(1)
  })

  it('do not outlive their generation', () => {
    const stage = new Stage(SQUARE, 'c')
    stage.frame('a', 'activation', 0)
    stage.assign(2)
    expect(stage.state.early).toEqual([])
    stage.do({ type: 'prepared', generation: 2 })
    stage.step(1, { generation: 2 })
    expect(stage.computes()).toEqual([])
  })
})

describe('the merge', () => {
  it('begins once every owned microbatch is done, and sums in the order of replicas whatever came first', () => {
    const stage = new Stage(SQUARE, 'd')
    stage.step(1, { microbatches: 2 })
    stage.frame('c', 'gradientShard', 1)
    stage.frame('b', 'activation', 1)
    expect(stage.of('readGradient')).toEqual([])
    stage.computed('forwardBackward', 1, 'g')
    expect(stage.of('readGradient').map(({ shard }) => shard)).toEqual([0, 1])
    stage.do({ type: 'gradientRead', generation: 1, shard: 0, tensor: 'own 0' })
    expect(stage.of('send').at(-1)).toMatchObject({ to: 'c', address: { kind: 'gradientShard', index: 0, replica: 1 } })
    expect(stage.of('reduce')).toEqual([])
    stage.do({ type: 'gradientRead', generation: 1, shard: 1, tensor: 'own 1' })
    expect(stage.of('reduce')).toEqual([{ type: 'reduce', shard: 1, contributions: ['gradientShard 1 of c', 'own 1'] }])
  })

  it('takes its own sum in its place, even when the others’ came before it', () => {
    const stage = computedOut()
    stage.frame('d', 'gradientShard', 0)
    stage.do({ type: 'gradientRead', generation: 1, shard: 0, tensor: 'own 0' })
    expect(stage.of('reduce')[0]!.contributions).toEqual(['own 0', 'gradientShard 0 of d'])
  })

  it('of a stage with one replica needs nobody', () => {
    const stage = new Stage([['a']], 'a')
    stage.step(1, { microbatches: 1 })
    stage.computed('forwardBackward', 0)
    expect(stage.of('readGradient')).toEqual([])
    expect(stage.of('reduce')).toEqual([{ type: 'reduce', shard: 0, contributions: [] }])
    stage.do({ type: 'reduced', generation: 1, squaredNorm: 9 })
    stage.apply(1)
    stage.do({ type: 'updated', generation: 1, tensor: '' })
    expect(stage.of('send')).toEqual([])
    expect(stage.reports()).toEqual(['ready', 'loss', 'shardReduced', 'stepApplied'])
  })

  it('takes one contribution a replica', () => {
    const stage = reduced()
    stage.frame('d', 'gradientShard', 0)
    expect(stage.of('reduce')).toHaveLength(1)
    expect(stage.state.current!.contributions.size).toBe(0)
    expect(stage.state.refusedFrames).toBe(1)
  })

  it('of a replica without microbatches begins at once', () => {
    const stage = new Stage([['a', 'b', 'c']], 'c')
    stage.step(1, { microbatches: 2 })
    expect(stage.of('readGradient')).toHaveLength(3)
  })

  it('is applied once, at the server’s word and not before the own shard is whole', () => {
    const early = computedOut()
    early.apply(1)
    expect(early.of('update')).toEqual([])
    const stage = reduced()
    stage.apply(2)
    stage.do({ type: 'server', message: { type: 'apply', generation: 9, step: 1, lr: 1, scale: 1 } })
    expect(stage.of('update')).toEqual([])
    stage.apply(1)
    stage.apply(1)
    stage.do({ type: 'updated', generation: 1, tensor: 'new' })
    stage.apply(1)
    expect(stage.of('update')).toEqual([{ type: 'update', shard: 0, step: 1, lr: 0.1, scale: 0.5 }])
    expect(stage.of('send').at(-1)).toMatchObject({ to: 'd', address: { kind: 'parameterShard', index: 0 } })
  })

  it('is reported once every shard is in place, the others’ written once each', () => {
    const stage = reduced()
    stage.frame('d', 'parameterShard', 1)
    stage.frame('d', 'parameterShard', 1)
    expect(stage.of('writeParameters')).toHaveLength(1)
    stage.apply(1)
    stage.do({ type: 'updated', generation: 1, tensor: 'new' })
    expect(stage.reports()).not.toContain('stepApplied')
    stage.do({ type: 'parametersWritten', generation: 1, shard: 1 })
    expect(stage.reports().filter((type) => type === 'stepApplied')).toHaveLength(1)
  })
})

describe('generations', () => {
  it('ready, releases and steps of another are not heard', () => {
    const stage = new Stage(SQUARE, 'c', { generation: 5 })
    stage.do({ type: 'prepared', generation: 4 })
    expect(stage.reports()).toEqual(['ready'])
    stage.step(1, { generation: 4 })
    stage.do({ type: 'server', message: { type: 'release', generation: 4, reason: '' } })
    stage.do({ type: 'server', message: { type: 'save', generation: 4, step: 1 } })
    expect(stage.state.current).toBeNull()
    expect(stage.state.assignment).not.toBeNull()
    expect(stage.of('save')).toEqual([])
    stage.assign(5)
    stage.assign(3)
    expect(stage.of('prepare')).toHaveLength(1)
  })

  it('a newer one discards the older and what still runs for it', () => {
    const stage = new Stage(SQUARE, 'c')
    stage.step(1)
    stage.frame('a', 'activation', 0)
    stage.assign(2)
    expect(stage.log.slice(-2).map(({ type }) => type)).toEqual(['discard', 'prepare'])
    expect(stage.computed('forwardBackward', 0, 'late')).toEqual([])
    expect(stage.step(1, { generation: 2 })).toEqual([])
  })

  it('a step that is repeated or over does not begin', () => {
    const stage = new Stage([['a']], 'a')
    stage.step(2)
    const { current } = stage.state
    stage.step(2)
    stage.step(1)
    expect(stage.state.current).toBe(current)
  })

  it('a failure is reported once and leaves nothing behind', () => {
    const stage = new Stage(SQUARE, 'c')
    stage.step(1)
    const error = { code: 'gpu.lost', message: '', remedy: '' }
    const failure = { type: 'failed', generation: 1, message: { type: 'failed', generation: 1, error } } as const
    stage.do(failure)
    stage.do(failure)
    expect(stage.log.slice(-2)).toEqual([{ type: 'discard' }, { type: 'report', message: failure.message }])
    expect(stage.reports().filter((type) => type === 'failed')).toHaveLength(1)
    expect(stage.state).toMatchObject({ assignment: null, prepared: false, current: null, early: [] })
  })

  it('standby and release end an assignment, the second time without effect', () => {
    for (const message of [
      { type: 'standby', reason: '' },
      { type: 'release', generation: 1, reason: '' },
    ] as const) {
      const stage = new Stage(SQUARE, 'c')
      stage.do({ type: 'server', message })
      stage.do({ type: 'server', message })
      expect(stage.of('discard')).toHaveLength(1)
      stage.frame('a', 'activation', 0)
      expect(stage.state.refusedFrames).toBe(1)
    }
  })

  it('a save asks for it and passes the answer on', () => {
    const stage = new Stage([['a']], 'a')
    stage.do({ type: 'server', message: { type: 'save', generation: 1, step: 3 } })
    expect(stage.of('save')).toEqual([{ type: 'save', step: 3 }])
    const parametersHash = '0'.repeat(64)
    const saved = { generation: 1, step: 3, shard: 0, chunks: [], parametersHash }
    const message: ClientMessage = { type: 'shardSaved', ...saved }
    stage.do({ type: 'saved', generation: 1, message })
    expect(stage.of('report').at(-1)!.message).toBe(message)
  })
})
