/** Proves where newcomers go, who is let in, and how standbys move to where they are needed, within a generation. */
import { describe, expect, it } from 'vitest'
import { training } from './fleet.ts'

describe('who is gone and comes back within a step', () => {
  it('computes what it had finished once more, under leases of its own: its sum need not come out alike', () => {
    const fleet = training({ stages: 1, replicas: 2 }, ['a', 'b'])
    fleet.finish('a')
    fleet.say('a', { type: 'pause' })
    expect(fleet.run().round!.stages[0]!.work.has('a')).toBe(true)
    fleet.say('a', { type: 'resume' })
    expect(fleet.view('a')).toMatchObject({ version: 2, leases: [[0, '', ''], [1, '', '']] }) // prettier-ignore
    fleet.finish('b')
    expect(fleet.sent('reduce')).toEqual([])
    fleet.ready('a')
    fleet.finish('a')
    expect(fleet.sent('reduce', 'b').at(-1)).toMatchObject({ contributors: [['a', 2], ['b', 1]] }) // prettier-ignore
    expect(fleet.run().round!.stages[0]!.receipts.get('a')).toMatchObject({ version: 2 })
  })
})

describe('a newcomer', () => {
  it('joins without ending the generation, is told of the step under way, and works from the next on', () => {
    const fleet = training({ stages: 1 }, ['a'])
    fleet.join('b')
    expect(fleet.sent('assign', 'b')).toMatchObject([{ assignment: { generation: 1, stage: 0, source: 'checkpoint' } }])
    expect(fleet.sent('step', 'b')).toMatchObject([{ step: 1, version: 0, leases: [], owners: [['a'], ['a']] }])
    expect(fleet.of('reserve')).toEqual([{ type: 'reserve', runId: 'run', deviceId: 'device-b', stage: 0 }])
    fleet.step()
    // It loads still: the next step does without it.
    expect(fleet.leasesOf('b')).toEqual([])
    fleet.ready('b')
    expect(fleet.told()).toContain('A volunteer of stage 1 has its weights and stands by.')
    fleet.step()
    expect([...fleet.leasesOf('a'), ...fleet.leasesOf('b')].sort()).toEqual([0, 1, 2, 3])
    expect(fleet.leasesOf('b').length).toBeGreaterThan(0)
    expect(fleet.run().generation).toBe(1)
  })

  it('takes its weights from the owners once something was committed after the checkpoint', () => {
    const fleet = training({ stages: 1 }, ['a'])
    fleet.step()
    fleet.join('b')
    expect(fleet.sent('assign', 'b')).toMatchObject([{ assignment: { source: 'peers', checkpoint: { step: 0 } } }])
    expect(fleet.sent('step', 'b')).toMatchObject([{ step: 2, committed: 1 }])
    // Whoever takes weights from others has no moments by that.
    fleet.ready('b')
    expect(fleet.run().holders[0]![0]!.has('b')).toBe(false)
  })

  it('takes its weights from the owners also while the first step after the checkpoint is applied', () => {
    const fleet = training({ stages: 1 }, ['a'])
    fleet.finishAll()
    fleet.sums()
    fleet.join('b')
    expect(fleet.sent('assign', 'b')).toMatchObject([{ assignment: { source: 'peers' } }])
  })

  it('that was ready for a step that is long past has to catch up first', () => {
    const fleet = training({ stages: 1 }, ['a'])
    fleet.join('b')
    fleet.step()
    fleet.step()
    fleet.report('b', { type: 'ready', step: 0, expectedMs: null })
    expect(fleet.state.nodes.get('b')!.ready).toBeNull()
    fleet.report('b', { type: 'ready', step: 1, expectedMs: null })
    expect(fleet.state.nodes.get('b')!.ready).toBe(1)
  })

  it('is given leases by what its kernels promise, until it is measured', () => {
    const fleet = training({ stages: 1, batch: 9 }, ['a'])
    fleet.join('b')
    fleet.report('b', { type: 'ready', step: 0, expectedMs: 20 })
    fleet.step({ busyMs: 10 })
    expect(fleet.leasesOf('b')).toEqual([6, 7, 8])
  })

  it('that seemed too slow for a lease has one again once it shows that it no longer is', () => {
    const fleet = training({ stages: 1, batch: 4, steps: 100 }, ['a'])
    fleet.join('b')
    fleet.report('b', { type: 'ready', step: 0, expectedMs: 400 })
    for (let i = 0; i < 8; i++) fleet.step({ busyMs: 10 })
    expect(fleet.leasesOf('b')).toEqual([])
    for (let i = 0; i < 8; i++) {
      fleet.report('b', { type: 'measured', expectedMs: 10 })
      fleet.step({ busyMs: 10 })
    }
    expect(fleet.leasesOf('b')).toEqual([2, 3])
    // What a lease shows is not talked away.
    const { busyMs } = fleet.state.nodes.get('b')!
    fleet.report('b', { type: 'measured', expectedMs: 1 })
    expect(fleet.state.nodes.get('b')!.busyMs).toBe(busyMs)
  })

  it('goes to the stage that hangs by one volunteer, before it goes home', () => {
    const fleet = training({ stages: 3 }, ['a', 'b', 'c', 'd', 'e', 'f'])
    fleet.leave('b')
    fleet.leave('f')
    fleet.join('g')
    expect(fleet.run().members.map((ids) => ids.length)).toEqual([2, 2, 1])
    // `b` had its place at the second stage, which has two again.
    fleet.join('b')
    expect(fleet.run().members).toEqual([
      ['a', 'd'],
      ['e', 'g'],
      ['c', 'b'],
    ])
  })

  it('goes home where its stage has a seat for it', () => {
    const fleet = training({ stages: 2, replicas: 3 }, ['a', 'b', 'c', 'd', 'e', 'f'])
    fleet.leave('f')
    fleet.leave('e')
    fleet.join('f')
    expect(fleet.run().members[1]).toEqual(['b', 'd', 'f'])
  })

  it('goes to the slowest stage where all have their seats, to stand by', () => {
    const fleet = training()
    for (const id of ['a', 'c']) fleet.state.nodes.get(id)!.busyMs = 10
    for (const id of ['b', 'd']) fleet.state.nodes.get(id)!.busyMs = 30
    fleet.join('e')
    expect(fleet.run().members[1]).toEqual(['b', 'd', 'e'])
  })

  it('goes where its memory lets it, or nowhere', () => {
    const fleet = training({}, ['a', 'b', 'c', 'd'], { stageBytes: [50, 100] })
    fleet.leave('d')
    fleet.join('small', { memoryBytes: 60 })
    expect(fleet.run().members[0]).toEqual(['a', 'c', 'small'])
    fleet.join('tiny', { memoryBytes: 40 })
    expect(fleet.state.nodes.get('tiny')!.runId).toBeNull()
    expect(fleet.sent('standby', 'tiny')).toHaveLength(1)
  })

  it('stands by without weights where every stage has one to spare, and steps in when there is room', () => {
    const fleet = training({ stages: 1 }, ['a', 'b', 'c'])
    fleet.join('d')
    expect(fleet.run().members).toEqual([['a', 'b', 'c']])
    expect(fleet.sent('standby', 'd')[0]!.reason).toContain('Every place in the current run is taken')
    fleet.leave('a')
    fleet.pass(500)
    expect(fleet.run().members).toEqual([['b', 'c', 'd']])
  })

  it('need not wait until those who fell silent give up their places', () => {
    const fleet = training({ stages: 1 }, ['a', 'b', 'c'])
    fleet.pass(7000, ['a', 'b'])
    expect(fleet.state.nodes.get('c')!.suspect).toBe(true)
    fleet.join('d')
    expect(fleet.run().members).toEqual([['a', 'b', 'c', 'd']])
    expect(fleet.sent('assign', 'd')).toHaveLength(1)
  })

  it('stays out all the same where as many again as there are places fell silent', () => {
    const fleet = training({ stages: 1, replicas: 1 }, ['a', 'b'])
    fleet.pass(7000, ['a'])
    fleet.join('c')
    fleet.pass(7000, ['a'])
    fleet.join('d')
    expect(fleet.run().members[0]).toHaveLength(4)
    fleet.join('e')
    expect(fleet.run().members[0]).not.toContain('e')
  })
})

describe('a standby', () => {
  it('moves from a stage with more than its seats to one that lacks some', () => {
    const fleet = training({}, ['a', 'b', 'c', 'd'])
    fleet.join('e').join('f')
    expect(fleet.run().members).toEqual([
      ['a', 'c', 'e'],
      ['b', 'd', 'f'],
    ])
    fleet.ready('e', 'f')
    fleet.leave('b')
    fleet.leave('d')
    fleet.pass(500)
    // `f` alone is left at the second stage.
    expect(fleet.run().members).toEqual([
      ['a', 'c'],
      ['f', 'e'],
    ])
    expect(fleet.sent('release', 'e')).toMatchObject([{ reason: 'needed elsewhere' }])
    expect(fleet.of('reserve').at(-1)).toEqual({ type: 'reserve', runId: 'run', deviceId: 'device-e', stage: 1 })
    fleet.pass(2000)
    expect(fleet.run().members.map((ids) => ids.length)).toEqual([2, 2])
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('stays while the step is applied, where it may own what no other has', () => {
    const fleet = training()
    fleet.join('e')
    fleet.ready('e')
    fleet.finishAll()
    fleet.sums()
    fleet.leave('b')
    fleet.pass(1000)
    expect(fleet.run().members[0]).toContain('e')
    fleet.updates()
    fleet.pass(1000)
    expect(fleet.run().members[1]).toEqual(['d', 'e'])
  })

  it('stays where it is too small for the stage in need', () => {
    const fleet = training({}, ['a', 'b', 'c', 'd'], { stageBytes: [50, 100] })
    fleet.join('small', { memoryBytes: 60 })
    fleet.leave('d')
    fleet.pass(1000)
    expect(fleet.run().members).toEqual([['a', 'c', 'small'], ['b']])
  })

  it('stays where it alone has the moments of a shard', () => {
    const fleet = training()
    fleet.join('e')
    fleet.ready('e')
    for (const holders of fleet.run().holders[0]!) {
      holders.clear()
      holders.set('e', 0)
    }
    fleet.leave('d')
    fleet.pass(1000)
    expect(fleet.run()).toMatchObject({ generation: 1, members: [['a', 'c', 'e'], ['b']] })
  })

  it('that follows no more, step after step, gives up its place', () => {
    const fleet = training({ stages: 1, steps: 20 }, ['a', 'b'])
    fleet.join('c')
    fleet.ready('c')
    for (let i = 0; i < 5; i++) {
      fleet.step()
      fleet.holds()
    }
    fleet.pass(500)
    expect(fleet.sent('release', 'c')).toMatchObject([{ reason: 'too far behind' }])
    expect(fleet.run()).toMatchObject({ generation: 1, members: [['a', 'b']] })
  })
})
