/** Proves that sums and updates count only when the owners agree, that apply follows the record, and what a loss amid it does. */
import { describe, expect, it } from 'vitest'
import { Fleet, training } from './fleet.ts'

const trio = () => training({ stages: 1, replicas: 3, batch: 6 }, ['a', 'b', 'c'])
const pair = () => training({ stages: 1, replicas: 2 }, ['a', 'b'])

describe('sums of one gradient', () => {
  it('that differ are made a third time by the keeper; who stands alone is out for a good while', () => {
    const fleet = trio()
    expect(fleet.view('a').owners[0]).toEqual(['a', 'b', 'c'])
    fleet.finishAll()
    // `b` lies about shard 0 alone.
    const norm = (id: string, shard: number) => (id === 'b' && shard === 0 ? 2 : 1)
    fleet.take()
    fleet.sums(norm, ['a', 'b'])
    expect(fleet.of('prepareStep')).toEqual([])
    expect(fleet.sent('owners', 'c').at(-1)!.owners[0]).toEqual(['a', 'c', 'b'])
    expect(fleet.sent('reduce', 'c')).toHaveLength(1)
    fleet.sums(norm, ['c'])
    expect(fleet.told()).toContain(
      'A volunteer of stage 1 got another sum than two others; its copy is no longer used.',
    )
    expect(fleet.view('a').owners[0]).toEqual(['a', 'c'])
    expect(fleet.of('prepareStep')[0]!.metric.gradNorm).toBe(Math.sqrt(3))
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(fleet.view('a').owners.flat()).not.toContain('b')
    expect(fleet.leasesOf('b')).toEqual([])
  })

  it('are those of the keeper and the second where the first stands alone', () => {
    const fleet = trio()
    fleet.finishAll()
    const norm = (id: string, shard: number) => (id === 'a' && shard === 0 ? 5 : 1)
    fleet.sums(norm, ['a', 'b'])
    fleet.sums(norm, ['c'])
    expect(fleet.view('b').owners[0]).not.toContain('a')
    expect(fleet.of('prepareStep')[0]!.metric.gradNorm).toBe(Math.sqrt(3))
  })

  it('that all three differ end the generation', () => {
    const fleet = trio()
    fleet.finishAll()
    const norm = (id: string, shard: number) => (shard === 0 ? { a: 1, b: 2, c: 3 }[id]! : 1)
    fleet.sums(norm, ['a', 'b'])
    fleet.sums(norm, ['c'])
    expect(fleet.told().at(-1)).toContain('Three sums of one gradient differ in stage 1.')
    expect(fleet.of('prepareStep')).toEqual([])
    expect(fleet.run().state).toBe('waiting')
  })

  it('that differ end the generation where there is no third', () => {
    const fleet = pair()
    fleet.finishAll()
    fleet.sums((id) => (id === 'b' ? 1.01 : 1))
    expect(fleet.told()).toContain('Two volunteers of stage 1 got different sums of the same gradients at step 1.')
    expect(fleet.run()).toMatchObject({ state: 'waiting', brokenInARow: 1 })
    expect(fleet.of('prepareStep')).toEqual([])
  })

  it('may differ by rounding', () => {
    const fleet = pair()
    fleet.finishAll()
    fleet.sums((id) => (id === 'b' ? 1.0005 : 1))
    expect(fleet.of('prepareStep')).toHaveLength(1)
  })

  it('of which one alone is not finite do not agree', () => {
    const fleet = pair()
    fleet.finishAll()
    fleet.sums((id) => (id === 'b' ? NaN : 1))
    expect(fleet.of('runEnded')).toEqual([])
    expect(fleet.run().state).toBe('waiting')
  })
})

describe('the record before apply', () => {
  it('has to be durable in this generation and for this step', () => {
    const fleet = pair()
    fleet.prepares = false
    fleet.finishAll()
    fleet.sums()
    fleet.take()
    fleet.do({ type: 'stepPrepared', runId: 'run', generation: 0, step: 1 })
    fleet.do({ type: 'stepPrepared', runId: 'run', generation: 1, step: 2 })
    fleet.do({ type: 'stepPrepared', runId: 'other', generation: 1, step: 1 })
    expect(fleet.sent('apply')).toEqual([])
    fleet.do({ type: 'stepPrepared', runId: 'run', generation: 1, step: 1 })
    expect(fleet.sent('apply')).toHaveLength(2)
  })

  it('of a generation that broke off meanwhile brings no apply into the next', () => {
    const fleet = pair()
    fleet.prepares = false
    fleet.finishAll()
    fleet.sums()
    fleet.leave('a')
    fleet.leave('b')
    fleet.join('c').join('d')
    fleet.ready()
    expect(fleet.run()).toMatchObject({ generation: 2, step: 0 })
    fleet.finishAll()
    fleet.sums()
    fleet.take()
    fleet.do({ type: 'stepPrepared', runId: 'run', generation: 1, step: 1 })
    expect(fleet.sent('apply')).toEqual([])
    fleet.do({ type: 'stepPrepared', runId: 'run', generation: 2, step: 1 })
    expect(fleet.sent('apply')).toHaveLength(2)
  })

  it('is believed of whoever owns the shards by then: an owner lost in between is not told', () => {
    const fleet = pair()
    fleet.prepares = false
    fleet.finishAll()
    fleet.sums()
    fleet.leave('a')
    fleet.take()
    fleet.prepared()
    expect(fleet.sent('apply', 'a')).toEqual([])
    expect(fleet.sent('apply', 'b')).toMatchObject([{ owners: [['b'], ['b']], receivers: ['b'] }])
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })
})

describe('an update', () => {
  /** Two stages of two, told to apply: shard 0 of the first belongs to `a`, then `c`. */
  const applying = () => {
    const fleet = training()
    fleet.finishAll()
    fleet.sums()
    fleet.take()
    return fleet
  }

  it.each([
    ['shard of a stage is updated', 'c', 'updated', 1],
    ['shard of a stage is compared', 'd', 'compared', 0],
  ] as const)('is no commit before the last %s', (_, last, type, shard) => {
    const fleet = applying()
    for (const id of ['a', 'b', 'c', 'd'])
      fleet.view(id).owners.forEach((places, n) => {
        if (id === last && n === shard) return
        if (places[0] === id) fleet.report(id, { type: 'updated', step: 1, shard: n })
        else fleet.report(id, { type: 'compared', step: 1, shard: n, agrees: true })
      })
    expect(fleet.of('commitStep')).toEqual([])
    if (type === 'updated') fleet.report(last, { type, step: 1, shard })
    else fleet.report(last, { type, step: 1, shard, agrees: true })
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('is reported by the first owner and compared by the second, and by nobody else', () => {
    const fleet = applying()
    fleet.report('c', { type: 'updated', step: 1, shard: 0 })
    fleet.report('a', { type: 'compared', step: 1, shard: 0, agrees: false })
    expect(fleet.run().round!.stages[0]).toMatchObject({ updated: [false, false], compared: [false, false] })
    expect(fleet.run().state).toBe('training')
  })

  it('that the second owner does not get to by itself never becomes the step', () => {
    const fleet = applying()
    fleet.report('a', { type: 'updated', step: 1, shard: 0 })
    fleet.report('c', { type: 'compared', step: 1, shard: 0, agrees: false })
    expect(fleet.told()).toContain('Two volunteers of stage 1 updated the same weights differently at step 1.')
    expect(fleet.of('commitStep')).toEqual([])
    expect(fleet.run()).toMatchObject({ state: 'waiting', step: 0, members: [] })
  })

  it.each([
    ['before it updated', false],
    ['after it updated, before the other compared', true],
  ])('whose first owner is lost %s is the second one’s', (_, updated) => {
    const fleet = applying()
    if (updated) fleet.report('a', { type: 'updated', step: 1, shard: 0 })
    fleet.leave('a')
    expect(fleet.view('c').owners).toEqual([['c'], ['c']])
    expect(fleet.sent('apply', 'c').at(-1)).toMatchObject({ step: 1, owners: [['c'], ['c']], receivers: ['c'] })
    fleet.updates(['b', 'd'])
    fleet.report('c', { type: 'updated', step: 1, shard: 1 })
    // What the lost one said of shard 0 does not stand for the bytes that are everybody's now.
    expect(fleet.of('commitStep')).toEqual([])
    fleet.report('c', { type: 'updated', step: 1, shard: 0 })
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(fleet.run().generation).toBe(1)
  })

  it('that is updated and compared stands when its first owner is lost', () => {
    const fleet = applying()
    fleet.updates(['a', 'c'])
    fleet.take()
    fleet.leave('a')
    expect(fleet.sent('apply')).toEqual([])
    fleet.updates(['b', 'd'])
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('whose second owner is lost is not compared by anybody, and commits', () => {
    const fleet = applying()
    fleet.updates(['a', 'b', 'd'])
    expect(fleet.of('commitStep')).toEqual([])
    fleet.leave('c')
    // What `c` was first for falls to `a`.
    expect(fleet.sent('apply', 'a').at(-1)).toMatchObject({ owners: [['a'], ['a']] })
    fleet.updates(['a'])
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('whose only owner is gone is lost with it: back to the checkpoint', () => {
    const fleet = applying()
    fleet.join('e').join('f')
    fleet.ready('e', 'f')
    fleet.leave('a')
    fleet.leave('c')
    expect(fleet.run()).toMatchObject({ step: 0 })
    expect(fleet.of('commitStep')).toEqual([])
    expect(fleet.told().join(' ')).toContain('A part of the optimizer’s state is gone with it'.replace('’', "'"))
  })

  it('waits for its only owner while that is silent, and commits when it is back', () => {
    const fleet = training({ stages: 1, replicas: 1 }, ['a'])
    fleet.finishAll()
    fleet.sums()
    fleet.pass(7000, [])
    expect(fleet.state.nodes.get('a')!.suspect).toBe(true)
    expect(fleet.run().generation).toBe(1)
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('of a first owner who was silent and comes back does not count beside that of the second', () => {
    const fleet = applying()
    fleet.pass(6000, ['b', 'c', 'd'])
    expect(fleet.view('c').owners).toEqual([['c'], ['c']])
    fleet.report('a', { type: 'updated', step: 1, shard: 0 })
    expect(fleet.run().round!.stages[0]!.updated).toEqual([false, false])
    fleet.updates(['b', 'c', 'd'])
    expect(fleet.of('commitStep')).toHaveLength(1)
  })
})

describe('owners before apply', () => {
  it('that are lost are replaced, and the new ones told to sum', () => {
    const fleet = training({ stages: 1, replicas: 4, batch: 4 }, ['a', 'b', 'c', 'd'])
    expect(fleet.view('a').owners).toEqual([
      ['a', 'b', 'c'],
      ['b', 'c', 'd'],
      ['c', 'd', 'a'],
      ['d', 'a', 'b'],
    ])
    fleet.finishAll()
    fleet.take()
    fleet.leave('b')
    // The keeper has the moments: it is second, or first, and a fourth keeps from now on.
    expect(fleet.view('a').owners.map((places) => places.slice(0, 2))).toEqual([
      ['a', 'c'],
      ['c', 'd'],
      ['c', 'd'],
      ['d', 'a'],
    ])
    expect(fleet.view('a').owners[0]).toHaveLength(3)
    expect(fleet.sent('reduce', 'c')[0]).toMatchObject({ attempt: 1 })
    expect(new Fleet().log).toEqual([])
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('that are lost together with what others wait for leave the sum to whoever is left', () => {
    const fleet = training({ stages: 1, replicas: 2 }, ['a', 'b'])
    fleet.finishAll()
    fleet.sums(1, ['a'])
    fleet.leave('b')
    // Its share may be missing, its sum is not needed.
    expect(fleet.of('prepareStep')).toHaveLength(1)
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })
})
