/** Proves who is given which stage, and what a run says while it cannot start. */
import { describe, expect, it } from 'vitest'
import { Fleet, training } from './fleet.ts'

describe('seating', () => {
  it('starts at once when every seat is taken, the emptiest stage filled first', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 2 })
    for (const id of ['a', 'b', 'c', 'd']) fleet.join(id)
    expect(fleet.run().members).toEqual([
      ['a', 'c'],
      ['b', 'd'],
    ])
    expect(fleet.sent('assign', 'c')[0]!.assignment).toMatchObject({ stage: 0, generation: 1, source: 'checkpoint' })
    expect(fleet.of('reserve')).toContainEqual({ type: 'reserve', runId: 'run', deviceId: 'device-d', stage: 1 })
  })

  it('starts with less once every stage has had somebody for the formation time', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 2 })
    // A long wait alone does not count: the others may be a moment away.
    fleet.join('a')
    fleet.pass(15_000)
    fleet.join('b').join('c')
    expect(fleet.run().state).toBe('waiting')
    fleet.pass(4500)
    expect(fleet.run().state).toBe('waiting')
    fleet.pass(500)
    expect(fleet.run().members).toEqual([['a', 'c'], ['b']])
  })

  it('keeps survivors at their stages and fills what fell empty', () => {
    const fleet = training()
    fleet.leave('b')
    fleet.leave('d')
    expect(fleet.run()).toMatchObject({ members: [], state: 'waiting' })
    fleet.join('e').join('f')
    expect(fleet.run().members).toEqual([
      ['a', 'c'],
      ['e', 'f'],
    ])
    expect(fleet.run().generation).toBe(2)
  })

  it('moves a volunteer from the fullest stage to one that lost its last', () => {
    const fleet = new Fleet().launch({ stages: 3, replicas: 2 })
    for (const id of ['a', 'b', 'c', 'd']) fleet.join(id)
    fleet.pass(5000, ['a', 'b', 'c', 'd'])
    expect(fleet.run().members).toEqual([['a', 'd'], ['b'], ['c']])
    fleet.leave('c')
    fleet.pass(5000, ['a', 'b', 'd'])
    expect(fleet.run().members).toEqual([['a'], ['b'], ['d']])
  })

  it('finds the one seating that memory allows, over several moves', () => {
    const fleet = new Fleet()
    fleet.join('large', { memoryBytes: 30 }).join('middle', { memoryBytes: 20 }).join('small', { memoryBytes: 10 })
    fleet.launch({ stages: 3, replicas: 1 }, { stageBytes: [10, 20, 30] })
    expect(fleet.run().members).toEqual([['small'], ['middle'], ['large']])
  })

  it('moves settled survivors when only that makes room for who is left', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1 }, { stageBytes: [10, 20] })
    fleet.join('x', { memoryBytes: 20 }).join('y', { memoryBytes: 20 })
    const { members } = fleet.run()
    fleet.join('small', { memoryBytes: 10 })
    fleet.leave(members[1]![0]!)
    expect(fleet.run().members).toEqual([['small'], [members[0]![0]]])
  })

  it('never seats who is too small, paused, suspect, or software where hardware is asked for', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1, requireHardware: true })
    fleet.join('soft', { software: true }).join('small', { memoryBytes: 99 }).join('paused')
    expect(fleet.run().members).toEqual([['paused']])
    fleet.say('paused', { type: 'pause' })
    expect(fleet.run().state).toBe('waiting')
    fleet.join('silent')
    expect(fleet.run().members).toEqual([['silent']])
    fleet.pass(6500, ['soft', 'small', 'paused'])
    fleet.say('silent', { type: 'failed', generation: 2, error: { code: 'gpu.x', message: 'x', remedy: '' } })
    fleet.state.nodes.get('silent')!.lastHeard -= 10_000
    fleet.pass(1000, ['soft', 'small', 'paused'])
    expect(fleet.state.nodes.get('silent')!.suspect).toBe(true)
    expect(fleet.run().members).toEqual([])
    fleet.say('paused', { type: 'resume' })
    expect(fleet.run().members).toEqual([['paused']])
  })

  it('forms a run from standbys that another run left free', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1 }, { id: 'one' })
    fleet.launch({ stages: 1, replicas: 1 }, { id: 'two' })
    for (const id of ['a', 'b', 'c', 'd', 'e']) fleet.join(id)
    // Each has its seat first, then somebody who stands by with its weights.
    expect([fleet.run('one').members, fleet.run('two').members]).toEqual([[['a', 'c']], [['b', 'd']]])
    expect(fleet.run('two').generation).toBeGreaterThan(fleet.run('one').generation)
    expect(fleet.sent('standby', 'e')[0]!.reason).toContain('Every place')
  })

  it('takes those who only stand by for another run', () => {
    const fleet = training({ stages: 1 }, ['a', 'b'])
    fleet.join('c')
    fleet.ready('c')
    fleet.launch({ stages: 1, replicas: 1 }, { id: 'two', stageBytes: [1000] })
    fleet.pass(1000)
    // Of no use there.
    expect(fleet.run().members).toEqual([['a', 'b', 'c']])
    fleet.do({ type: 'runCancelled', runId: 'two' })
    fleet.launch({ stages: 1, replicas: 1 }, { id: 'three' })
    fleet.pass(500)
    expect(fleet.run()).toMatchObject({ members: [['a', 'b']], generation: 1 })
    expect(fleet.run('three').members).toEqual([['c']])
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })
})

describe('a node that failed', () => {
  const failed = (generation: number, code: string) =>
    ({ type: 'failed', generation, error: { code, message: 'It broke.', remedy: '' } }) as const

  it('is passed over while others can do its work, and comes back after its penalty', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1 })
    fleet.join('a').join('b').join('c')
    fleet.say('a', failed(1, 'gpu.internal'))
    expect(fleet.told()).toContain('A volunteer of stage 1 is gone: it cannot go on: It broke.')
    fleet.pass(9500)
    expect(fleet.run()).toMatchObject({ members: [['c'], ['b']], generation: 1 })
    fleet.pass(1000)
    expect(fleet.run().members).toEqual([['c', 'a'], ['b']])
    fleet.leave('c')
    expect(fleet.run()).toMatchObject({ members: [['a'], ['b']], generation: 1 })
  })

  it('is taken again where nobody else is, after a pause that grows', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1 })
    fleet.join('a')
    const pauses = [500, 1000, 2000, 4000].map((expected) => {
      fleet.say('a', failed(fleet.run().generation, 'transfer.failed'))
      expect(fleet.run().state).toBe('waiting')
      fleet.pass(expected - 500, ['a'])
      expect(fleet.run().state).toBe('waiting')
      fleet.pass(500, ['a'])
      return fleet.run().state
    })
    expect(pauses).toEqual(['preparing', 'preparing', 'preparing', 'preparing'])
  })

  it('twice loses its claim to its seat: where it sits may be what fails', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1 })
    fleet.join('a').join('b')
    for (const generation of [1, 2]) {
      expect(fleet.run().members).toEqual([['a'], ['b']])
      fleet.say('b', failed(generation, 'transfer.failed'))
      fleet.pass(1000)
    }
    fleet.say('b', failed(3, 'transfer.failed'))
    fleet.join('c')
    fleet.pass(5000)
    expect(fleet.run().members.flat().sort()).toEqual(['a', 'c'])
  })

  it('ends the run after twenty-one failures in a row, while volunteers who leave do not count', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1 })
    for (let i = 0; i < 30; i++) {
      fleet.join(`guest-${i}`)
      fleet.leave(`guest-${i}`)
    }
    expect(fleet.run().brokenInARow).toBe(0)
    fleet.join('a')
    for (let i = 0; i < 20; i++) {
      fleet.say('a', failed(fleet.run().generation, 'transfer.failed'))
      fleet.pass(31_000, ['a'])
    }
    expect(fleet.of('runEnded')).toEqual([])
    fleet.say('a', failed(fleet.run().generation, 'transfer.failed'))
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'failed', valLoss: null }])
    expect(fleet.told().at(-1)).toContain('21 attempts in a row broke off; the last: A volunteer of stage 1')
  })

  it('for want of memory is given a smaller stage, or none, for the rest of its session', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1 }, { stageBytes: [70, 100] })
    fleet.join('a').join('b')
    const large = fleet.run().members[1]![0]!
    const other = fleet.run().members[0]![0]!
    fleet.say(large, failed(1, 'gpu.out_of_memory'))
    expect(fleet.state.nodes.get(large)!.memoryBytes).toBe(80)
    fleet.pass(500, ['a', 'b'])
    expect(fleet.run().members).toEqual([[large], [other]])
    fleet.say(large, failed(2, 'gpu.out_of_memory'))
    fleet.pass(60_000, ['a', 'b'])
    expect(fleet.run().members).toEqual([])
    expect(fleet.run().detail).toContain('1 more cannot hold it')
    // The page loaded anew is a new session.
    fleet.leave(large)
    fleet.join(large)
    expect(fleet.run().state).toBe('preparing')
  })

  it('over and over is not seated in that run again, and is in another; a commit forgives', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1, steps: 9, checkpointEvery: 9 }).join('a')
    const fail = () => {
      fleet.say('a', failed(fleet.run().generation, 'gpu.internal'))
      fleet.pass(5000, ['a'])
    }
    fail()
    fail()
    fleet.ready()
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(1)
    fail()
    fail()
    expect(fleet.run().members).toEqual([['a']])
    fail()
    expect(fleet.run().members).toEqual([])
    expect(fleet.run().detail).toContain('1 more failed here 3 times')
    fleet.launch({ stages: 1, replicas: 1 }, { id: 'other' })
    expect(fleet.run('other').members).toEqual([['a']])
    fleet.join('b')
    expect(fleet.run().members).toEqual([['b']])
    expect(fleet.run('other').members).toEqual([['a']])
  })

  it('cannot bring a reason into the protocol that is too long for it', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1 }).join('a').join('b')
    const error = { code: 'gpu.x', message: 'x'.repeat(2000), remedy: '' }
    fleet.say('a', { type: 'failed', generation: 1, error })
    expect(fleet.sent('release', 'b')[0]!.reason).toHaveLength(300)
  })
})

describe('shortage', () => {
  const detail = (fleet: Fleet) => fleet.run().detail

  it('names the stages that wait', () => {
    const fleet = new Fleet().launch({ stages: 3, replicas: 2 })
    fleet.pass(500)
    expect(detail(fleet)).toBe('Stages 1, 2, 3 of 3 wait for a volunteer (0 of 6 are here).')
    fleet.join('a').join('b')
    expect(detail(fleet)).toBe('Stage 3 of 3 waits for a volunteer (2 of 6 are here).')
    fleet.join('c')
    expect(detail(fleet)).toBe('3 of 6 volunteers are here; starting soon.')
  })

  it('says that those who are here are too small, or software', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1, requireHardware: true }, { stageBytes: [3 * 2 ** 20] })
    fleet.join('small', { memoryBytes: 5 }).join('soft', { memoryBytes: 2 ** 40, software: true })
    expect(detail(fleet)).toBe(
      'Stage 1 of 1 waits for a volunteer (0 of 1 are here). Nobody here can hold it: it takes 3 MiB, and the largest ' +
        'offer is 0 MiB. More stages or a smaller microbatch take less. 1 more have no hardware GPU, which this run asks for.',
    )
  })

  it('says when a stage is too large for some, and when it is for all', () => {
    const mib = (n: number) => n * 2 ** 20
    const fleet = new Fleet().launch({ stages: 2, replicas: 1 }, { stageBytes: [mib(10), mib(2000)] })
    fleet.join('a', { memoryBytes: mib(100) }).join('b', { memoryBytes: mib(512.7) })
    expect(detail(fleet)).toContain(
      'Stage 2 of 2 waits for a volunteer (1 of 2 are here). Nobody here can hold it: it takes 2,000 MiB, and the largest ' +
        'offer is 512 MiB.',
    )
    const tight = new Fleet().launch({ stages: 2, replicas: 1 }, { stageBytes: [mib(50), mib(60)] })
    tight.join('a', { memoryBytes: mib(60) }).join('b', { memoryBytes: mib(10) })
    expect(detail(tight)).toContain('1 more cannot hold it')
    const none = new Fleet().launch({ stages: 2, replicas: 1 }, { stageBytes: [mib(50), mib(60)] })
    none.join('a', { memoryBytes: mib(20) })
    expect(detail(none)).toContain(
      'Nobody here can hold one of them: the smallest takes 50 MiB, and the largest offer is 20',
    )
  })
})
