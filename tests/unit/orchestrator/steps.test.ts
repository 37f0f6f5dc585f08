/** Proves a step's way to its commit, the checkpoint after it and the scoring at the end. */
import { describe, expect, it } from 'vitest'
import { learningRate } from '../../../src/model/learningRate.ts'
import { clientMessageSchema } from '../../../src/protocol/control.ts'
import { Fleet, hash } from './fleet.ts'

const training = (input: Parameters<Fleet['launch']>[0] = {}, nodes = ['a', 'b', 'c', 'd']) => {
  const fleet = new Fleet().launch({ stages: 2, replicas: 2, steps: 4, checkpointEvery: 2, ...input })
  for (const id of nodes) fleet.join(id)
  fleet.ready()
  fleet.take()
  return fleet
}

describe('a step', () => {
  it('begins when every member is ready, and a stale ready does not count', () => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 4 }).join('a').join('b').join('c')
    fleet.do({ type: 'nodeLeft', nodeId: 'b', reason: 'closed' })
    expect(fleet.run().generation).toBe(2)
    fleet.say('a', { type: 'ready', generation: 1 })
    fleet.say('c', { type: 'ready', generation: 2 })
    expect(fleet.run().state).toBe('preparing')
    fleet.say('c', { type: 'ready', generation: 2 })
    expect(fleet.run().state).toBe('preparing')
    fleet.say('a', { type: 'ready', generation: 2 })
    expect(fleet.run().state).toBe('training')
    expect(fleet.sent('step')).toHaveLength(2)
    expect(fleet.sent('step')[0]).toEqual({
      type: 'step',
      generation: 2,
      step: 1,
      mode: 'train',
      first: 0,
      microbatches: 4,
    })
  })

  it('is applied once all losses and norms are in, clipped over all stages, and commits once all applied', () => {
    const fleet = training()
    fleet.losses(1, 0, 3)
    fleet.norms(1, 4)
    // A repeated report changes nothing, whatever it says.
    fleet.losses(1, 0, 3, 1000)
    expect(fleet.sent('apply')).toEqual([])
    fleet.losses(1, 3, 1)
    const { optimizer } = fleet.run().config
    // Four shards of squared norm 4: the norm over everything is 4.
    const expected = { lr: learningRate(optimizer, 1, 4), scale: 1 / (4 + 1e-6) }
    expect(fleet.sent('apply', 'a')).toEqual([{ type: 'apply', generation: 1, step: 1, ...expected }])
    fleet.norms(1, 4)
    expect(fleet.sent('apply', 'a')).toHaveLength(1)
    for (const id of ['a', 'b', 'c', 'c', 'a']) fleet.say(id, { type: 'stepApplied', generation: 1, step: 1 })
    expect(fleet.of('commitStep')).toHaveLength(0)
    fleet.now += 250
    fleet.say('d', { type: 'stepApplied', generation: 1, step: 1 })
    expect(fleet.of('commitStep')).toMatchObject([
      { metric: { step: 1, loss: 2, gradNorm: 4, tokens: 4 * 64, durationMs: 250, at: fleet.now } },
    ])
    expect(fleet.sent('step', 'a')).toMatchObject([{ step: 2 }])
  })

  it('does not believe an application that nobody asked for, nor losses and norms from the wrong node', () => {
    const fleet = training()
    fleet.applied(1)
    const { members } = fleet.run()
    const report = { generation: 1, step: 1, lossSum: 1, tokens: 5 }
    fleet.say(members[0]![0]!, { type: 'loss', microbatch: 0, ...report })
    fleet.say(members[1]![1]!, { type: 'loss', microbatch: 0, ...report })
    // Beyond the batch, from whoever owns it: must not stand in for one that is missing.
    fleet.say(members[1]![0]!, { type: 'loss', microbatch: 4, ...report })
    fleet.say(members[1]![0]!, { type: 'loss', microbatch: 400, ...report })
    expect(fleet.run().progress!.losses.size).toBe(0)
    fleet.say(members[1]![0]!, { type: 'shardReduced', generation: 1, step: 1, shard: 1, squaredNorm: 1 })
    expect(fleet.run().progress!.squaredNorms.size).toBe(0)
    fleet.losses(2, 0, 4)
    fleet.norms(2)
    expect(fleet.run().progress).toMatchObject({ losses: new Map(), squaredNorms: new Map() })
  })

  it.each([
    ['loss', (fleet: Fleet) => (fleet.losses(1, 0, 4, NaN), fleet.norms(1))],
    ['norm', (fleet: Fleet) => (fleet.losses(1, 0, 4), fleet.norms(1, NaN))],
    ['overflow of the norm', (fleet: Fleet) => (fleet.losses(1, 0, 4), fleet.norms(1, Number.MAX_VALUE))],
  ])('ends the run when it diverges: %s', (_, diverge) => {
    const fleet = training()
    diverge(fleet)
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'failed' }])
    expect(fleet.told().at(-1)).toContain('Step 1 diverged')
    expect(fleet.sent('apply')).toEqual([])
    expect(fleet.sent('release').map((message) => message.generation)).toEqual([1, 1, 1, 1])
    expect([...fleet.state.nodes.values()].every((node) => node.runId === null)).toBe(true)
  })

  it('hears of a diverged loss over the wire, where JSON has no NaN', () => {
    const over = (value: object) => clientMessageSchema.parse(JSON.parse(JSON.stringify(value)))
    const loss = { type: 'loss', generation: 1, step: 1, microbatch: 0, lossSum: NaN, tokens: 5 }
    expect(over(loss)).toEqual(loss)
    const norm = { type: 'shardReduced', generation: 1, step: 1, shard: 0, squaredNorm: Infinity }
    expect(over(norm)).toEqual({ ...norm, squaredNorm: NaN })
  })
})

describe('a checkpoint', () => {
  const saving = () => {
    const fleet = training()
    fleet.step(1)
    fleet.step(2)
    return fleet
  }

  it('is taken every so many steps and once more after the last; the run waits until the store has read it back', () => {
    const fleet = saving()
    expect(fleet.sent('save', 'a')).toEqual([{ type: 'save', generation: 1, step: 2 }])
    fleet.saved(2)
    expect(fleet.of('publishCheckpoint')).toMatchObject([{ step: 2, stages: [{ stage: 0 }, { stage: 1 }] }])
    expect(fleet.of('publishCheckpoint')[0]!.stages[1]!.chunks.map(({ offset }) => offset)).toEqual([0, 1])
    expect(fleet.sent('step', 'a').at(-1)!.step).toBe(2)
    fleet.published()
    expect(fleet.sent('step', 'a').at(-1)!.step).toBe(3)
    expect(fleet.run().checkpoint.step).toBe(2)
  })

  it('is refused when replicas hold different weights', () => {
    const fleet = saving()
    fleet.saved(2, (stage, shard) => hash(stage === 1 && shard === 1 ? 'f' : '0'))
    expect(fleet.of('publishCheckpoint')).toEqual([])
    expect(fleet.told()).toContain('The replicas of stage 2 hold different weights at step 2.')
    expect(fleet.of('rollBack')).toEqual([{ type: 'rollBack', runId: 'run', toStep: 0 }])
  })

  it('that the store refuses sends the run back to the one before', () => {
    const fleet = saving()
    fleet.saved(2)
    const error = { code: 'blob.missing', message: 'A chunk is gone.', remedy: '' }
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 2, error })
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 0 }])
    expect(fleet.run().step).toBe(0)
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 2, error })
    expect(fleet.of('rollBack')).toHaveLength(1)
  })

  it('outlives its generation while the store reads it back, and the next one begins there', () => {
    const fleet = saving()
    fleet.saved(2)
    fleet.do({ type: 'nodeLeft', nodeId: 'a', reason: 'closed' })
    fleet.join('e')
    expect(fleet.of('rollBack')).toEqual([])
    expect(fleet.run()).toMatchObject({ state: 'waiting', step: 2, members: [] })
    fleet.take()
    const asked = { step: 2, stages: fleet.run().saving!.publishing!.map((stage) => ({ ...stage })) }
    fleet.do({ type: 'checkpointPublished', runId: 'run', checkpoint: asked })
    expect(fleet.sent('assign', 'e')[0]!.assignment.checkpoint.step).toBe(2)
  })

  it('outlives its generation and is refused after all: back to the one before', () => {
    const fleet = saving()
    fleet.saved(2)
    fleet.do({ type: 'nodeLeft', nodeId: 'a', reason: 'closed' })
    fleet.do({
      type: 'checkpointRefused',
      runId: 'run',
      step: 2,
      error: { code: 'blob.missing', message: '', remedy: '' },
    })
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 0 }])
    fleet.join('e')
    expect(fleet.run()).toMatchObject({ state: 'preparing', step: 0 })
  })

  it('is given up when the store does not answer, and its late answer is not taken for the next one', () => {
    const fleet = saving()
    fleet.saved(2)
    const late = fleet.of('publishCheckpoint')[0]!
    fleet.pass(121_000, ['a', 'b', 'c', 'd'])
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 0 }])
    fleet.ready()
    fleet.step(1)
    fleet.step(2)
    const { members, generation } = fleet.run()
    members.forEach((ids, stage) =>
      ids.forEach((id, shard) => {
        const chunks = [{ kind: 'parameters', offset: shard, length: 1, hash: hash('e') } as const]
        const parametersHash = hash(String(stage))
        fleet.say(id, { type: 'shardSaved', generation, step: 2, shard, chunks, parametersHash })
      }),
    )
    fleet.do({ type: 'checkpointPublished', runId: 'run', checkpoint: late })
    expect(fleet.run().checkpoint.step).toBe(0)
    fleet.published()
    expect(fleet.run().checkpoint.stages[0]!.chunks[0]!.hash).toBe(hash('e'))
  })

  it('is where a standby takes a vacant seat at once, with nothing lost', () => {
    const fleet = training({}, ['a', 'b', 'c'])
    fleet.pass(5000, ['a', 'b', 'c'])
    fleet.ready()
    fleet.join('d')
    fleet.step(1)
    fleet.step(2)
    fleet.saved(2)
    fleet.published()
    expect(fleet.run().members).toEqual([
      ['a', 'c'],
      ['b', 'd'],
    ])
    expect(fleet.of('rollBack')).toEqual([])
  })
})

describe('the scoring', () => {
  const scored = (evalWindows: number) => {
    const fleet = new Fleet().launch({ stages: 2, replicas: 1, steps: 1 }, { evalWindows }).join('a').join('b')
    fleet.ready()
    fleet.step(1)
    fleet.saved(1)
    fleet.published()
    return fleet
  }

  it('goes in rounds numbered on from the last step, and ends the run with the mean over all tokens', () => {
    const fleet = scored(70)
    expect(fleet.sent('step', 'a').at(-1)).toMatchObject({ step: 2, mode: 'evaluate', first: 0, microbatches: 64 })
    fleet.losses(2, 0, 64, 10, 5)
    expect(fleet.run().detail).toBe('Scoring held-out text: 64 of 70 microbatches.')
    expect(fleet.sent('step', 'a').at(-1)).toMatchObject({ step: 3, mode: 'evaluate', first: 64, microbatches: 6 })
    // Neither an earlier round's microbatch nor one beyond the end may stand in for a missing one.
    fleet.losses(3, 0, 10)
    fleet.losses(3, 70, 10)
    expect(fleet.of('runEnded')).toEqual([])
    fleet.losses(3, 64, 6, 20, 5)
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'finished', valLoss: (64 * 10 + 6 * 20) / (70 * 5) }])
  })

  it('begins anew when a member leaves, without going back a step', () => {
    const fleet = scored(2)
    fleet.join('c')
    fleet.do({ type: 'nodeLeft', nodeId: 'a', reason: 'closed' })
    expect(fleet.of('rollBack')).toEqual([])
    fleet.ready()
    fleet.losses(2, 0, 2)
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'finished', valLoss: 2 }])
  })

  it('is left out where there is nothing to score', () => {
    expect(scored(0).of('runEnded')).toMatchObject([{ state: 'finished', valLoss: null }])
  })
})

describe('a run taken up again', () => {
  it('goes back to its checkpoint when it had gone further', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1 }, { step: 7, at: 5, generation: 12 }).join('a')
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 5 }])
    expect(fleet.sent('assign')[0]!.assignment).toMatchObject({ generation: 13, checkpoint: { step: 5 } })
  })

  it('believes a checkpoint that was published after the last word of its steps', () => {
    const fleet = new Fleet().launch({ stages: 1, replicas: 1, steps: 9 }, { step: 3, at: 5 }).join('a')
    fleet.ready()
    expect(fleet.sent('step')[0]!.step).toBe(6)
  })

  it('is cancelled in any state', () => {
    const fleet = training()
    fleet.do({ type: 'runCancelled', runId: 'run' })
    fleet.do({ type: 'runCancelled', runId: 'run' })
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'cancelled' }])
    expect(fleet.sent('release')).toHaveLength(4)
  })
})
