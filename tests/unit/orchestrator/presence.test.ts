/** Proves what the server makes of silence, broken sockets, replaced devices, pauses and deadlines. */
import { describe, expect, it } from 'vitest'
import { Fleet, training } from './fleet.ts'

/** `a` and `b`, alone at their stages, in the first step. */
const pair = () => training({ replicas: 1 }, ['a', 'b'])
const suspects = (fleet: Fleet) => [...fleet.state.nodes.values()].filter(({ suspect }) => suspect).map(({ id }) => id)

describe('silence', () => {
  it('is said after six seconds, with the stage, and forgotten at the first word', () => {
    const fleet = pair()
    fleet.pass(5500, ['a'])
    expect(fleet.told()).toEqual([])
    fleet.pass(500, ['a'])
    expect(fleet.told()).toEqual(['A volunteer of stage 2 was silent for 6 s.'])
    fleet.pass(2000, ['a'])
    expect(fleet.told()).toHaveLength(1)
    fleet.beat('b')
    expect(fleet.told().at(-1)).toBe('A volunteer of stage 2 is heard again; it goes on with the next step.')
    expect(suspects(fleet)).toEqual([])
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('leaves the words for preparing in place', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b')
    const { detail } = fleet.run()
    fleet.pass(6000, ['a'])
    fleet.beat('b')
    expect(fleet.run().detail).toBe(detail)
  })

  it('of the last one of a stage keeps the next step waiting, in words that end with it', () => {
    const fleet = training({ replicas: 1 }, ['a', 'b'])
    fleet.finishAll()
    fleet.sums()
    fleet.updates(['b'])
    fleet.pass(6000, ['a'])
    fleet.state.nodes.get('b')!.suspect = true
    fleet.updates(['a'])
    expect(fleet.of('commitStep')).toHaveLength(1)
    fleet.pass(500, ['a'])
    expect(fleet.run()).toMatchObject({
      state: 'training',
      detail: 'Stage 2 waits: its volunteers have fallen silent or still load.',
    })
    fleet.pass(500, ['a', 'b'])
    expect(fleet.run().round!.step).toBe(2)
    expect(fleet.run().detail).toBe('')
  })

  it('is death after twenty seconds: the node is cut off, and without its last the stage ends the generation', () => {
    const fleet = pair()
    fleet.pass(19_500, ['a'])
    expect(fleet.state.nodes.has('b')).toBe(true)
    fleet.pass(500, ['a'])
    expect(fleet.state.nodes.has('b')).toBe(false)
    expect(fleet.of('disconnect')).toMatchObject([{ nodeId: 'b', error: { code: 'control.silent' } }])
    expect(fleet.told().at(-1)).toBe(
      'A volunteer of stage 2 is gone: it was silent for 20 s. It was the last one there.',
    )
    expect(fleet.run()).toMatchObject({
      state: 'waiting',
      detail: 'Stage 2 of 2 waits for a volunteer (1 of 2 are here).',
    })
    expect(fleet.sent('release', 'a')).toMatchObject([{ generation: 1 }])
  })

  it('of one replica of two costs no generation: its work goes to the other', () => {
    const fleet = training()
    fleet.pass(20_000, ['a', 'b', 'c'])
    expect(fleet.state.nodes.has('d')).toBe(false)
    expect(fleet.run()).toMatchObject({ generation: 1, members: [['a', 'c'], ['b']], recovered: 2 })
    expect(fleet.of('recovered')).toEqual([{ type: 'recovered', runId: 'run', leases: 2, cause: 'silent' }])
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })
})

describe('a socket that closes', () => {
  it('has a second to come back, and then nothing was lost', () => {
    const fleet = training()
    fleet.do({ type: 'nodeDetached', nodeId: 'd' })
    fleet.pass(500, ['a', 'b', 'c'])
    fleet.do({ type: 'nodeResumed', nodeId: 'd' })
    fleet.pass(5000, ['a', 'b', 'c'])
    expect(suspects(fleet)).toEqual([])
    expect(fleet.of('recovered')).toEqual([])
  })

  it('makes its node suspect after that, until it comes back', () => {
    const fleet = training()
    fleet.do({ type: 'nodeDetached', nodeId: 'd' })
    fleet.pass(1000, ['a', 'b', 'c'])
    expect(suspects(fleet)).toEqual(['d'])
    expect(fleet.told()).toEqual([
      'A volunteer of stage 2 lost its connection. Its 2 microbatches are computed by others.',
    ])
    expect(fleet.leasesOf('b')).toEqual([0, 1, 2, 3])
    fleet.do({ type: 'nodeResumed', nodeId: 'd' })
    expect(suspects(fleet)).toEqual([])
    fleet.step()
    expect(fleet.leasesOf('d')).toEqual([2, 3])
  })

  it('costs the place when it stays closed', () => {
    const fleet = training()
    fleet.do({ type: 'nodeDetached', nodeId: 'd' })
    fleet.pass(20_000, ['a', 'b', 'c'])
    expect(fleet.state.nodes.has('d')).toBe(false)
    expect(fleet.run().generation).toBe(1)
  })

  it('of somebody unknown changes nothing', () => {
    const fleet = training()
    fleet.do({ type: 'nodeDetached', nodeId: 'x' })
    fleet.do({ type: 'nodeResumed', nodeId: 'x' })
    fleet.do({ type: 'nodeUnresponsive', nodeId: 'x' })
    expect(fleet.log).toEqual([])
  })
})

it('a node that leaves a message unacknowledged is suspect at once', () => {
  const fleet = training()
  fleet.do({ type: 'nodeUnresponsive', nodeId: 'd' })
  fleet.do({ type: 'nodeUnresponsive', nodeId: 'd' })
  expect(suspects(fleet)).toEqual(['d'])
  expect(fleet.sent('revoked', 'd')).toHaveLength(1)
  expect(fleet.told()).toEqual(['A volunteer of stage 2 does not answer. Its 2 microbatches are computed by others.'])
})

describe('a device', () => {
  it('that connects again takes its place, and its old socket is told why it closes', () => {
    const fleet = pair()
    fleet.join('b2', { deviceId: 'device-b' })
    expect(fleet.of('disconnect')).toMatchObject([{ nodeId: 'b', error: { code: 'control.replaced' } }])
    expect([...fleet.state.nodes.keys()]).toEqual(['a', 'b2'])
    expect(fleet.run().members).toEqual([['a'], ['b2']])
  })

  it('that connects again while its stage goes on is given that stage again', () => {
    const fleet = training()
    fleet.join('d2', { deviceId: 'device-d' })
    expect(fleet.run()).toMatchObject({
      generation: 1,
      members: [
        ['a', 'c'],
        ['b', 'd2'],
      ],
    })
    expect(fleet.leasesOf('b')).toEqual([0, 1, 2, 3])
  })

  it('whose node id joins twice is one node, without the seat it had', () => {
    const fleet = pair()
    fleet.join('b')
    expect(fleet.run().generation).toBe(2)
    expect(fleet.state.nodes.get('b')!.runId).toBe('run')
    expect(fleet.of('disconnect')).toEqual([])
  })

  it('that pauses is released and not seated until it resumes', () => {
    const fleet = pair()
    fleet.say('b', { type: 'pause' })
    expect(fleet.sent('release', 'b')).toMatchObject([{ generation: 1, reason: 'paused' }])
    expect(fleet.run().members).toEqual([])
    fleet.say('b', { type: 'resume' })
    expect(fleet.run().members).toEqual([['a'], ['b']])
  })

  it('that pauses leaves a run that goes on, and comes back into it', () => {
    const fleet = training()
    fleet.say('d', { type: 'pause' })
    fleet.pass(5000)
    expect(fleet.run()).toMatchObject({ generation: 1, members: [['a', 'c'], ['b']] })
    fleet.say('d', { type: 'resume' })
    expect(fleet.run().members[1]).toEqual(['b', 'd'])
  })

  it('that resumes without having paused keeps its seat', () => {
    const fleet = pair()
    fleet.say('b', { type: 'resume' })
    expect(fleet.sent('standby', 'b')).toEqual([])
    expect(fleet.run().state).toBe('training')
  })

  it('that leaves, or speaks after it left, is no longer there', () => {
    const fleet = pair()
    fleet.leave('b')
    fleet.say('b', { type: 'ready', generation: 1, step: 0, expectedMs: null })
    fleet.leave('b')
    expect(fleet.told()).toEqual(['A volunteer of stage 2 is gone: its tab was closed. It was the last one there.'])
  })

  it('that speaks for a run which is over changes nothing', () => {
    const fleet = pair()
    fleet.do({ type: 'runCancelled', runId: 'run' })
    fleet.launch({ stages: 2, replicas: 1, steps: 4 }, { id: 'next' })
    fleet.say('a', { type: 'ready', generation: 1, step: 0, expectedMs: null })
    fleet.say('a', { type: 'failed', generation: 1, error: { code: 'net.link_lost', message: '', remedy: '' } })
    expect(fleet.state.nodes.get('a')!.ready).toBeNull()
    expect(fleet.run('next')).toMatchObject({ state: 'preparing', members: [['a'], ['b']] })
  })
})

describe('deadlines', () => {
  it('pass over a member that makes no headway in preparing', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b').join('c')
    expect(fleet.run().members).toEqual([['a', 'c'], ['b']])
    fleet.ready('a', 'c')
    fleet.pass(89_500)
    expect(fleet.run().generation).toBe(1)
    fleet.pass(1500)
    expect(fleet.told().join(' ')).toContain(
      'A volunteer of stage 2 is gone: it made no headway in preparing for 90 s.',
    )
    expect(fleet.sent('release', 'b')).toHaveLength(1)
    expect(fleet.run()).toMatchObject({ generation: 2, members: [['a'], ['c']] })
  })

  it('wait for whoever still gets on with it', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1, steps: 4 }).join('slow')
    for (let i = 1; i <= 20; i++) {
      fleet.beat('slow', 'loading', i / 20)
      fleet.pass(19_000, [])
    }
    expect(fleet.run()).toMatchObject({ state: 'preparing', generation: 1 })
  })

  it('begin a step again that gets no further, and end its generation the second time', () => {
    const fleet = pair()
    fleet.pass(100_000)
    fleet.finish('a')
    fleet.pass(119_500)
    expect(fleet.run().generation).toBe(1)
    fleet.pass(1000)
    expect(fleet.told()).toContain('Step 1 made no progress for 120 s. Step 1 begins again.')
    expect(fleet.run()).toMatchObject({ generation: 2, step: 0 })
    expect(fleet.sent('assign', 'a').at(-1)!.assignment).toMatchObject({ generation: 2, source: 'held' })
    fleet.take()
    fleet.ready()
    fleet.pass(121_000)
    expect(fleet.told()).toContain('Step 1 made no progress for 120 s.')
    expect(fleet.run().generation).toBe(3)
    expect(fleet.sent('release', 'a')).toHaveLength(1)
  })

  it('are put off by work that gets done, as heartbeats tell', () => {
    const fleet = pair()
    for (let i = 1; i <= 10; i++) {
      const { stats } = fleet.state.nodes.get('a')!
      fleet.say('a', { type: 'heartbeat', phase: 'training', progress: null, stats: { ...stats, tokens: i } })
      fleet.pass(100_000)
    }
    expect(fleet.run().generation).toBe(1)
  })

  it('end a scoring that hangs', () => {
    const fleet = training({ replicas: 1, steps: 1 }, ['a', 'b'])
    fleet.step()
    fleet.saved()
    fleet.published()
    // Its steps took no time: it is stuck after the shortest time that one may be.
    fleet.pass(31_000)
    expect(fleet.told()).toContain('Step 2 made no progress for 30 s.')
    expect(fleet.run()).toMatchObject({ step: 1, generation: 2 })
  })
})
