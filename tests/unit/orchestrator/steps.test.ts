/** Proves a step's way to its commit, the scoring at the end, and the end. */
import { describe, expect, it } from 'vitest'
import { learningRate } from '../../../src/model/learningRate.ts'
import { clientMessageSchema } from '../../../src/protocol/control.ts'
import { Fleet, training } from './fleet.ts'

describe('a step', () => {
  it('begins when every member is ready, and a stale ready does not count', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b')
    fleet.leave('b')
    fleet.join('c')
    expect(fleet.run()).toMatchObject({ generation: 2, members: [['a'], ['c']] })
    fleet.say('a', { type: 'ready', generation: 1, step: 0, expectedMs: null })
    fleet.say('c', { type: 'ready', generation: 2, step: 0, expectedMs: null })
    fleet.say('c', { type: 'ready', generation: 2, step: 0, expectedMs: null })
    fleet.say('a', { type: 'ready', generation: 2, step: 7, expectedMs: null })
    fleet.pass(2000)
    expect(fleet.run().state).toBe('preparing')
    expect(fleet.sent('step')).toEqual([])
    fleet.say('a', { type: 'ready', generation: 2, step: 0, expectedMs: null })
    expect(fleet.run().state).toBe('training')
    expect(fleet.sent('step')).toHaveLength(2)
    const leases = [0, 1, 2, 3].map((microbatch) => [microbatch, -1, 0])
    expect(fleet.sent('step', 'a')[0]).toEqual({
      type: 'step',
      generation: 2,
      step: 1,
      mode: 'train',
      version: 1,
      peers: ['c'],
      leases,
      owners: [['a']],
      committed: 0,
      window: 3,
    })
    expect(fleet.sent('step', 'c')[0]).toMatchObject({ peers: ['a'], leases: leases.map(([m]) => [m, 0, -1]) })
  })

  it('begins without who still loads, once every stage has had somebody for the formation time', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 2, steps: 4 }).join('a').join('b')
    fleet.ready('a')
    fleet.pass(4500)
    expect(fleet.run().state).toBe('preparing')
    fleet.pass(500)
    expect(fleet.run().state).toBe('training')
    expect(fleet.leasesOf('a')).toEqual([0, 1, 2, 3])
    expect(fleet.leasesOf('b')).toEqual([])
  })

  it('is summed, prepared, applied and committed in this order, clipped over all stages', () => {
    const fleet = training()
    fleet.prepares = false
    for (const id of ['a', 'b', 'c']) fleet.finish(id)
    // The first stage is whole, the second waits for `d`.
    expect(fleet.sent('reduce').map(({ contributors }) => contributors)).toEqual([
      [
        ['a', 1],
        ['c', 1],
      ],
      [
        ['a', 1],
        ['c', 1],
      ],
    ])
    fleet.sums(4)
    expect(fleet.of('prepareStep')).toEqual([])
    // A repeated report changes nothing, whatever it says.
    fleet.finish('b', { lossSum: 1000 })
    fleet.finish('d')
    fleet.sums(4, ['b', 'd'])
    const { optimizer } = fleet.run().config
    // Four shards of squared norm 4: the norm over everything is 4.
    const rates = { lr: learningRate(optimizer, 1, 4), scale: 1 / (4 + 1e-6) }
    expect(fleet.of('prepareStep')).toMatchObject([
      { runId: 'run', generation: 1, ...rates, metric: { step: 1, loss: 2, gradNorm: 4, tokens: 4 * 64 } },
    ])
    expect(fleet.sent('apply')).toEqual([])
    fleet.updates()
    fleet.prepared()
    const owners = [
      ['a', 'c'],
      ['c', 'a'],
    ]
    expect(fleet.sent('apply', 'a')).toEqual([
      { type: 'apply', generation: 1, step: 1, attempt: 1, ...rates, owners, receivers: ['a', 'c'] },
    ])
    fleet.sums(4)
    fleet.prepared()
    expect(fleet.sent('apply', 'a')).toHaveLength(1)
    fleet.updates(['a', 'b', 'c', 'c', 'a'])
    expect(fleet.of('commitStep')).toEqual([])
    fleet.now += 250
    fleet.updates(['d'])
    expect(fleet.of('commitStep')).toMatchObject([
      { metric: { step: 1, loss: 2, gradNorm: 4, tokens: 4 * 64, durationMs: 250, at: fleet.now } },
    ])
    expect(fleet.sent('step', 'a')).toMatchObject([{ step: 2, committed: 1 }])
  })

  it('does not believe what nobody asked for, nor losses that are not those of the leases', () => {
    const fleet = training()
    fleet.report('a', { type: 'updated', step: 1, shard: 0 })
    fleet.report('a', { type: 'reduced', step: 1, attempt: 0, shard: 0, squaredNorm: 1, digest: null })
    fleet.report('a', { type: 'finished', step: 1, version: 2, losses: [], busyMs: 1 })
    fleet.report('a', { type: 'finished', step: 2, version: 1, losses: [], busyMs: 1 })
    expect(fleet.run().round!.stages[0]).toMatchObject({ contributors: null, pending: new Set(['a', 'c']) })
    fleet.finishAll()
    // Neither of the wrong attempt, nor for a shard of another owner, nor beyond the shards.
    fleet.report('a', { type: 'reduced', step: 1, attempt: 2, shard: 0, squaredNorm: 1, digest: null })
    fleet.report('a', { type: 'reduced', step: 1, attempt: 1, shard: 9, squaredNorm: 1, digest: null })
    expect(fleet.run().round!.stages[0]!.norms).toEqual([new Map(), new Map()])
    fleet.report('a', { type: 'updated', step: 1, shard: 0 })
    expect(fleet.run().round!.stages[0]!.updated).toEqual([false, false])
    expect(fleet.of('prepareStep')).toEqual([])
  })

  it.each<[string, [number, number, number][]]>([
    ['too few', [[0, 1, 1]]],
    [
      'another',
      [
        [0, 1, 1],
        [2, 1, 1],
      ],
    ],
    [
      'one twice',
      [
        [0, 1, 1],
        [0, 1, 1],
      ],
    ],
  ])('is done without a node whose losses are %s', (_, losses) => {
    const fleet = training({ stages: 1 }, ['a', 'b'])
    fleet.finish('b')
    fleet.report('a', { type: 'finished', step: 1, version: 1, losses, busyMs: 1 })
    expect(fleet.sent('release', 'a')).toHaveLength(1)
    expect(fleet.run().members).toEqual([['b']])
    expect(fleet.leasesOf('b')).toEqual([0, 1, 2, 3])
    fleet.step()
    expect(fleet.of('commitStep')).toMatchObject([{ metric: { loss: 2 } }])
  })

  it('adds up losses in the order of microbatches, whoever reports first', () => {
    const lossOf = (microbatch: number) => [1e16, 1, -1e16, 1][microbatch]!
    const losses = [
      ['a', 'b'],
      ['b', 'a'],
    ].map((order) => {
      const fleet = training({ stages: 1 }, ['a', 'b'])
      for (const id of order) fleet.finish(id, { lossSum: lossOf, tokens: 1 })
      fleet.sums()
      return fleet.of('prepareStep')[0]!.metric.loss
    })
    expect(losses).toEqual([(1e16 + 1 - 1e16 + 1) / 4, (1e16 + 1 - 1e16 + 1) / 4])
  })

  it.each([
    ['loss', (fleet: Fleet) => (fleet.finishAll({ lossSum: NaN }), fleet.sums())],
    ['norm', (fleet: Fleet) => (fleet.finishAll(), fleet.sums(NaN))],
    ['overflow of the norm', (fleet: Fleet) => (fleet.finishAll(), fleet.sums(Number.MAX_VALUE))],
  ])('ends the run when it diverges: %s', (_, diverge) => {
    const fleet = training()
    diverge(fleet)
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'failed' }])
    expect(fleet.told().at(-1)).toContain('Step 1 diverged')
    expect(fleet.of('prepareStep')).toEqual([])
    expect(fleet.sent('release').map((message) => message.generation)).toEqual([1, 1, 1, 1])
    expect([...fleet.state.nodes.values()].every((node) => node.runId === null)).toBe(true)
  })

  it('hears of a diverged loss over the wire, where JSON has no NaN', () => {
    const over = (value: object) => clientMessageSchema.parse(JSON.parse(JSON.stringify(value)))
    const finished = { type: 'finished', generation: 1, step: 1, version: 1, losses: [[0, NaN, 5]], busyMs: null }
    expect(over(finished)).toEqual(finished)
    const norm = { type: 'reduced', generation: 1, step: 1, attempt: 1, shard: 0, squaredNorm: Infinity, digest: null }
    expect(over(norm)).toEqual({ ...norm, squaredNorm: NaN })
  })
})

describe('the scoring', () => {
  const scored = (evalWindows: number, nodes = ['a', 'b'], input = {}) => {
    const fleet = training({ replicas: 1, steps: 1, ...input }, nodes, { evalWindows })
    fleet.step()
    return fleet
  }
  const ended = (fleet: Fleet) => {
    expect(fleet.of('runEnded')).toEqual([])
    fleet.saved()
    fleet.published()
    return fleet.of('runEnded')
  }

  it('goes in rounds numbered on from the last step, and ends the run with the mean over all tokens', () => {
    const fleet = scored(70)
    expect(fleet.sent('step', 'a').at(-1)).toMatchObject({ step: 2, mode: 'evaluate', committed: 1, version: 1 })
    expect(fleet.leasesOf('a')).toEqual(Array.from({ length: 64 }, (_, i) => i))
    fleet.finishAll({ lossSum: 10, tokens: 5 })
    expect(fleet.run().detail).toBe('Scoring held-out text: 64 of 70 microbatches.')
    expect(fleet.sent('step', 'a').at(-1)).toMatchObject({ step: 3, mode: 'evaluate' })
    expect(fleet.leasesOf('b')).toEqual([64, 65, 66, 67, 68, 69])
    expect(fleet.sent('reduce')).toHaveLength(2)
    fleet.finishAll({ lossSum: 20, tokens: 5 })
    expect(ended(fleet)).toMatchObject([{ state: 'finished', valLoss: (64 * 10 + 6 * 20) / (70 * 5) }])
  })

  it('goes on when somebody leaves, with nothing scored twice', () => {
    const fleet = scored(4, ['a', 'b', 'c', 'd'], { replicas: 2 })
    // `d` has scored its half and goes: its losses go with it, and others score that half.
    fleet.finish('a')
    fleet.finish('d', { lossSum: 1000 })
    expect(fleet.leasesOf('d')).toEqual([2, 3])
    fleet.leave('d')
    expect(fleet.leasesOf('b')).toEqual([0, 1, 2, 3])
    expect(fleet.of('recovered')).toEqual([{ type: 'recovered', runId: 'run', leases: 2, cause: 'left' }])
    // Whoever has their input sends it to the new owner.
    expect(fleet.view('c').leases).toEqual([
      [2, '', 'b'],
      [3, '', 'b'],
    ])
    fleet.finish('b')
    expect(fleet.run().evaluation!.done).toBe(0)
    fleet.finish('c')
    fleet.saved()
    expect(fleet.of('rollBack')).toEqual([])
    expect(ended(fleet)).toMatchObject([{ state: 'finished', valLoss: 2 }])
  })

  it('is left out where there is nothing to score', () => {
    expect(ended(scored(0))).toMatchObject([{ state: 'finished', valLoss: null }])
    const told = scored(0)
    ended(told)
    expect(told.told().at(-1)).toBe('Finished after 1 steps; there is no held-out text to score.')
  })

  it('whose result is not a number fails the run', () => {
    const fleet = scored(2)
    fleet.finishAll({ lossSum: NaN })
    expect(ended(fleet)).toMatchObject([{ state: 'failed', valLoss: null }])
  })

  it('that is over waits for the last checkpoint, says so once, and does not count as a stall', () => {
    const fleet = scored(2)
    fleet.finishAll()
    fleet.take()
    fleet.pass(300_000)
    expect(fleet.run().detail).toBe('Everything is computed; the last checkpoint is being kept.')
    expect(fleet.of('runChanged')).toEqual([])
    expect(ended(fleet)).toMatchObject([{ state: 'finished' }])
  })
})

describe('a run', () => {
  it('is cancelled in any state, once', () => {
    const fleet = training()
    fleet.do({ type: 'runCancelled', runId: 'run' })
    fleet.do({ type: 'runCancelled', runId: 'run' })
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'cancelled' }])
    expect(fleet.sent('release')).toHaveLength(4)
  })

  it('shares the fleet with another, and neither hears the reports of the other', () => {
    const fleet = new Fleet()
    fleet.launch({ stages: 1, replicas: 1, steps: 4, checkpointEvery: 100 }, { id: 'run' }).join('a')
    fleet.launch({ stages: 1, replicas: 1, steps: 4, checkpointEvery: 100 }, { id: 'other' }).join('b')
    const [own, other] = [fleet.run().generation, fleet.run('other').generation]
    expect(other).toBeGreaterThan(own)
    fleet.say('b', { type: 'ready', generation: own, step: 0, expectedMs: null })
    expect(fleet.run('other').state).toBe('preparing')
    fleet.ready('a')
    fleet.report('b', { type: 'ready', step: 0, expectedMs: null })
    expect([fleet.run().state, fleet.run('other').state]).toEqual(['training', 'training'])
    fleet.step()
    fleet.step()
    expect([fleet.run().step, fleet.run('other').step]).toEqual([2, 0])
    // A standby is free for either; whoever is short takes it.
    fleet.leave('b')
    fleet.take()
    fleet.join('c')
    expect([fleet.run().members, fleet.run('other').members]).toEqual([[['a']], [['c']]])
    expect(fleet.sent('assign', 'c')[0]!.assignment.runId).toBe('other')
  })
})
