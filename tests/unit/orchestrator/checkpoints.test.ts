/** Proves a checkpoint's way: asked for at a commit, uploaded while training goes on, kept or given up and made again. */
import { describe, expect, it } from 'vitest'
import { Fleet, hash, training } from './fleet.ts'

const saving = (input = {}, nodes = ['a', 'b', 'c', 'd']) => {
  const fleet = training({ checkpointEvery: 2, steps: 8, ...input }, nodes)
  fleet.step()
  expect(fleet.sent('save')).toEqual([])
  fleet.step()
  return fleet
}
const refused = { code: 'blob.missing', message: 'A chunk is gone.', remedy: '' }

describe('a checkpoint', () => {
  it('is taken every so many steps, each shard by one owner, while training goes on', () => {
    const fleet = saving()
    expect(fleet.sent('save', 'a')).toEqual([{ type: 'save', generation: 1, step: 2, shards: [0] }])
    expect(fleet.sent('save')).toHaveLength(4)
    // It comes before the step that changes the weights again.
    const order = fleet.of('send').filter(({ nodeId }) => nodeId === 'a')
    const types = order.map(({ message }) => message.type)
    expect(types.indexOf('save')).toBeLessThan(types.lastIndexOf('step'))
    expect(fleet.run().round!.step).toBe(3)
    fleet.step()
    expect(fleet.run().step).toBe(3)
    fleet.saved()
    expect(fleet.of('publishCheckpoint')).toMatchObject([{ step: 2, stages: [{ stage: 0 }, { stage: 1 }] }])
    expect(fleet.of('publishCheckpoint')[0]!.stages[1]!.chunks.map(({ offset }) => offset)).toEqual([0, 1])
    expect(fleet.run().checkpoint.step).toBe(0)
    fleet.published()
    expect(fleet.run().checkpoint.step).toBe(2)
    expect(fleet.run().round!.step).toBe(4)
  })

  it('is made of the shards of those who were asked, each for its own, and of that step', () => {
    const fleet = saving()
    const chunks = [{ kind: 'parameters', offset: 0, length: 1, hash: hash('f') } as const]
    fleet.report('c', { type: 'shardSaved', step: 2, shard: 0, chunks })
    fleet.report('a', { type: 'shardSaved', step: 1, shard: 0, chunks })
    fleet.report('a', { type: 'shardSaved', step: 2, shard: 1, chunks })
    expect(fleet.run().saving!.shards.size).toBe(0)
    fleet.saved()
    const late = { ...chunks[0]!, hash: hash('e') }
    fleet.report('a', { type: 'shardSaved', step: 2, shard: 0, chunks: [late] })
    fleet.published()
    expect(fleet.run().checkpoint.stages[0]!.chunks[0]!.hash).toBe(hash('a'))
  })

  it('is made after the next commit when somebody asks for it', () => {
    const fleet = training({ checkpointEvery: 100 })
    fleet.do({ type: 'checkpointRequested', runId: 'run' })
    fleet.do({ type: 'checkpointRequested', runId: 'nobody' })
    expect(fleet.sent('save')).toEqual([])
    fleet.step()
    expect(fleet.sent('save').map(({ step }) => step)).toEqual([1, 1, 1, 1])
    fleet.step()
    expect(fleet.sent('save')).toHaveLength(4)
  })

  it('that loses who was to save it is given up, and made again after the next commit', () => {
    const fleet = saving()
    fleet.saved('a', ['b', 'c', 'd'])
    fleet.leave('a')
    expect(fleet.told()).toContain('The checkpoint of step 2 lost a volunteer; another is made soon.')
    expect(fleet.run()).toMatchObject({ saving: null, generation: 1 })
    fleet.take()
    fleet.step()
    expect(new Set(fleet.sent('save').map(({ step }) => step))).toEqual(new Set([3]))
    fleet.saved()
    fleet.published()
    expect(fleet.run().checkpoint.step).toBe(3)
  })

  it('loses nothing with those who have saved their part', () => {
    const fleet = saving()
    fleet.saved('a', ['a'])
    fleet.leave('a')
    fleet.saved()
    expect(fleet.of('publishCheckpoint')).toMatchObject([{ step: 2 }])
  })

  it('that the store refuses is made again; the generation goes on', () => {
    const fleet = saving()
    fleet.saved()
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 2, error: refused })
    expect(fleet.told()).toContain('The checkpoint of step 2 could not be kept: A chunk is gone.')
    expect(fleet.of('rollBack')).toEqual([])
    fleet.step()
    fleet.saved('b')
    fleet.published()
    expect(fleet.run().checkpoint.step).toBe(3)
  })

  it('under way when the next is due comes first; the other is made as soon as it is kept', () => {
    const fleet = saving({ steps: 4 }, ['a', 'b'])
    fleet.step()
    fleet.step()
    expect(fleet.run()).toMatchObject({ step: 4, state: 'evaluating' })
    expect(fleet.sent('save').every(({ step }) => step === 2)).toBe(true)
    fleet.saved()
    fleet.take()
    fleet.published()
    expect(fleet.sent('save').every(({ step }) => step === 4)).toBe(true)
    fleet.finishAll()
    fleet.saved()
    fleet.published()
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'finished' }])
  })

  it('after the last step is asked for anew when it fails, with no commit to wait for', () => {
    const fleet = training({ steps: 1 })
    fleet.step()
    fleet.finishAll()
    fleet.saved()
    fleet.take()
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 1, error: refused })
    expect(fleet.sent('save').map(({ step }) => step)).toEqual([1, 1, 1, 1])
    fleet.leave('a')
    expect(fleet.sent('save', 'c').at(-1)).toMatchObject({ step: 1, shards: [0, 1] })
    // What was asked of them before is void.
    for (const id of ['b', 'c', 'd']) fleet.view(id).saves.splice(0, fleet.view(id).saves.length - 1)
    fleet.saved('b')
    fleet.published()
    expect(fleet.of('runEnded')).toMatchObject([{ state: 'finished' }])
  })

  it('outlives its generation while the store reads it back, and the next one begins there', () => {
    const fleet = saving({ replicas: 1 }, ['a', 'b'])
    fleet.saved()
    fleet.leave('a')
    fleet.join('e')
    expect(fleet.of('rollBack')).toEqual([])
    expect(fleet.run()).toMatchObject({ state: 'waiting', step: 2, members: [] })
    fleet.take()
    fleet.do({
      type: 'checkpointPublished',
      runId: 'run',
      checkpoint: { step: 2, stages: fleet.run().saving!.publishing!.map((stage) => ({ ...stage })) },
    })
    expect(fleet.sent('assign', 'e')[0]!.assignment.checkpoint.step).toBe(2)
  })

  it('outlives its generation and is refused after all: back to the one before', () => {
    const fleet = saving({ replicas: 1 }, ['a', 'b'])
    fleet.saved()
    fleet.leave('a')
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 2, error: refused })
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 2, error: refused })
    expect(fleet.of('rollBack')).toEqual([{ type: 'rollBack', runId: 'run', toStep: 0 }])
    fleet.join('e')
    expect(fleet.run()).toMatchObject({ state: 'preparing', step: 0 })
  })

  it('that is not uploaded is void with its generation', () => {
    const fleet = saving({ replicas: 1 }, ['a', 'b'])
    fleet.leave('a')
    expect(fleet.of('rollBack')).toMatchObject([{ toStep: 0 }])
    expect(fleet.run().saving).toBeNull()
  })

  it.each([
    ['the volunteers', false],
    ['the store', true],
  ])('is given up when %s take too long, and a late answer is not taken for the next one', (_, uploaded) => {
    const fleet = saving({}, ['a', 'b'])
    if (uploaded) fleet.saved('a')
    for (let i = 0; i < 25; i++) {
      fleet.pass(25_000)
      fleet.step()
    }
    expect(fleet.told().join(' ')).toContain('The checkpoint of step 2 took over 10 minutes.')
    expect(fleet.run().generation).toBe(1)
    if (!uploaded) return
    const { step, stages } = fleet.of('publishCheckpoint')[0]!
    fleet.do({ type: 'checkpointPublished', runId: 'run', checkpoint: { step, stages } })
    expect(fleet.run().checkpoint.step).toBe(0)
  })

  it('of the same step made twice is kept in the form that was asked for last', () => {
    const fleet = training({ steps: 1 }, ['a', 'b'])
    fleet.step()
    fleet.saved('a')
    const late = fleet.of('publishCheckpoint')[0]!
    fleet.do({ type: 'checkpointRefused', runId: 'run', step: 1, error: refused })
    fleet.saved('e')
    fleet.do({ type: 'checkpointPublished', runId: 'run', checkpoint: late })
    expect(fleet.run().checkpoint.step).toBe(0)
    fleet.published()
    expect(fleet.run().checkpoint.stages[0]!.chunks[0]!.hash).toBe(hash('e'))
  })
})

describe('a run taken up again that nobody waits for', () => {
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
})
