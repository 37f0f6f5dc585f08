/** Proves the order of a stage's work where lanes take steps of their own, and what it shares and takes in their merge. */
import { describe, expect, it } from 'vitest'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { type Action, type LeaseOf, Stage } from './stage.ts'

/** Two lanes of two inner steps of two microbatches: 0.0 0.0 0.1 0.1 1.0 1.0 1.1 1.1. */
const shape = { sync: 'local', local: { innerSteps: 2, lanes: 2 }, batch: 4, microbatch: 1 } as const

function ready(stage: number, stages: number, replicas = 1): Stage {
  const at = new Stage({ stage, stages, replicas })
  at.assign({ config: runConfigSchema.parse({ ...shape, stages, replicas, model: { layers: stages } }) })
  at.prepared(0)
  return at
}

const leasesOf = (lanes: number[], up: string | null, down: string | null) =>
  lanes.flatMap((lane) => Array.from({ length: 4 }, (_, k): LeaseOf => [4 * lane + k, up, down]))

/** What the device was asked for, in order. */
const work = (actions: readonly Action[]) =>
  actions.flatMap((action) => {
    if (action.type === 'compute') return [`${action.op} ${action.microbatch}`]
    if (action.type === 'enterLane') return [`lane ${action.lane}`]
    if (action.type === 'innerUpdate') return [`update ${action.lane}.${action.inner}`]
    return []
  })

function innerUpdated(stage: Stage, lane: number, inner: number): Action[] {
  return stage.do({ type: 'innerUpdated', generation: stage.generation, step: stage.now, lane, inner })
}

describe('a stage alone', () => {
  it('takes an update after each inner step, and one lane after another, before it has finished', () => {
    const stage = ready(0, 1)
    stage.step(1, { leases: leasesOf([0, 1], null, null) })
    for (let inner = 0; inner < 4; inner++) {
      const first = 2 * inner
      stage.computed('forwardBackward', first)
      stage.computed('forwardBackward', first + 1)
      expect(stage.reports()).not.toContain('finished')
      innerUpdated(stage, inner >> 1, inner % 2)
    }
    expect(work(stage.log)).toEqual([
      ...['lane 0', 'forwardBackward 0', 'forwardBackward 1', 'update 0.0'],
      ...['forwardBackward 2', 'forwardBackward 3', 'update 0.1'],
      ...['lane 1', 'forwardBackward 4', 'forwardBackward 5', 'update 1.0'],
      ...['forwardBackward 6', 'forwardBackward 7', 'update 1.1'],
    ])
    expect(stage.of('beginStep')).toHaveLength(1)
    expect(stage.reports().filter((type) => type === 'advanced')).toHaveLength(4)
    expect(stage.last('finished')).toMatchObject({ version: 1 })
  })
})

describe('a stage with neighbours', () => {
  it('lets what came for a later inner step wait for its own update', () => {
    const stage = ready(1, 2)
    stage.step(1, { leases: leasesOf([0], 'up', null) })
    for (const m of [0, 2, 3, 1]) stage.frame('up', 'activation', m)
    stage.computed('forwardBackward', 0, 'g')
    stage.computed('forwardBackward', 1, 'g')
    expect(work(stage.log)).toEqual(['lane 0', 'forwardBackward 0', 'forwardBackward 1', 'update 0.0'])
    innerUpdated(stage, 0, 0)
    expect(work(stage.log).at(-1)).toBe('forwardBackward 2')
  })

  it('gives way to a lower lane after a moment, to a higher one after a while, and finds the lane where it left it', () => {
    const stage = ready(1, 2)
    stage.step(1, { leases: leasesOf([1], 'up', null) })
    stage.frame('up', 'activation', 4)
    stage.computed('forwardBackward', 4, 'g')
    stage.leases(2, leasesOf([0, 1], 'up', null))
    stage.frame('up', 'activation', 0)
    expect(work(stage.log)).toEqual(['lane 1', 'forwardBackward 4'])
    stage.idle(3)
    expect(work(stage.log).slice(2)).toEqual(['lane 0', 'forwardBackward 0'])
    stage.computed('forwardBackward', 0, 'g')
    stage.frame('up', 'activation', 5)
    stage.idle(3)
    expect(work(stage.log)).toHaveLength(4)
    stage.idle(3)
    expect(work(stage.log).slice(4)).toEqual(['lane 1', 'forwardBackward 5'])
    stage.computed('forwardBackward', 5, 'g')
    expect(work(stage.log).at(-1)).toBe('update 1.0')
  })

  it('asks only for what its neighbours can have made', () => {
    const stage = ready(1, 2)
    stage.step(1, { leases: leasesOf([0], 'up', null) })
    expect(stage.wants(stage.idle(6))).not.toContain('activation 2 of up')
    expect(stage.wants()).toContain('activation 1 of up')
  })

  it('computes a lane anew that it takes over, from what its neighbours have cached', () => {
    const stage = ready(0, 2)
    stage.step(1, { leases: leasesOf([0], null, 'down') })
    stage.leases(2, leasesOf([0, 1], null, 'down'))
    // The gradients of the owner before are there already, all of them.
    for (const m of [4, 5, 6, 7]) stage.frame('down', 'gradient', m)
    for (const m of [0, 1]) stage.computed('forward', m, 'x')
    for (const m of [0, 1]) stage.frame('down', 'gradient', m)
    for (const m of [0, 1]) stage.computed('backward', m)
    innerUpdated(stage, 0, 0)
    for (const m of [2, 3]) stage.computed('forward', m, 'x')
    for (const m of [2, 3]) stage.frame('down', 'gradient', m)
    for (const m of [2, 3]) stage.computed('backward', m)
    const entered = innerUpdated(stage, 0, 1)
    expect(work(entered)).toEqual(['lane 1', 'forward 4'])
    // What the neighbour has answered needs not be sent again.
    expect(stage.sends(stage.computed('forward', 4, 'x'))).toEqual([])
    expect(work(stage.log).at(-1)).toBe('backward 4')
  })
})

describe('an audit', () => {
  it('is declined: to begin anew on the device would undo lanes', () => {
    const stage = ready(0, 1, 2)
    stage.step(1, { leases: leasesOf([0], null, null), owners: [['you', 'third']] })
    const leases = [[4, -1, -1, null, null]] as [number, number, number, null, null][]
    const asked = { audit: 'a'.repeat(64), microbatch: 4, shard: 0, seed: [1, 2] as [number, number] }
    expect(stage.reports(stage.server({ type: 'recompute', generation: 1, step: 1, peers: [], leases, ...asked }))).toEqual(['declined']) // prettier-ignore
  })
})

describe('the merge', () => {
  /** A replica of one stage that has finished its lane of step 1, the owners being you and third. */
  function merging(): Stage {
    const stage = ready(0, 1, 2)
    stage.step(1, {
      leases: leasesOf([0], null, null),
      owners: [
        ['you', 'third'],
        ['you', 'me'],
      ],
    })
    for (const [first, inner] of [
      [0, 0],
      [2, 1],
    ] as const) {
      stage.computed('forwardBackward', first)
      stage.computed('forwardBackward', first + 1)
      innerUpdated(stage, 0, inner)
    }
    return stage
  }

  it('signs for what lanes changed before it has finished', () => {
    const stage = merging()
    expect(stage.of('sign')).toEqual([])
    for (const read of stage.of('readGradient')) stage.settle([read])
    expect(stage.of('sign')).toMatchObject([{ version: 1, shares: [expect.anything(), expect.anything()] }])
    expect(stage.reports()).toContain('finished')
  })

  it('takes the outer step from the mean once, and asks for the whole where a second owner sends it again', () => {
    const stage = merging()
    const taken = stage.frame('you', 'meanShard', 0)
    expect(stage.of('writeParameters', taken)).toMatchObject([{ shard: 0, step: 1, mean: true, compare: false }])
    // The first owner is lost after it has sent: the second sends the same mean, which must not be taken twice.
    stage.owners([['third'], ['you', 'me']])
    expect(stage.of('writeParameters', stage.frame('third', 'meanShard', 0))).toEqual([])
    stage.settle(taken)
    expect(stage.of('writeParameters', stage.frame('third', 'meanShard', 0))).toEqual([])
    const next = stage.step(2, { owners: [['third'], ['you', 'me']] })
    expect(stage.wants(next)).toContain('parameterShard 0 of third')
  })

  it('says that it has taken the mean once somebody is lost, and not before', () => {
    const stage = merging()
    const told = (actions: readonly Action[]) =>
      actions.flatMap((action) =>
        action.type === 'report' && action.message.type === 'taken'
          ? [[action.message.step, action.message.shard]]
          : [],
      )
    const lost = () => stage.server({ type: 'lost', generation: 1, step: 1, attempt: 1, node: 'you' })
    const taken = stage.frame('you', 'meanShard', 0)
    expect(told(lost())).toEqual([])
    // What is on its way into the device is told of when it is there.
    expect(told(stage.settle(taken))).toEqual([[1, 0]])
    expect(told(lost())).toEqual([[1, 0]])
    const other = merging()
    expect(told(other.settle(other.frame('you', 'meanShard', 0)))).toEqual([])
  })

  it('does not step from other weights than those before', () => {
    const stage = ready(0, 1, 2)
    stage.step(2, {
      owners: [
        ['you', 'third'],
        ['you', 'third'],
      ],
      committed: 1,
    })
    expect(stage.of('writeParameters', stage.frame('you', 'meanShard', 0, { step: 2 }))).toEqual([])
    const whole = stage.frame('you', 'parameterShard', 0, { step: 1 })
    expect(stage.of('writeParameters', whole)).toMatchObject([{ shard: 0, step: 1, mean: false }])
  })

  it('sends the mean, and says as an owner that it holds what everybody has', () => {
    const stage = ready(0, 1, 2)
    const owners = [
      ['me', 'you'],
      ['you', 'third', 'me'],
    ]
    const began = stage.step(1, { leases: leasesOf([0, 1], null, null), owners })
    expect(stage.reports(began).filter((type) => type === 'held')).toHaveLength(2)
    for (const [first, lane, inner] of [
      [0, 0, 0],
      [2, 0, 1],
      [4, 1, 0],
      [6, 1, 1],
    ] as const) {
      stage.computed('forwardBackward', first)
      stage.computed('forwardBackward', first + 1)
      stage.settle(innerUpdated(stage, lane, inner))
    }
    stage.settle(stage.reduce(1, [['me', 1]]))
    const applied = stage.settle(stage.apply(owners))
    expect(stage.sends(applied)).toEqual(['meanShard 0 to you', 'meanShard 0 to third'])
    const next = stage.step(2, { owners })
    expect(stage.wants(next)).not.toContain('momentShard 1 of you')
  })
})
