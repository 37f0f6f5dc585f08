/** Proves a stage's plain step from its leases to its report, what it files and what it refuses, and its generations. */
import { describe, expect, it } from 'vitest'
import type { ClientMessage } from '../../../src/protocol/control.ts'
import { type LeaseOf, Stage } from './stage.ts'

const MIDDLE: LeaseOf[] = [[0, 'up', 'down'], [2, 'up', 'down']] // prettier-ignore
const middle = () => {
  const stage = Stage.ready({ stage: 1, stages: 3, replicas: 2 })
  stage.step(1, { leases: MIDDLE, owners: [['me', 'you'], ['you', 'me']] }) // prettier-ignore
  return stage
}

describe('a training step', () => {
  it('on the first stage sends activations down and takes gradients back', () => {
    const stage = Stage.ready({ stages: 2 })
    stage.settle(stage.step(1, { leases: [[0, null, 'a'], [1, null, 'b']] })) // prettier-ignore
    expect(stage.log.map(({ type }) => type).slice(2, 4)).toEqual(['beginStep', 'compute'])
    expect(stage.of('send').map(({ to, tensor, again }) => [to, tensor, again])).toEqual([
      ['a', 'forward 0', false],
      ['b', 'forward 1', false],
    ])
    expect(stage.of('send')[1]!.address).toEqual({ kind: 'activation', generation: 1, step: 1, index: 1, boundary: 0, attempt: 0 }) // prettier-ignore
    stage.settle(stage.frame('b', 'gradient', 1))
    expect(stage.reports()).toEqual(['ready'])
    stage.settle(stage.frame('a', 'gradient', 0))
    expect(stage.last('finished')).toEqual({ type: 'finished', generation: 1, step: 1, version: 1, losses: [], busyMs: 20 }) // prettier-ignore
    expect(stage.of('beginStep')).toHaveLength(1)
  })

  it('in the middle sends both ways', () => {
    const stage = middle()
    stage.settle(stage.frame('up', 'activation', 0))
    stage.settle(stage.frame('down', 'gradient', 0))
    expect(stage.computes()).toEqual(['forward 0', 'backward 0'])
    expect(stage.of('compute').map(({ input }) => input)).toEqual(['activation 0 of up', 'gradient 0 of down'])
    expect(stage.sends()).toEqual(['activation 0 to down', 'gradient 0 to up'])
    expect(stage.of('send').map(({ address }) => address.boundary)).toEqual([1, 0])
  })

  it('on the last stage reports the loss of every lease, in their order', () => {
    const stage = Stage.ready({ stage: 1, stages: 2 })
    stage.step(1, { leases: [[2, 'up', null], [4, 'up', null]] }) // prettier-ignore
    stage.settle(stage.frame('up', 'activation', 4))
    stage.settle(stage.frame('up', 'activation', 2))
    const losses = [[2, 2.5, 8], [4, 4.5, 8]] // prettier-ignore
    expect(stage.last('finished')).toMatchObject({ losses, busyMs: 10, version: 1 })
    expect(stage.sends()).toEqual(['gradient 4 to up', 'gradient 2 to up'])
  })

  it('of the only node merges with nobody, is applied and followed by the next', () => {
    const stage = Stage.ready()
    stage.settle(stage.step(1, { leases: [[0, null, null]] }))
    expect(stage.of('readGradient')).toEqual([])
    stage.settle(stage.reduce(1, [['me', 1]]))
    expect(stage.of('reduce')).toEqual([
      { type: 'reduce', step: 1, attempt: 1, shard: 0, contributions: [], digests: [] },
    ])
    stage.settle(stage.apply([['me']], { receivers: ['me'] }))
    expect(stage.sends()).toEqual([])
    stage.settle(stage.step(2, { leases: [[0, null, null]] }))
    expect(stage.reports()).toEqual(['ready', 'receipt', 'finished', 'reduced', 'updated', 'receipt', 'finished'])
  })

  it('without leases computes nothing, and reports what the server knows no second time', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.settle(stage.step(1))
    expect(stage.log.map(({ type }) => type)).toEqual(['prepare', 'report'])
  })

  it('is begun with another look at its speed after four in a row without leases, then eight, then sixteen', () => {
    const stage = Stage.ready({ replicas: 2 })
    const measuredIn = (steps: number[], leases: LeaseOf[] = []) =>
      steps.filter((step) => stage.step(step, { leases }).some(({ type }) => type === 'measure'))
    const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i)
    expect(measuredIn(range(1, 20))).toEqual([4, 8, 16])
    stage.do({ type: 'measured', generation: 1, expectedMs: 7 })
    expect(stage.last('measured')).toEqual({ type: 'measured', generation: 1, expectedMs: 7 })
    expect(measuredIn([21], [[0, null, null]])).toEqual([])
    expect(measuredIn(range(22, 30))).toEqual([25, 29])
  })
})

describe('an evaluation', () => {
  const LEASES: LeaseOf[] = [[0, 'up', null], [1, 'up', null]] // prettier-ignore
  it('is rounds of forward passes, each reported, with no owners and nothing to merge', () => {
    const stage = Stage.ready({ stage: 1, stages: 2, replicas: 2, at: 5 })
    stage.step(6, { mode: 'evaluate', committed: 5, leases: LEASES, owners: [] })
    stage.settle(stage.frame('up', 'activation', 0))
    stage.settle(stage.frame('up', 'activation', 1))
    expect(stage.last('finished')).toMatchObject({ step: 6, losses: [[0, 0.5, 8], [1, 1.5, 8]] }) // prettier-ignore
    stage.step(7, { mode: 'evaluate', committed: 5, leases: [[2, 'up', null]], owners: [] })
    stage.settle(stage.frame('up', 'activation', 2))
    expect(stage.computes()).toEqual(['evaluate 0', 'evaluate 1', 'evaluate 2'])
    expect(stage.of('beginStep').concat(stage.of('readGradient') as never[])).toEqual([])
    expect(stage.reports()).toEqual(['ready', 'finished', 'finished'])
  })

  it('keeps its outputs for the round, and takes leases over', () => {
    const stage = Stage.ready({ stages: 2 })
    stage.settle(stage.step(1, { mode: 'evaluate', committed: 0, leases: [[0, null, 'a']] }))
    const moved = stage.settle(stage.leases(2, [[0, null, 'b'], [1, null, 'b']])) // prettier-ignore
    expect(stage.sends(moved)).toEqual(['activation 0 to b', 'activation 1 to b'])
    expect(stage.last('finished')).toMatchObject({ version: 2 })
    expect(stage.sends(stage.want('b', 'activation', 1, { boundary: 0 }))).toEqual(['activation 1 to b'])
  })
})

describe('tensors between stages', () => {
  it('are consumed once, however often they arrive', () => {
    const stage = Stage.ready({ stage: 1, stages: 3 })
    stage.step(1, { leases: [[0, 'up', 'down'], [1, 'up', 'down']] }) // prettier-ignore
    for (let i = 0; i < 3; i++) stage.frame('up', 'activation', 0)
    stage.computed('forward', 0, 'x')
    stage.frame('up', 'activation', 0)
    for (let i = 0; i < 3; i++) stage.frame('down', 'gradient', 0)
    stage.computed('backward', 0, 'g')
    stage.frame('down', 'gradient', 0)
    stage.frame('up', 'activation', 0)
    expect(stage.computes()).toEqual(['forward 0', 'backward 0'])
    expect(stage.state.refusedFrames).toBe(7)
    expect(stage.state.current!.done).toBe(1)
  })

  const cases: [string, Parameters<Stage['frame']>][] = [
    ['a stranger', ['x', 'activation', 0]],
    ['the neighbour on the other side', ['down', 'activation', 0]],
    ['a replica of the same stage', ['you', 'gradient', 0]],
    ['the wrong boundary', ['up', 'activation', 0, { boundary: 1 }]],
    ['a microbatch of another', ['up', 'activation', 1]],
    ['a generation that is over', ['up', 'activation', 0, { generation: 0 }]],
    ['a generation to come', ['up', 'activation', 0, { generation: 2 }]],
    ['a step that is over', ['up', 'activation', 0, { step: 0 }]],
    ['a step after the next', ['up', 'activation', 0, { step: 3 }]],
    ['a share of another stage', ['you', 'gradientShard', 0, { boundary: 0 }]],
    ['a share of a shard that does not exist', ['you', 'gradientShard', 7]],
    ['parameters of a shard that does not exist', ['you', 'parameterShard', 7]],
    ['parameters from who does not own them', ['up', 'parameterShard', 1]],
    ['parameters of the shard it is first to own', ['you', 'parameterShard', 0]],
    ['parameters of this step amid its microbatches', ['you', 'parameterShard', 1]],
    ['parameters of the step before that stand already', ['you', 'parameterShard', 1, { step: 0 }]],
    ['parameters of another stage', ['you', 'parameterShard', 1, { boundary: 0 }]],
    ['moments that stand already', ['you', 'momentShard', 0, { step: 0 }]],
    ['moments of this step', ['you', 'momentShard', 0]],
  ]
  it.each(cases)('are refused: %s', (_, frame) => {
    const stage = middle()
    expect(stage.frame(...frame)).toEqual([])
    expect(stage.state.refusedFrames).toBe(1)
    expect(stage.state.early.size).toBe(0)
    for (const shard of stage.state.current!.shards) expect(shard).toMatchObject({ contributions: new Map(), takenFrom: null }) // prettier-ignore
  })

  it('of a gradient wait for the forward, which an owner before may have made', () => {
    const stage = middle()
    stage.frame('down', 'gradient', 0)
    expect(stage.computes()).toEqual([])
    const actions = stage.settle(stage.frame('up', 'activation', 0))
    expect(stage.computes(actions)).toEqual(['forward 0', 'backward 0'])
    // Who sent the gradient has the activation.
    expect(stage.sends(actions)).toEqual(['gradient 0 to up'])
  })
})

describe('frames ahead of the server’s word', () => {
  it('wait for their step, each once, and are checked like any other', () => {
    const stage = Stage.ready({ stage: 1, stages: 2, at: 4 })
    for (let i = 0; i < 2; i++) stage.frame('up', 'activation', 2, { step: 5 })
    stage.frame('x', 'activation', 0, { step: 5 })
    stage.frame('up', 'activation', 0, { step: 6 })
    stage.frame('you', 'gradientShard', 0, { step: 5 })
    expect(stage.state.early.size).toBe(3)
    expect(stage.state.refusedFrames).toBe(1)
    stage.step(5, { leases: [[0, 'up', null], [2, 'up', null]], owners: [['me', 'you']] }) // prettier-ignore
    expect(stage.state.early.size).toBe(0)
    expect(stage.state.refusedFrames).toBe(2)
    expect(stage.computes()).toEqual(['forwardBackward 2'])
    expect(stage.state.current!.shards[0]!.contributions.size).toBe(1)
    stage.frame('up', 'activation', 0, { step: 6 })
    expect(stage.state.early.size).toBe(1)
  })

  it('are no more than a step can bring', () => {
    const stage = Stage.ready({ stage: 1, stages: 2 })
    for (let m = 0; m < 5000; m++) stage.frame('up', 'activation', m)
    expect(stage.state.early.size).toBe(4096)
    expect(stage.state.refusedFrames).toBe(904)
  })

  it('do not outlive their generation', () => {
    const stage = Stage.ready({ stage: 1, stages: 2 })
    stage.frame('up', 'activation', 0)
    stage.assign({ generation: 2 })
    expect(stage.state.early.size).toBe(0)
    stage.prepared(0)
    stage.step(1, { leases: [[0, 'up', null]] })
    expect(stage.computes()).toEqual([])
  })
})

describe('generations', () => {
  it('messages and events of another are not heard', () => {
    const stage = new Stage({ stage: 1, stages: 2 })
    stage.assign({ generation: 5 })
    stage.do({ type: 'prepared', generation: 4, step: 0, expectedMs: null })
    expect(stage.reports()).toEqual([])
    stage.prepared(0)
    stage.step(1, { generation: 4 })
    stage.server({ type: 'release', generation: 4, reason: '' })
    stage.server({ type: 'save', generation: 4, step: 0, shards: [0] })
    expect(stage.state.current).toBeNull()
    expect(stage.state.assignment).not.toBeNull()
    expect(stage.of('save')).toEqual([])
    stage.assign({ generation: 3 })
    expect(stage.of('prepare')).toHaveLength(1)
  })

  it('a newer one from the checkpoint discards the older and what still runs for it', () => {
    const stage = Stage.ready({ stage: 1, stages: 2 })
    stage.step(1, { leases: [[0, 'up', null]] })
    stage.frame('up', 'activation', 0)
    const actions = stage.assign({ generation: 2 })
    expect(actions.map(({ type }) => type)).toEqual(['discard', 'prepare'])
    const late = { type: 'computed', generation: 1, step: 1, op: 'forwardBackward', microbatch: 0 } as const
    expect(stage.do({ ...late, output: 'late', digest: null, loss: null, busyMs: 1 })).toEqual([])
  })

  it('a step that is repeated or over does not begin, and what it still computes is forgotten', () => {
    const stage = Stage.ready({ stage: 1, stages: 2, at: 1 })
    stage.step(2, { leases: [[0, 'up', null]] })
    const { current } = stage.state
    stage.step(2)
    stage.step(1)
    expect(stage.state.current).toBe(current)
    stage.frame('up', 'activation', 0, { step: 2 })
    stage.step(3, { leases: [[0, 'up', null]] })
    expect(stage.computed('forwardBackward', 0, 'late', 2)).toEqual([])
    expect(stage.state.current!.done).toBe(0)
  })

  it('a failure is reported once and leaves nothing behind', () => {
    const stage = Stage.ready()
    stage.step(1)
    const error = { code: 'gpu.lost', message: '', remedy: '' }
    const failure = { type: 'failed', generation: 1, message: { type: 'failed', generation: 1, error } } as const
    stage.do(failure)
    stage.do(failure)
    expect(stage.log.slice(-2)).toEqual([{ type: 'discard' }, { type: 'report', message: failure.message }])
    expect(stage.reports().filter((type) => type === 'failed')).toHaveLength(1)
    expect(stage.state).toMatchObject({ assignment: null, prepared: false, current: null })
  })

  it('standby and release end an assignment, the second time without effect; a new session does not', () => {
    for (const message of [
      { type: 'standby', reason: '' },
      { type: 'release', generation: 1, reason: '' },
    ] as const) {
      const stage = Stage.ready({ stage: 1, stages: 2 })
      stage.step(1, { leases: [[0, 'up', null]] })
      stage.welcome()
      expect(stage.computes(stage.frame('up', 'activation', 0))).toHaveLength(1)
      stage.server(message)
      stage.server(message)
      expect(stage.of('discard')).toHaveLength(1)
      stage.frame('up', 'activation', 0)
      expect(stage.state.refusedFrames).toBe(1)
    }
  })

  it('a save asks for the shards that stand after its step, and passes the answer on', () => {
    const stage = Stage.ready({ replicas: 2, at: 3 })
    stage.server({ type: 'save', generation: 1, step: 2, shards: [0] })
    stage.server({ type: 'save', generation: 1, step: 3, shards: [1, 7] })
    expect(stage.of('save')).toEqual([{ type: 'save', step: 3, shard: 1 }])
    const message: ClientMessage = { type: 'shardSaved', generation: 1, step: 3, shard: 1, chunks: [] }
    stage.do({ type: 'saved', generation: 1, message })
    expect(stage.of('report').at(-1)!.message).toBe(message)
  })
})
