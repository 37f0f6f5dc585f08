/** Proves what the server makes of silence, replaced devices, pauses and deadlines. */
import { describe, expect, it } from 'vitest'
import { Fleet } from './fleet.ts'

const pair = () => {
  const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b')
  fleet.ready()
  fleet.take()
  return fleet
}

describe('silence', () => {
  it('is said after six seconds, with the stage, and forgotten at the first word', () => {
    const fleet = pair()
    fleet.pass(5500, ['a'])
    expect(fleet.run().detail).toBe('')
    fleet.pass(500, ['a'])
    expect(fleet.run().detail).toBe('Stage 2 waits: a volunteer there has fallen silent.')
    expect(fleet.of('runChanged')).toHaveLength(1)
    fleet.beat('b')
    expect(fleet.run().detail).toBe('')
    expect(fleet.run().state).toBe('training')
  })

  it('leaves the words for preparing and scoring in place when it ends', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b')
    const { detail } = fleet.run()
    fleet.pass(6000, ['a'])
    fleet.beat('b')
    expect(fleet.run().detail).toBe(detail)
  })

  it('is death after twenty seconds: the node is cut off and the generation ends', () => {
    const fleet = pair()
    fleet.pass(19_500, ['a'])
    expect(fleet.state.nodes.has('b')).toBe(true)
    fleet.pass(500, ['a'])
    expect(fleet.state.nodes.has('b')).toBe(false)
    expect(fleet.of('disconnect')).toMatchObject([{ nodeId: 'b', error: { code: 'control.silent' } }])
    expect(fleet.told()).toEqual(['A volunteer of stage 2 is gone: it was silent for 20 s.'])
    expect(fleet.run()).toMatchObject({
      state: 'waiting',
      detail: 'Stage 2 of 2 waits for a volunteer (1 of 2 are here).',
    })
    expect(fleet.sent('release', 'a')).toMatchObject([{ generation: 1 }])
  })
})

describe('a device', () => {
  it('that connects again takes its place, and its old socket is told why it closes', () => {
    const fleet = pair()
    fleet.join('b2', { deviceId: 'device-b' })
    expect(fleet.of('disconnect')).toMatchObject([{ nodeId: 'b', error: { code: 'control.replaced' } }])
    expect([...fleet.state.nodes.keys()]).toEqual(['a', 'b2'])
    expect(fleet.run().members).toEqual([['a'], ['b2']])
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

  it('that resumes without having paused keeps its seat', () => {
    const fleet = pair()
    fleet.say('b', { type: 'resume' })
    expect(fleet.sent('standby', 'b')).toEqual([])
    expect(fleet.run().state).toBe('training')
  })

  it('that leaves, or speaks after it left, is no longer there', () => {
    const fleet = pair()
    fleet.say('b', { type: 'leaving' })
    fleet.say('b', { type: 'ready', generation: 1 })
    fleet.do({ type: 'nodeLeft', nodeId: 'b', reason: 'closed' })
    expect(fleet.told()).toEqual(['A volunteer of stage 2 is gone: its tab was closed.'])
  })

  it('that speaks for a run which is over changes nothing', () => {
    const fleet = pair()
    fleet.do({ type: 'runCancelled', runId: 'run' })
    fleet.launch({ stages: 2, replicas: 1, steps: 4 }, { id: 'next' })
    fleet.say('a', { type: 'ready', generation: 1 })
    fleet.say('a', { type: 'failed', generation: 1, error: { code: 'net.link_lost', message: '', remedy: '' } })
    expect(fleet.run('next').ready.size).toBe(0)
    expect(fleet.run('next').state).toBe('preparing')
  })
})

describe('deadlines', () => {
  it('end a generation whose member makes no headway in preparing, and pass that member over', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b').join('c')
    fleet.say('a', { type: 'ready', generation: 1 })
    fleet.pass(89_500, ['a', 'b', 'c'])
    expect(fleet.run().generation).toBe(1)
    fleet.pass(1500, ['a', 'b', 'c'])
    expect(fleet.told()).toContain('A volunteer made no headway in preparing for 90 s.')
    expect(fleet.run()).toMatchObject({ generation: 2, members: [['a'], ['c']] })
  })

  it('wait for whoever still gets on with it', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1, steps: 4 }).join('slow')
    for (let i = 1; i <= 20; i++) {
      fleet.beat('slow', 'loading', i / 20)
      fleet.pass(19_000)
    }
    expect(fleet.run()).toMatchObject({ state: 'preparing', generation: 1 })
  })

  it('end a generation whose step gets no further, and no fleet', () => {
    const fleet = pair()
    fleet.pass(100_000, ['a', 'b'])
    fleet.losses(1, 0, 1)
    fleet.pass(119_500, ['a', 'b'])
    expect(fleet.run().generation).toBe(1)
    fleet.pass(1000, ['a', 'b'])
    expect(fleet.told()).toContain('Step 1 made no progress for 120 s.')
    expect(fleet.run()).toMatchObject({ generation: 2, state: 'preparing' })
  })

  it('end a scoring that hangs', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 1 }).join('a').join('b')
    fleet.ready()
    fleet.step(1)
    fleet.saved(1)
    fleet.published()
    fleet.pass(121_000, ['a', 'b'])
    expect(fleet.told()).toContain('Scoring made no progress for 120 s.')
  })
})
