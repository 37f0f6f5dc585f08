/** Proves how a run goes on under a server that was started again: from what its nodes hold, and only from what they hold whole. */
import { describe, expect, it } from 'vitest'
import type { ClientMessage, Holding } from '../../../src/protocol/control.ts'
import { Fleet, type LaunchOptions } from './fleet.ts'

const metric = { step: 8, loss: 2, gradNorm: 1, lr: 1, tokens: 256, durationMs: 5, at: 1 }
const work = [
  {
    kind: 'work' as const,
    run: 'run',
    generation: 3,
    step: 8,
    stage: 0,
    device: 'device-a',
    microbatches: 2,
    credit: '1234',
    receipt: 'e'.repeat(64),
  },
]
const applying = { generation: 3, lr: 0.5, scale: 0.25, metric, work }
/** Committed at step 7 in generation 3, checkpoint at 5. */
const restarted = (options: LaunchOptions = {}, input = {}) =>
  new Fleet().launch(
    { stages: 2, replicas: 2, steps: 20, checkpointEvery: 100, ...input },
    {
      recovering: true,
      generation: 3,
      step: 7,
      at: 5,
      reservations: { 'device-a': 0, 'device-b': 1, 'device-c': 0, 'device-d': 1 },
      ...options,
    },
  )
const holding = (stage: number, rest: Partial<Holding> = {}): Holding => ({
  runId: 'run',
  generation: 3,
  stage,
  step: 7,
  moments: [
    [0, 7],
    [1, 7],
  ],
  reduced: [],
  open: [],
  ...rest,
})
const assigned = (fleet: Fleet, id: string) => fleet.sent('assign', id)[0]?.assignment

describe('after a restart of the server', () => {
  it('a run goes on at the committed step, in a new generation, once all are back', () => {
    const fleet = restarted()
    fleet
      .join('a', { holding: holding(0) })
      .join('b', { holding: holding(1) })
      .join('c', { holding: holding(0) })
    expect(fleet.sent('assign')).toEqual([])
    expect(fleet.sent('standby')).toEqual([])
    fleet.join('d', { holding: holding(1) })
    expect(fleet.of('rollBack')).toEqual([])
    expect(assigned(fleet, 'a')).toMatchObject({ generation: 4, stage: 0, source: 'held', finish: null })
    expect(fleet.told()).toEqual(['The server is back, and 4 volunteers with it; nothing after step 7 was lost.'])
    fleet.ready()
    fleet.pass(500)
    expect(fleet.sent('step', 'd')[0]).toMatchObject({ step: 8, committed: 7 })
    fleet.step()
    expect(fleet.of('commitStep')).toMatchObject([{ metric: { step: 8 } }])
  })

  it('does not wait longer than a moment for the others where enough is back', () => {
    const fleet = restarted()
    fleet.join('a', { holding: holding(0) }).join('b', { holding: holding(1) })
    fleet.pass(1500)
    expect(fleet.sent('assign')).toEqual([])
    fleet.pass(1000)
    expect(assigned(fleet, 'a')).toMatchObject({ source: 'held' })
    // Who comes after that takes the weights from the others.
    fleet.join('c', { holding: holding(0) })
    expect(assigned(fleet, 'c')).toMatchObject({ stage: 0, source: 'peers', generation: 4 })
  })

  it('says whom it waits for, and goes back to the checkpoint when a stage does not come', () => {
    const fleet = restarted()
    fleet.join('a', { holding: holding(0) })
    expect(fleet.run().detail).toBe('Waiting for the volunteers that were here: 1 are back.')
    fleet.join('x')
    fleet.pass(14_500)
    expect(fleet.of('rollBack')).toEqual([])
    fleet.pass(500)
    expect(fleet.of('rollBack')).toEqual([{ type: 'rollBack', runId: 'run', toStep: 5 }])
    fleet.pass(5000)
    expect(assigned(fleet, 'a')).toMatchObject({ stage: 0, source: 'checkpoint', checkpoint: { step: 5 } })
    expect(assigned(fleet, 'x')).toMatchObject({ stage: 1, source: 'checkpoint' })
  })

  it.each<[string, Partial<Holding>]>([
    ['the moments of a shard', { moments: [[0, 7]] }],
    [
      'moments of an older step',
      {
        moments: [
          [0, 7],
          [1, 6],
        ],
      },
    ],
    ['parameters', { step: null }],
    ['the right step', { step: 6 }],
    ['the right generation', { generation: 2 }],
    ['the right run', { runId: 'other' }],
    ['a stage that is there', { stage: 7 }],
  ])('is not whole where somebody alone at a stage lacks %s', (_, rest) => {
    const fleet = restarted({ reservations: {} })
    fleet.join('a', { holding: holding(0) }).join('b', { holding: holding(1, rest) })
    fleet.pass(14_500)
    expect(fleet.sent('assign')).toEqual([])
    fleet.pass(6000)
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 5 }])
    expect(assigned(fleet, 'b')).toMatchObject({ source: 'checkpoint' })
  })

  it('is whole where several together have the moments', () => {
    const fleet = restarted({ reservations: {} })
    fleet.join('a', { holding: holding(0, { moments: [[0, 7]] }) })
    fleet.join('b', { holding: holding(1) })
    fleet.join('c', { holding: holding(0, { step: null, moments: [[1, 7]] }) })
    fleet.pass(2500)
    expect(assigned(fleet, 'a')).toMatchObject({ source: 'held' })
    fleet.ready()
    fleet.pass(6000)
    expect(fleet.view('a').owners.map(([first]) => first)).toEqual(['a', 'c'])
  })

  it('a step that was half applied is rolled forward: those who have summed it finish it', () => {
    const fleet = restarted({ unapplied: applying, reservations: {} })
    const updated = {
      moments: [
        [0, 8],
        [1, 8],
      ] as [number, number][],
    }
    fleet.join('a', { holding: holding(0, { step: 8, ...updated }) })
    fleet.join('b', { holding: holding(1, { reduced: [0, 1] }) })
    fleet.pass(2500)
    expect(fleet.of('commitStep')).toMatchObject([{ type: 'commitStep', runId: 'run', metric, work }])
    expect(fleet.sent('credited', 'a')).toEqual([
      { type: 'credited', runId: 'run', step: 8, stage: 0, work, refused: [] },
    ])
    expect(fleet.sent('credited', 'b')).toEqual([])
    for (const id of ['a', 'b'])
      expect(assigned(fleet, id)).toMatchObject({ source: 'held', finish: { step: 8, lr: 0.5, scale: 0.25 } })
    fleet.ready()
    fleet.pass(1000)
    expect(fleet.sent('step', 'b')[0]).toMatchObject({ step: 9, committed: 8, owners: [['b'], ['b']] })
    fleet.step()
    expect(fleet.of('commitStep')).toHaveLength(2)
  })

  it('a node amid the update, with some shards after it and others only summed, counts for both', () => {
    const fleet = restarted({ unapplied: applying, reservations: {} })
    fleet.join('a', {
      holding: holding(0, {
        step: null,
        moments: [
          [0, 8],
          [1, 7],
        ],
        reduced: [1],
      }),
    })
    fleet.join('b', { holding: holding(1, { reduced: [0, 1] }) })
    fleet.pass(2500)
    expect(assigned(fleet, 'a')).toMatchObject({ source: 'held', finish: { step: 8 } })
  })

  it('a sum without the moments to update by finishes nothing', () => {
    const fleet = restarted({ unapplied: applying, reservations: {} })
    fleet.join('a', { holding: holding(0, { moments: [[0, 7]], reduced: [0, 1] }) })
    fleet.join('b', { holding: holding(1, { reduced: [0, 1] }) })
    fleet.pass(3000)
    expect(fleet.of('commitStep')).toEqual([])
    expect(fleet.sent('assign')).toEqual([])
  })

  it('a step that nobody began to apply, and not all have summed, is computed again', () => {
    const fleet = restarted({ unapplied: applying, reservations: {} })
    fleet.join('a', { holding: holding(0, { reduced: [0, 1] }) }).join('b', { holding: holding(1) })
    fleet.pass(2500)
    expect(fleet.of('commitStep')).toEqual([])
    expect(assigned(fleet, 'a')).toMatchObject({ source: 'held', finish: null })
    fleet.ready()
    fleet.pass(1000)
    expect(fleet.sent('step', 'a')[0]).toMatchObject({ step: 8, committed: 7 })
  })

  it('the record of another generation finishes nothing', () => {
    const fleet = restarted({ unapplied: { ...applying, generation: 2 }, reservations: {} })
    fleet.join('a', { holding: holding(0, { reduced: [0, 1] }) })
    fleet.join('b', { holding: holding(1, { reduced: [0, 1] }) })
    fleet.pass(2500)
    expect(fleet.of('commitStep')).toEqual([])
    expect(assigned(fleet, 'a')).toMatchObject({ finish: null })
  })

  it('a run that had only its last checkpoint left to keep asks for it again, and ends', () => {
    const fleet = restarted({ reservations: {}, evalWindows: 0 }, { steps: 7 })
    fleet.join('a', { holding: holding(0) }).join('b', { holding: holding(1) })
    fleet.pass(3000)
    fleet.ready()
    fleet.pass(6000)
    fleet.saved()
    fleet.published()
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'finished' }])
  })

  it('a device that comes without what it held gets its stage again', () => {
    const fleet = restarted({ step: 5 }, { replicas: 1 })
    fleet.join('b').join('a')
    fleet.pass(16_000)
    expect(fleet.run().members).toEqual([['a'], ['b']])
  })

  it('nodes of one run are not taken by another that is formed sooner', () => {
    const fleet = restarted({ reservations: { 'device-a': 0, 'device-b': 1 } })
    fleet.launch({ stages: 1, replicas: 1 }, { id: 'new' })
    fleet.join('a', { holding: holding(0) })
    fleet.join('x')
    fleet.pass(3000)
    expect(fleet.run('new').members).toEqual([['x']])
    expect(fleet.state.nodes.get('a')!.runId).toBeNull()
    fleet.join('b', { holding: holding(1) })
    fleet.pass(500)
    expect(fleet.run().members).toEqual([['a'], ['b']])
    expect(fleet.run('new').members).toEqual([['x']])
  })

  it.each<[string, ClientMessage]>([
    ['failed', { type: 'failed', generation: 3, error: { code: 'gpu.internal', message: 'Lost.', remedy: 'None.' } }],
    ['was paused', { type: 'pause' }],
  ])('does not count on what a node held that %s since', (_, word) => {
    const fleet = restarted({ reservations: {} })
    fleet.join('a', { holding: holding(0) })
    fleet.say('a', word)
    if (word.type === 'pause') fleet.say('a', { type: 'resume' })
    fleet.join('b', { holding: holding(1) })
    fleet.pass(3000)
    expect(fleet.sent('assign')).toEqual([])
    expect(fleet.run().detail).toBe('Waiting for the volunteers that were here: 1 are back.')
    fleet.pass(30_000)
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 5 }])
    expect(assigned(fleet, 'a')).toMatchObject({ source: 'checkpoint' })
    expect(fleet.state.nodes.get('a')!.gpuFailures.get('run')).toBe(word.type === 'failed' ? 1 : undefined)
  })

  it('a node that does not hold after all what it was told to go on with is done without', () => {
    const fleet = restarted()
    for (const [i, id] of ['a', 'b', 'c', 'd'].entries()) fleet.join(id, { holding: holding(i % 2) })
    fleet.report('a', { type: 'failed', error: { code: 'stage.not_held', message: 'Gone.', remedy: 'None.' } })
    fleet.ready('b', 'c', 'd')
    fleet.pass(6000)
    expect(fleet.run().members[0]).toEqual(['c'])
    expect(fleet.view('c').owners.flat()).not.toContain('a')
    expect(fleet.of('rollBack')).toEqual([])
  })

  it('with local steps bytes of a step not known to be over are the first owner’s alone, until another says that it kept them', () => {
    const local = { sync: 'local', local: { innerSteps: 2, lanes: 2 }, batch: 2, microbatch: 1 } as const
    const fleet = restarted({}, local)
    for (const [i, id] of ['a', 'b', 'c', 'd'].entries())
      fleet.join(id, { holding: holding(i % 2, { open: id === 'a' ? [0] : [] }) })
    fleet.pass(2500)
    fleet.ready()
    fleet.pass(6000)
    // Whoever knows the step to be over is the first.
    const firsts = () => fleet.run().owners[0]!.map(([first]) => first)
    expect(new Set(firsts())).toEqual(new Set(['c']))
    expect(fleet.run().owners[0]![0]).toContain('a')
    // Silent for a moment: the open shard nobody else need have kept.
    fleet.do({ type: 'nodeUnresponsive', nodeId: 'c' })
    expect(firsts()).toEqual(['c', 'a'])
    fleet.beat('c')
    fleet.report('a', { type: 'held', step: 7, shard: 0 })
    fleet.do({ type: 'nodeUnresponsive', nodeId: 'c' })
    expect(firsts()).toEqual(['a', 'a'])
  })

  it('with local steps nor does one count that finishes a step by itself beside the first owner, who has it', () => {
    const local = { sync: 'local', local: { innerSteps: 2, lanes: 2 }, batch: 2, microbatch: 1 } as const
    const fleet = restarted({ unapplied: applying }, local)
    const moments: [number, number][] = [[0, 8], [1, 8]] // prettier-ignore
    for (const [i, id] of ['a', 'b', 'c', 'd'].entries())
      fleet.join(id, { holding: holding(i % 2, i < 2 ? { reduced: [0, 1] } : { step: 8, moments }) })
    fleet.pass(2500)
    fleet.ready()
    fleet.pass(6000)
    expect(fleet.run()).toMatchObject({ step: 8, round: { step: 9 } })
    expect(fleet.run().holders[0]).toEqual([new Map([['c', 8]]), new Map([['c', 8]])])
  })

  it('a node whose GPU hangs is found out in a minute, though nothing else is known of how long a step takes', () => {
    const fleet = restarted({ reservations: {} })
    fleet
      .join('a', { holding: holding(0) })
      .join('b', { holding: holding(1) })
      .join('c', { holding: holding(0) })
    fleet.pass(3000)
    fleet.ready('b', 'c')
    fleet.pass(59_000)
    expect(fleet.run().members[0]).toEqual(['a', 'c'])
    fleet.pass(6000)
    expect(fleet.run().members[0]).toEqual(['c'])
    expect(fleet.told().join(' ')).toContain('nothing came from it since the step began again')
  })

  it('who holds something that no run waits for is told to drop it', () => {
    const fleet = restarted({ reservations: {} })
    fleet.join('old', { memoryBytes: 1, holding: holding(0, { runId: 'gone' }) })
    fleet.join('a', { holding: holding(0) }).join('b', { holding: holding(1) })
    fleet.pass(4000)
    expect(fleet.sent('standby', 'old')).toHaveLength(1)
  })
})
