/** Proves how a node gets its vectors: from peers, from what it holds; and how it asks for, and gives, what was lost. */
import { describe, expect, it } from 'vitest'
import { holding } from '../../../src/stage/machine.ts'
import { type LeaseOf, Stage } from './stage.ts'

const OWNERS = [['you', 'third', 'me'], ['third', 'you']] // prettier-ignore

/** A node that joins step 5 of a run, with the kernels not compiled yet. */
const joining = () => {
  const stage = new Stage({ replicas: 2 })
  stage.assign({ source: 'peers' })
  return stage
}

describe('a node that joins', () => {
  it('asks the owners for parameters, and for the moments that it is to keep', () => {
    const stage = joining()
    expect(stage.step(5, { owners: OWNERS, leases: [[0, null, null]] })).toEqual([])
    const asked = stage.prepared(null)
    expect(stage.wants(asked)).toEqual(['parameterShard 0 of you', 'momentShard 0 of you', 'parameterShard 1 of third'])
    expect(stage.of('want')[0]!.address).toEqual({ kind: 'parameterShard', generation: 1, step: 4, index: 0, boundary: 0, attempt: 0 }) // prettier-ignore
    expect(holding(stage.state)).toMatchObject({ step: null, moments: [], reduced: [] })
    stage.settle(stage.frame('you', 'parameterShard', 0, { step: 4 }))
    expect(stage.reports()).toEqual([])
    const came = stage.settle(stage.frame('you', 'parameterShard', 1, { step: 4 }))
    expect(stage.of('report', came)[0]!.message).toEqual({ type: 'ready', generation: 1, step: 4, expectedMs: 12 })
    expect(stage.computes(came)).toEqual(['forwardBackward 0'])
    stage.settle(stage.frame('third', 'momentShard', 0, { step: 4 }))
    expect(stage.last('held')).toEqual({ type: 'held', generation: 1, step: 4, shard: 0 })
    expect(holding(stage.state)).toEqual({ runId: 'run', generation: 1, stage: 0, step: 4, moments: [[0, 4]], reduced: [], open: [] }) // prettier-ignore
  })

  it('keeps what comes before it can be written, the latest of each shard', () => {
    const stage = joining()
    stage.now = 5
    stage.frame('you', 'parameterShard', 0, { step: 3 })
    stage.frame('you', 'parameterShard', 0, { step: 4 })
    stage.frame('you', 'parameterShard', 0, { step: 3 })
    stage.frame('you', 'parameterShard', 1, { step: 4 })
    expect(stage.state.early.size).toBe(2)
    expect(stage.step(5, { owners: OWNERS })).toEqual([])
    const written = stage.of('writeParameters', stage.settle(stage.prepared(null)))
    expect(written.map(({ shard, step }) => [shard, step])).toEqual([[0, 4], [1, 4]]) // prettier-ignore
    expect(stage.last('ready')).toMatchObject({ step: 4 })
  })

  it('takes the parameters of the step under way where those before are not to be had', () => {
    const stage = joining()
    stage.step(5, { owners: OWNERS })
    stage.prepared(null)
    stage.settle(stage.frame('you', 'parameterShard', 0))
    stage.settle(stage.frame('third', 'parameterShard', 1))
    // What was asked for before comes late, and would put them back.
    expect(stage.frame('third', 'parameterShard', 1, { step: 4 })).toEqual([])
    expect(stage.reports()).toEqual([])
    expect(stage.reports(stage.step(6, { owners: OWNERS }))).toEqual(['ready'])
  })

  it('is asked for nothing that it has not got', () => {
    const stage = joining()
    stage.step(5, { owners: OWNERS })
    stage.prepared(null)
    expect(stage.want('you', 'parameterShard', 0, { step: 4 })).toEqual([])
    expect(stage.want('you', 'momentShard', 0, { step: 4 })).toEqual([])
    expect(stage.server({ type: 'save', generation: 1, step: 4, shards: [0] })).toEqual([])
  })
})

describe('parameters that are late', () => {
  const standing = () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { owners: [['you', 'third'], ['third', 'you']] }) // prettier-ignore
    return stage
  }

  it('are awaited, and computed with once whole', () => {
    const stage = standing()
    const late = stage.step(2, { owners: OWNERS, leases: [[0, null, null]] })
    expect(stage.wants(late)).toEqual(['momentShard 0 of you'])
    expect(stage.computes()).toEqual([])
    stage.settle(stage.frame('you', 'parameterShard', 0, { step: 1 }))
    const came = stage.settle(stage.frame('third', 'parameterShard', 1, { step: 1 }))
    expect(stage.reports(came)).toEqual(['receipt', 'finished'])
    expect(stage.computes(came)).toEqual(['forwardBackward 0'])
  })

  it('are told to be there by a node without leases, each step anew', () => {
    const stage = standing()
    for (const step of [2, 3]) {
      expect(stage.reports(stage.step(step, { owners: OWNERS }))).toEqual([])
      for (const shard of [0, 1]) stage.settle(stage.frame('you', 'parameterShard', shard, { step: step - 1 }))
      expect(stage.last('ready')).toMatchObject({ step: step - 1 })
    }
    expect(stage.reports()).toEqual(['ready', 'ready', 'ready'])
  })

  it('are asked for once a second however busy the node is, of another owner each time', () => {
    const stage = standing()
    stage.step(2, { owners: [['you', 'third'], ['third', 'you']] }) // prettier-ignore
    expect(stage.wants(stage.idle(1))).toEqual(['parameterShard 0 of you', 'parameterShard 1 of third'])
    expect(stage.wants(stage.idle(1))).toEqual(['parameterShard 0 of third', 'parameterShard 1 of you'])
  })
})

describe('what is lost on the way', () => {
  it('is asked for at once when the next one has overtaken it', () => {
    const stage = Stage.ready({ stage: 1, stages: 3 })
    stage.step(1, { leases: [[4, 'up', 'down'], [5, 'up', 'down'], [6, 'other', 'down']] }) // prettier-ignore
    expect(stage.wants(stage.frame('up', 'activation', 5))).toEqual(['activation 4 of up'])
    // The one before comes from another node, which says nothing of it.
    expect(stage.wants(stage.frame('other', 'activation', 6))).toEqual([])
    expect(stage.wants(stage.frame('up', 'activation', 4))).toEqual([])
  })

  const LEASES: LeaseOf[] = [[0, 'up', 'down'], [1, 'up2', 'down']] // prettier-ignore
  const middle = () => {
    const stage = Stage.ready({ stage: 1, stages: 3 })
    stage.step(1, { leases: LEASES })
    return stage
  }

  it('is asked for when the node is idle, once a second, and the server hears whom it waits for', () => {
    const stage = middle()
    stage.settle(stage.frame('up', 'activation', 0))
    expect(stage.idle(1)).toEqual([])
    const asked = stage.idle(1)
    expect(stage.wants(asked)).toEqual(['gradient 0 of down', 'activation 1 of up2'])
    expect(stage.of('want', asked).map(({ address }) => address.boundary)).toEqual([1, 0])
    expect(stage.reports(asked)).toEqual([])
    const told = stage.idle(4)
    expect(stage.wants(told)).toHaveLength(8)
    expect(stage.reports(told)).toEqual(['waiting', 'waiting'])
    expect(stage.last('waiting')).toEqual({ type: 'waiting', generation: 1, step: 1, on: ['down', 'up2'] })
    stage.frame('up2', 'activation', 1)
    stage.computed('forward', 1, 'x')
    expect(stage.idle(1)).toEqual([])
    expect(stage.wants(stage.idle(1))).toEqual(['gradient 0 of down', 'gradient 1 of down'])
  })

  it('is not asked for while something is computed, or when nothing could start', () => {
    const stage = middle()
    stage.frame('up', 'activation', 0)
    expect(stage.idle(5)).toEqual([])
    const full = Stage.ready({ stage: 1, stages: 3 })
    full.step(1, { leases: [0, 1, 2, 3].map((m): LeaseOf => [m, 'up', 'down']) })
    for (const m of [0, 1, 2]) full.settle(full.frame('up', 'activation', m))
    expect(full.wants(full.idle(2))).toEqual(['gradient 0 of down', 'gradient 1 of down', 'gradient 2 of down'])
  })

  it('is asked for a little at a time: what is used first, and all the others in turn', () => {
    const stage = Stage.ready({ stage: 1, stages: 2 })
    stage.step(1, { leases: Array.from({ length: 8 }, (_, m): LeaseOf => [m, m < 4 ? 'up' : 'up2', null]) })
    const rounds = stage.idle(5).filter(({ type }) => type === 'want')
    expect(rounds).toHaveLength(16)
    const indices = stage.of('want').map(({ address }) => address.index)
    for (const round of [0, 1, 2, 3]) expect(indices.slice(4 * round, 4 * round + 2)).toEqual([0, 1])
    expect(new Set(indices)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7]))
    // Whom it waits for does not depend on whose turn it is.
    expect(stage.last('waiting')).toMatchObject({ on: ['up', 'up2'] })
    expect(stage.wants(stage.do({ type: 'linkLost', node: 'up2' }))).toHaveLength(4)
  })

  it('is nothing when all is done', () => {
    const stage = Stage.ready()
    stage.settle(stage.step(1, { leases: [[0, null, null]] }))
    expect(stage.idle(5)).toEqual([])
  })

  it('with a link is asked for at once, of that node alone, and told', () => {
    const stage = middle()
    const lost = stage.do({ type: 'linkLost', node: 'up2' })
    expect(lost[0]).toEqual({ type: 'report', message: { type: 'linkLost', generation: 1, node: 'up2' } })
    expect(stage.wants(lost)).toEqual(['activation 1 of up2'])
    expect(new Stage().do({ type: 'linkLost', node: 'up2' })).toEqual([])
  })

  it('of a sum is asked for in its version, and so are the first owner’s parameters', () => {
    const stage = Stage.ready()
    const owners = [['you', 'me']]
    stage.settle(stage.step(1, { leases: [[0, null, null]], owners }))
    const sum = stage.reduce(1, [['me', 1], ['you', 3]]) // prettier-ignore
    // It was sent before the sum was asked for: what is not here by then is asked for at once, and again.
    expect(stage.wants(sum)).toEqual(['gradientShard 0 of you'])
    const share = stage.idle(1)
    expect(stage.wants(share)).toEqual(['gradientShard 0 of you'])
    expect(stage.of('want', share)[0]!.address.attempt).toBe(3)
    stage.settle(stage.frame('you', 'gradientShard', 0, { attempt: 3 }))
    stage.settle(stage.apply(owners))
    const compare = stage.idle(1)
    expect(stage.wants(compare)).toEqual(['parameterShard 0 of you'])
    expect(stage.of('want', compare)[0]!.address.step).toBe(1)
    stage.settle(stage.frame('you', 'parameterShard', 0))
    expect(stage.idle(3)).toEqual([])
  })
})

describe('what others ask for', () => {
  it('is given from the caches of the step', () => {
    const stage = Stage.ready({ stage: 1, stages: 3 })
    stage.step(1, { leases: [[0, 'up', 'down']], owners: [['me', 'you']] })
    expect(stage.want('down', 'activation', 0, { boundary: 1 })).toEqual([])
    stage.settle(stage.frame('up', 'activation', 0))
    stage.settle(stage.frame('down', 'gradient', 0))
    const [given] = stage.of('send', stage.want('other', 'activation', 0, { boundary: 1 }))
    expect(given).toMatchObject({ to: 'other', tensor: 'forward 0', again: true, address: { boundary: 1 } })
    expect(stage.sends(stage.want('up', 'gradient', 0, { boundary: 0 }))).toEqual(['gradient 0 to up'])
    // A juror asks for what was taken, when whoever made it is gone.
    const kept = stage.want('you', 'gradient', 0, { boundary: 1 })
    expect(kept).toMatchObject([{ type: 'send', to: 'you', tensor: 'gradient 0 of down', address: { boundary: 1 } }])
    expect(stage.want('up', 'gradient', 0, { boundary: 2 })).toEqual([])
    expect(stage.sends(stage.want('you', 'gradientShard', 0))).toEqual(['gradientShard 0 to you'])
    expect(stage.want('you', 'gradientShard', 0, { attempt: 2 })).toEqual([])
    expect(stage.want('down', 'activation', 0, { boundary: 1, step: 2 })).toEqual([])
    expect(stage.want('down', 'activation', 0, { boundary: 1, generation: 2 })).toEqual([])
    expect(stage.state.refusedFrames).toBe(1)
  })

  it('is read where it is vectors, and given if they still stand', () => {
    const stage = Stage.ready()
    stage.step(1, { leases: [[0, null, null]] })
    expect(stage.sends(stage.settle(stage.want('you', 'parameterShard', 0, { step: 0 })))).toEqual(['parameterShard 0 to you']) // prettier-ignore
    const [read] = stage.want('you', 'momentShard', 0, { step: 0 })
    expect(stage.want('you', 'momentShard', 0, { step: 0 })).toEqual([])
    stage.settle(stage.computed('forwardBackward', 0))
    stage.settle(stage.reduce(1, [['me', 1]]))
    stage.settle(stage.apply([['me', 'you']], { receivers: [] }))
    expect(stage.answer(read!)).toEqual([])
    expect(stage.want('you', 'momentShard', 0, { step: 0 })).toEqual([])
    const [again] = stage.of('send', stage.settle(stage.want('you', 'momentShard', 0, { step: 1 })))
    expect(again).toMatchObject({ tensor: 'momentShard 0 after 1', again: true, address: { step: 1 } })
  })

  it('is given only so often', () => {
    const stage = Stage.ready({ stages: 2 })
    stage.settle(stage.step(1, { leases: [[0, null, 'down']] }))
    const ask = () => stage.want('down', 'activation', 0, { boundary: 0 })
    for (let i = 0; i < 1030; i++) ask()
    expect(stage.state.refusedFrames).toBe(6)
    stage.idle(1)
    expect(ask()).toHaveLength(1)
  })
})

describe('a model that is held', () => {
  const owned = [['me', 'you'], ['you', 'me']] // prettier-ignore
  /** Both shards summed in step 1, nothing applied. */
  const summed = () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.settle(stage.step(1, { leases: [[0, null, null]], owners: owned }))
    for (const shard of [0, 1]) stage.frame('you', 'gradientShard', shard)
    stage.settle(stage.reduce(1, [['me', 1], ['you', 1]])) // prettier-ignore
    return stage
  }

  it('is told with what stands and what is summed', () => {
    expect(holding(new Stage().state)).toBeNull()
    const stage = summed()
    const moments = [[0, 0], [1, 0]] // prettier-ignore
    expect(holding(stage.state)).toEqual({
      runId: 'run',
      generation: 1,
      stage: 0,
      step: 0,
      moments,
      reduced: [0, 1],
      open: [],
    })
    const [update] = stage.of('update', stage.apply(owned))
    stage.answer(update!)
    expect(holding(stage.state)).toMatchObject({ step: null, moments: [[0, 1], [1, 0]], reduced: [], open: [0] }) // prettier-ignore
  })

  it('is kept under a new generation, the step under way dropped', () => {
    const stage = summed()
    const actions = stage.assign({ source: 'held', generation: 2 })
    expect(actions).toEqual([{ type: 'keep', assignment: stage.state.assignment }])
    expect(stage.state.current).toBeNull()
    expect(stage.reports(stage.prepared(null))).toEqual(['ready'])
    expect(stage.last('ready')).toEqual({ type: 'ready', generation: 2, step: 0, expectedMs: 12 })
    const types = stage.step(1, { leases: [[3, null, null]], owners: owned }).map(({ type }) => type)
    expect(types).toEqual(['beginStep', 'compute'])
  })

  it('finishes the step that the server had decided on, before it is ready', () => {
    const stage = summed()
    const actions = stage.assign({ source: 'held', generation: 2, finish: { step: 1, lr: 0.3, scale: 0.7 } })
    expect(actions.map(({ type }) => type)).toEqual(['keep', 'update', 'update'])
    expect(actions[1]).toEqual({ type: 'update', shard: 0, step: 1, lr: 0.3, scale: 0.7 })
    expect(stage.prepared(null)).toEqual([])
    expect(stage.reports(stage.settle(actions))).toEqual(['ready'])
    expect(stage.last('ready')).toEqual({ type: 'ready', generation: 2, step: 1, expectedMs: 12 })
    expect(holding(stage.state)).toMatchObject({ step: 1, moments: [[0, 1], [1, 1]] }) // prettier-ignore
    // Of a shard it is not first to own it takes the other's bytes, which may differ by rounding.
    const next = stage.step(2, { leases: [[0, null, null]], owners: owned })
    expect(stage.wants(next)).toEqual(['parameterShard 1 of you'])
    const came = stage.settle(stage.frame('you', 'parameterShard', 1, { step: 1 }))
    expect(stage.reports(came)).toEqual(['receipt', 'finished'])
  })

  it('does not update what is updated already, or another step', () => {
    const stage = summed()
    stage.apply(owned)
    const finish = { step: 1, lr: 0.3, scale: 0.7 }
    expect(stage.assign({ source: 'held', generation: 2, finish }).map(({ type }) => type)).toEqual(['keep'])
    stage.prepared(null)
    expect(stage.last('ready')).toEqual({ type: 'ready', generation: 2, step: 1, expectedMs: 12 })
    const other = summed()
    const actions = other.assign({ source: 'held', generation: 2, finish: { ...finish, step: 2 } })
    expect(actions.map(({ type }) => type)).toEqual(['keep'])
  })

  it('is ready for the next step though shards of the last are still to come from their owners', () => {
    const stage = Stage.ready({ replicas: 2 })
    const owners = [['me', 'you'], ['you', 'third']] // prettier-ignore
    stage.settle(stage.step(1, { leases: [[0, null, null]], owners }))
    stage.frame('you', 'gradientShard', 0)
    stage.settle(stage.reduce(1, [['me', 1], ['you', 1]])) // prettier-ignore
    const actions = stage.assign({ source: 'held', generation: 2, finish: { step: 1, lr: 0.3, scale: 0.7 } })
    stage.prepared(null)
    stage.settle(actions)
    expect(stage.last('ready')).toMatchObject({ step: 1 })
    expect(holding(stage.state)).toMatchObject({ step: null })
    stage.step(2, { leases: [[0, null, null]], owners })
    expect(stage.wants(stage.idle(1))).toEqual(['parameterShard 1 of you'])
    const came = stage.settle(stage.frame('you', 'parameterShard', 1, { step: 1 }))
    expect(stage.reports(came)).toEqual(['receipt', 'finished'])
  })

  it('counts what was on its way into the device as there', () => {
    const stage = Stage.ready({ replicas: 2 })
    stage.step(1, { owners: [['you'], ['you']] }) // prettier-ignore
    for (const shard of [0, 1]) stage.frame('you', 'parameterShard', shard)
    stage.assign({ source: 'held', generation: 2 })
    stage.prepared(null)
    expect(stage.last('ready')).toMatchObject({ step: 1 })
  })

  it('is not to be had of a device that lost it, or of another run or stage: whoever counts on it hears so', () => {
    const failed = { type: 'failed', generation: 2, error: expect.objectContaining({ code: 'stage.not_held' }) }
    for (const other of [{ runId: 'other' }, { stage: 1 }]) {
      const stage = summed()
      const actions = stage.assign({ source: 'held', generation: 2, ...other })
      expect(actions).toEqual([{ type: 'discard' }, { type: 'report', message: failed }])
      expect(stage.state.assignment).toBeNull()
    }
    const nothing = new Stage()
    expect(nothing.assign({ source: 'held', generation: 2 })).toEqual([{ type: 'report', message: failed }])
  })

  it('of which the kernels are still compiled is loaded from others: nobody counted on it', () => {
    const stage = new Stage()
    stage.assign()
    const actions = stage.assign({ source: 'held', generation: 2 })
    expect(actions.map(({ type }) => type)).toEqual(['discard', 'prepare'])
  })

  it('is kept a second time before its device has answered the first, with what it finishes meanwhile', () => {
    const stage = summed()
    const finish = { step: 1, lr: 0.3, scale: 0.7 }
    stage.assign({ source: 'held', generation: 2, finish })
    expect(holding(stage.state)).toMatchObject({ generation: 2, step: 1, moments: [[0, 1], [1, 1]], open: [0, 1] }) // prettier-ignore
    const actions = stage.assign({ source: 'held', generation: 3 })
    expect(actions.map(({ type }) => type)).toEqual(['keep'])
    expect(stage.prepared(null).map(({ type }) => type)).toEqual(['report'])
    expect(stage.last('ready')).toMatchObject({ generation: 3, step: 1 })
    expect(holding(stage.state)).toMatchObject({ step: 1, moments: [[0, 1], [1, 1]] }) // prettier-ignore
  })
})

describe('a device that takes nothing any more', () => {
  it('is given the parameters of a few steps, and what was refused is asked for again', () => {
    const stage = Stage.ready({ replicas: 2 })
    const owners = [['you'], ['you']] // prettier-ignore
    for (let step = 1; step <= 9; step++) {
      stage.step(step, { owners })
      for (const shard of [0, 1]) stage.frame('you', 'parameterShard', shard)
    }
    expect(stage.of('writeParameters')).toHaveLength(8)
    expect(stage.state.refusedFrames).toBe(10)
    for (const write of stage.of('writeParameters')) stage.answer(write)
    expect(stage.wants(stage.idle(1))).toEqual(['parameterShard 0 of you', 'parameterShard 1 of you'])
  })
})
