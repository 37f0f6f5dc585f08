/** Proves what a stage sends and sums while its lanes go on, and that a mean which was sent ahead of time is taken only once it is the step's. */
import { describe, expect, it } from 'vitest'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { holding as holdingOf } from '../../../src/stage/machine.ts'
import { type Action, type LeaseOf, Stage } from './stage.ts'

/** Two lanes of two updates of one microbatch each; of eight shards those of step 1 that are final after the first update. */
const shape = { sync: 'local', local: { innerSteps: 2, lanes: 2, overlap: 1 }, batch: 2, microbatch: 1 } as const
const FIRST = [0, 1, 2, 7]
const SECOND = [3, 4, 5, 6]

const allOwnedBy = (...places: string[]) => Array.from({ length: 8 }, () => places)
const leasesOf = (...lanes: number[]) =>
  lanes.flatMap((lane): LeaseOf[] => [0, 1].map((k) => [2 * lane + k, null, null]))

function begun(lanes: number[], owners: string[]): Stage {
  const stage = new Stage({ replicas: 2 })
  stage.assign({ config: runConfigSchema.parse({ ...shape, stages: 1, replicas: 2 }) })
  stage.prepared(0)
  stage.step(1, { leases: leasesOf(...lanes), owners: allOwnedBy(...owners) })
  return stage
}

/** One update of a lane and all that comes of it. */
function update(stage: Stage, lane: number, inner: number): Action[] {
  const { generation, now: step } = stage
  stage.computed('forwardBackward', 2 * lane + inner)
  return stage.settle(stage.do({ type: 'innerUpdated', generation, step, lane, inner }))
}

const sharesIn = (stage: Stage, actions: readonly Action[]) =>
  stage.of('send', actions).flatMap(({ address, to }) => (address.kind === 'gradientShard' ? [`${address.index} v${address.attempt} to ${to}`] : [])) // prettier-ignore

describe('shares', () => {
  it('of what is final go to both owners while the lane goes on, the others after its last update', () => {
    const stage = begun([0], ['you', 'third'])
    const sent = (shards: number[]) => shards.flatMap((shard) => [`${shard} v1 to you`, `${shard} v1 to third`])
    expect(sharesIn(stage, update(stage, 0, 0)).sort()).toEqual(sent(FIRST).sort())
    expect(stage.reports()).not.toContain('finished')
    expect(sharesIn(stage, update(stage, 0, 1)).sort()).toEqual(sent(SECOND).sort())
    expect(stage.of('sign')).toMatchObject([{ shares: { length: 8 } }])
    expect(stage.reports()).toContain('finished')
  })

  it('are sent anew with a lane that comes in, once that one is as far', () => {
    const stage = begun([0], ['you', 'third'])
    update(stage, 0, 0)
    stage.leases(2, leasesOf(0, 1))
    update(stage, 0, 1)
    expect(sharesIn(stage, stage.log).filter((share) => share.includes('v2'))).toEqual([])
    expect(sharesIn(stage, update(stage, 1, 0)).map((share) => Number(share[0]))).toEqual(
      expect.arrayContaining([...FIRST]),
    )
    expect(sharesIn(stage, update(stage, 1, 1))).toContain('3 v2 to third')
  })

  it('that were sent are no part of the sum once this node is revoked', () => {
    const stage = begun([0], ['you', 'third'])
    update(stage, 0, 0)
    stage.revoked()
    expect(stage.sends(stage.want('you', 'gradientShard', 0))).toEqual([])
  })
})

describe('an owner', () => {
  it('sums ahead what it is told to, and tells of it when all is summed', () => {
    const stage = begun([0], ['me', 'you'])
    update(stage, 0, 0)
    const contributors = [['me', 1], ['you', 1]] as [string, number][] // prettier-ignore
    stage.reduce(1, contributors, FIRST)
    for (const shard of [0, 1]) stage.settle(stage.frame('you', 'gradientShard', shard))
    expect(stage.of('reduce').map(({ shard }) => shard)).toEqual([0, 1])
    expect(stage.reports()).not.toContain('reduced')
    // Of what is not here nothing is asked for yet: it is on its way.
    expect(stage.wants(stage.idle(6))).toEqual([])
    update(stage, 0, 1)
    const reduced = stage.reduce(1, contributors)
    expect(stage.of('reduce', reduced)).toEqual([])
    expect(stage.reports(reduced).filter((type) => type === 'reduced')).toHaveLength(2)
    expect(stage.wants(reduced)).toContain('gradientShard 2 of you')
  })

  it('sums again where the leases changed since', () => {
    const stage = begun([0], ['me', 'you'])
    update(stage, 0, 0)
    stage.reduce(1, [['me', 1], ['you', 1]], FIRST) // prettier-ignore
    stage.settle(stage.frame('you', 'gradientShard', 0))
    update(stage, 0, 1)
    const again = stage.reduce(2, [['me', 1], ['third', 1]]) // prettier-ignore
    expect(stage.of('reduce', again)).toEqual([])
    const summed = stage.settle(stage.frame('third', 'gradientShard', 0))
    expect(stage.of('reduce', summed)).toMatchObject([{ shard: 0, attempt: 2 }])
    expect(stage.of('mean', summed)).toMatchObject([{ shard: 0, attempt: 2, scale: 0.5 }])
    // What went out of the void attempt does not count as sent.
    expect(stage.sends(summed)).toEqual(['meanShard 0 to third', 'meanShard 0 to you'])
  })

  it('that is first sends the mean ahead to those who work, and after the update to the others', () => {
    const stage = begun([0], ['me', 'you'])
    update(stage, 0, 0)
    const contributors = [['me', 1], ['you', 1]] as [string, number][] // prettier-ignore
    stage.reduce(1, contributors, FIRST)
    const summed = stage.settle(stage.frame('you', 'gradientShard', 0))
    expect(stage.sends(summed)).toEqual(['meanShard 0 to you'])
    expect(stage.of('update')).toEqual([])
    update(stage, 0, 1)
    stage.settle(stage.reduce(1, contributors))
    for (const shard of [1, 2, 3, 4, 5, 6, 7]) stage.settle(stage.frame('you', 'gradientShard', shard))
    const applied = stage.settle(stage.apply(allOwnedBy('me', 'you'), { receivers: ['me', 'you', 'standby'] }))
    expect(stage.sends(applied)).toEqual(Array.from({ length: 8 }, (_, shard) => `meanShard ${shard} to standby`))
  })

  it('does not count a sum ahead among those that wait for the word alone', () => {
    const stage = begun([0], ['me', 'you'])
    update(stage, 0, 0)
    stage.reduce(1, [['me', 1], ['you', 1]], FIRST) // prettier-ignore
    stage.settle(stage.frame('you', 'gradientShard', 0))
    const { generation } = stage
    const finish = { step: 1, lr: 1, scale: 1 }
    const config = stage.state.assignment!.config
    const kept = stage.assign({ config, generation: generation + 1, source: 'held', finish })
    expect(stage.of('keep', kept)).toHaveLength(1)
    expect(stage.of('update', kept)).toEqual([])
  })
})

describe('a mean that comes ahead', () => {
  /** Has taken all its updates, and holds a mean of attempt 1 of each shard. */
  function holding(): Stage {
    const stage = begun([0], ['you', 'third'])
    update(stage, 0, 0)
    for (let shard = 0; shard < 8; shard++) stage.frame('you', 'meanShard', shard, { attempt: 1 })
    update(stage, 0, 1)
    return stage
  }
  const taken = (stage: Stage, actions: readonly Action[]) =>
    stage.of('writeParameters', actions).map(({ shard }) => shard)
  const owners = allOwnedBy('you', 'third')
  const all = [0, 1, 2, 3, 4, 5, 6, 7]

  it('is taken when its attempt is applied, and not before', () => {
    const stage = holding()
    expect(taken(stage, stage.log)).toEqual([])
    expect(taken(stage, stage.apply(owners))).toEqual(all)
  })

  it('of an attempt that became void is not taken, and the right one when it comes', () => {
    const stage = holding()
    expect(taken(stage, stage.apply(owners, { attempt: 2 }))).toEqual([])
    expect(taken(stage, stage.frame('you', 'meanShard', 0, { attempt: 1 }))).toEqual([])
    expect(taken(stage, stage.frame('you', 'meanShard', 0, { attempt: 2 }))).toEqual([0])
    // It may come after the step is over.
    stage.step(2, { owners })
    const late = (shard: number, attempt: number) => stage.frame('you', 'meanShard', shard, { step: 1, attempt })
    expect(taken(stage, late(1, 1))).toEqual([])
    expect(taken(stage, late(1, 2))).toEqual([1])
  })

  it('gives its place to one of a later attempt, and to nobody’s but the first owner’s', () => {
    const stage = holding()
    stage.frame('you', 'meanShard', 0, { attempt: 2 })
    stage.frame('third', 'meanShard', 1, { attempt: 2 })
    stage.frame('somebody', 'meanShard', 2, { attempt: 2 })
    expect(taken(stage, stage.apply(owners, { attempt: 2 }))).toEqual([0])
  })

  it('is held against its own by the second owner', () => {
    const stage = begun([0], ['you', 'me'])
    update(stage, 0, 0)
    stage.frame('you', 'meanShard', 0, { attempt: 1 })
    update(stage, 0, 1)
    stage.settle(stage.reduce(1, [['me', 1]]))
    const applied = stage.settle(stage.apply(allOwnedBy('you', 'me')))
    expect(stage.of('writeParameters', applied)).toMatchObject([{ shard: 0, compare: true, mean: true }])
  })

  it('is not taken twice where its receiver’s own update is under way', () => {
    const stage = begun([0], ['me', 'you'])
    update(stage, 0, 0)
    update(stage, 0, 1)
    stage.settle(stage.reduce(1, [['me', 1]]))
    const applied = stage.apply(allOwnedBy('me', 'you'))
    expect(stage.of('update', applied)).toHaveLength(8)
    // Its place went to the second while the device takes the step.
    stage.owners(allOwnedBy('you'))
    expect(taken(stage, stage.frame('you', 'meanShard', 0, { attempt: 1 }))).toEqual([])
    // Nor once it has heard of the next step, which its own update does not lead to: the whole is asked for.
    stage.step(2, { owners: allOwnedBy('you') })
    expect(taken(stage, stage.frame('you', 'meanShard', 0, { step: 1, attempt: 1 }))).toEqual([])
    const updated = stage.settle(applied)
    expect(taken(stage, updated)).toEqual([])
    expect(stage.state.parameters).toEqual(Array<number>(8).fill(-1))
    expect(stage.wants(stage.idle(1))).toContain('parameterShard 0 of you')
    const whole = stage.frame('you', 'parameterShard', 0, { step: 1 })
    expect(stage.of('writeParameters', whole)).toMatchObject([{ shard: 0, step: 1, mean: false }])
  })

  it('is let go of where its node is told to keep its model while it still updates by itself', () => {
    const stage = begun([0], ['me', 'you'])
    update(stage, 0, 0)
    update(stage, 0, 1)
    stage.settle(stage.reduce(1, [['me', 1]]))
    stage.apply(allOwnedBy('me', 'you'))
    stage.step(2, { owners: allOwnedBy('you') })
    const { config, generation } = stage.state.assignment!
    stage.assign({ config, generation: generation + 1, source: 'held' })
    expect(holdingOf(stage.state)).toMatchObject({ step: null, moments: [] })
  })
})
