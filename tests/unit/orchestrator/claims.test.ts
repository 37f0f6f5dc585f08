/** Proves when claims are handed to the audits, how long a merge waits for them, and what a false one costs. */
import { describe, expect, it } from 'vitest'
import { microbatchCredit } from '../../../src/model/credit.ts'
import { type Fleet, shareOf, training } from './fleet.ts'

const AUDIT_MS = 3000
const audited = (replicas: number, nodes: string[], stages = 1) =>
  training({ stages, replicas, batch: 2 * replicas }, nodes, {}, { auditMs: AUDIT_MS })
const trio = () => audited(3, ['a', 'b', 'c'])

const claimants = (fleet: Fleet) => fleet.of('claimed').map(({ claim }) => claim.nodeId)
const summed = (fleet: Fleet) => fleet.sent('reduce').length > 0
const settle = (fleet: Fleet) => {
  for (const { claim } of fleet.of('claimed')) {
    const { runId, generation, step, stage, receipt } = claim
    fleet.do({ type: 'claimSettled', runId, generation, step, stage, receipt })
  }
}
const place = (fleet: Fleet) => ({ runId: 'run', generation: fleet.run().generation, step: 1, stage: 0 })
const error = { code: 'audit.convicted', message: 'It was false.', remedy: 'Wait.' }

describe('a claim', () => {
  it('is what was finished and signed for, and goes with those who are free to recompute it', () => {
    const fleet = trio()
    for (const id of ['a', 'b', 'c']) fleet.finish(id, { lossSum: 10, tokens: 5 })
    const { claim, replicas } = fleet.of('claimed')[0]!
    expect(claim).toEqual({
      ...place(fleet),
      nodeId: 'a',
      device: 'device-a',
      receipt: 'device-a 1 1 0',
      entries: [0, 1].map((microbatch) => expect.objectContaining({ microbatch })),
      shares: [0, 1, 2].map((shard) => shareOf(shard, 'a', 1)),
      losses: [2, 2],
      credit: 2n * microbatchCredit(fleet.run().config, 0),
      neighbours: [],
      codec: fleet.run().config.codec,
    })
    expect(replicas).toEqual([
      { nodeId: 'b', device: 'device-b' },
      { nodeId: 'c', device: 'device-c' },
    ])
  })

  it('of a committed step goes with the loss of each microbatch and who computed it, stage by stage', () => {
    const fleet = audited(2, ['a', 'b', 'c', 'd'], 2)
    fleet.finishAll({ lossSum: 10, tokens: 5 })
    settle(fleet)
    fleet.pass(AUDIT_MS)
    fleet.sums()
    fleet.updates()
    expect(fleet.of('scored')).toMatchObject([{ runId: 'run', step: 1 }])
    const { losses } = fleet.of('scored')[0]!
    const routes = [['a', 'b'], ['a', 'b'], ['c', 'd'], ['c', 'd']] // prettier-ignore
    expect(losses).toEqual(routes.map((ids) => ({ devices: ids.map((id) => `device-${id}`), loss: 2 })))
  })

  it('waits until two others are free, or all there are', () => {
    const fleet = trio()
    fleet.finish('a')
    fleet.finish('b')
    expect(claimants(fleet)).toEqual([])
    fleet.finish('c')
    expect(claimants(fleet).sort()).toEqual(['a', 'b', 'c'])
    const two = audited(2, ['a', 'b'])
    two.finish('a')
    expect(claimants(two)).toEqual([])
    two.finish('b')
    expect(claimants(two).sort()).toEqual(['a', 'b'])
  })

  it('names the neighbours’ devices', () => {
    const fleet = audited(2, ['a', 'b', 'c', 'd'], 2)
    fleet.finishAll()
    const { claim } = fleet.of('claimed').find((command) => command.claim.nodeId === 'a')!
    expect(claim.neighbours).toEqual(['device-b'])
    expect(claim.losses).toEqual([])
  })

  it('is none where nobody else has the stage, signed or not, or where audits are off', () => {
    const alone = audited(1, ['a'])
    alone.finishAll()
    const unsigned = audited(1, ['a'])
    unsigned.finishAll({ signs: false })
    const off = training({ stages: 1, replicas: 3, batch: 6 }, ['a', 'b', 'c'])
    off.finishAll()
    for (const fleet of [alone, unsigned, off]) {
      expect(claimants(fleet)).toEqual([])
      expect(summed(fleet)).toBe(true)
    }
  })

  it('is none with local steps, signed or not: nobody else has the weights of a lane', () => {
    for (const signs of [true, false]) {
      const config = {
        stages: 1,
        replicas: 3,
        sync: 'local',
        local: { innerSteps: 2 },
        batch: 3,
        microbatch: 1,
      } as const
      const fleet = training(config, ['a', 'b', 'c'], {}, { auditMs: AUDIT_MS })
      fleet.finishAll({ signs })
      expect(claimants(fleet)).toEqual([])
      expect(fleet.of('recovered')).toEqual([])
      expect(summed(fleet)).toBe(true)
    }
  })
})

describe('work that was not signed for', () => {
  it('is done again by others where claims are audited, who come first for a while', () => {
    const fleet = trio()
    fleet.finish('a', { signs: false })
    expect(fleet.sent('revoked', 'a')).toHaveLength(1)
    expect(fleet.told()).toContain('A volunteer of stage 1 did not sign for its work; others do it again.')
    fleet.finish('b')
    fleet.finish('c')
    settle(fleet)
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(fleet.leasesOf('a')).toEqual([])
  })

  it('counts where they are not', () => {
    const fleet = training({ stages: 1, replicas: 3, batch: 6 }, ['a', 'b', 'c'])
    fleet.finishAll({ signs: false })
    expect(fleet.of('recovered')).toEqual([])
    expect(summed(fleet)).toBe(true)
  })
})

describe('the merge of a stage', () => {
  it('waits for its audits and goes on with the last of them', () => {
    const fleet = trio()
    fleet.finishAll()
    expect(summed(fleet)).toBe(false)
    settle(fleet)
    expect(summed(fleet)).toBe(true)
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('goes on without an audit that takes too long, and says so', () => {
    const fleet = trio()
    fleet.finishAll()
    fleet.pass(AUDIT_MS - 1000)
    expect(summed(fleet)).toBe(false)
    fleet.pass(1500)
    expect(summed(fleet)).toBe(true)
    expect(fleet.told()).toContain('3 audits in stage 1 took too long for step 1, which goes on without the outcome.')
  })

  it('does not wait for the audit of leases that moved', () => {
    const fleet = trio()
    fleet.finishAll()
    fleet.do({ type: 'redo', ...place(fleet), device: 'device-a' })
    fleet.take()
    fleet.finish('b')
    fleet.finish('c')
    expect(claimants(fleet).sort()).toEqual(['b', 'c'])
    settle(fleet)
    expect(summed(fleet)).toBe(true)
  })
})

describe('false work', () => {
  it('has the step begin again without the device, which is told why', () => {
    const fleet = trio()
    fleet.finishAll()
    fleet.take()
    const { generation } = fleet.run()
    fleet.do({ type: 'convicted', ...place(fleet), device: 'device-a', error })
    expect(fleet.of('disconnect')).toEqual([{ type: 'disconnect', nodeId: 'a', error }])
    expect(fleet.of('recovered')).toEqual([{ type: 'recovered', runId: 'run', leases: 2, cause: 'false' }])
    expect(fleet.told()).toContain('An audit found the work of a volunteer false; it is shut out. Step 1 begins again.')
    expect(fleet.run()).toMatchObject({ generation: generation + 1, brokenInARow: 0 })
    expect(fleet.run().members).toEqual([['b', 'c']])
    fleet.ready()
    fleet.take()
    fleet.finishAll()
    settle(fleet)
    fleet.sums()
    fleet.updates()
    expect(
      fleet
        .of('commitStep')[0]!
        .work.map(({ device }) => device)
        .sort(),
    ).toEqual(['device-b', 'device-c'])
  })

  it('of a step that is applied costs its device its place, and nobody the step', () => {
    const fleet = trio()
    fleet.finishAll()
    const before = place(fleet)
    settle(fleet)
    fleet.sums()
    fleet.do({ type: 'convicted', ...before, device: 'device-c', error })
    expect(fleet.run().generation).toBe(before.generation)
    expect(fleet.of('disconnect')).toHaveLength(1)
    fleet.updates(['a', 'b'])
    expect(fleet.of('commitStep')).toHaveLength(1)
  })

  it('that nobody is blamed for is done again by others, and its device sits out', () => {
    const fleet = trio()
    fleet.finishAll()
    fleet.do({ type: 'redo', ...place(fleet), device: 'device-a' })
    expect(fleet.sent('revoked', 'a')).toHaveLength(1)
    expect(fleet.of('recovered')).toMatchObject([{ leases: 2, cause: 'false' }])
    expect([...fleet.leasesOf('b'), ...fleet.leasesOf('c')].sort()).toEqual([0, 1, 2, 3, 4, 5])
    expect(fleet.of('disconnect')).toEqual([])
  })

  it('of another generation is nobody’s of this one', () => {
    const fleet = trio()
    fleet.finishAll()
    const stale = { ...place(fleet), generation: 99 }
    fleet.do({ type: 'redo', ...stale, device: 'device-a' })
    fleet.do({ type: 'claimSettled', ...stale, receipt: fleet.of('claimed')[0]!.claim.receipt })
    expect(fleet.of('recovered')).toEqual([])
    expect(fleet.run().round!.stages[0]!.audits.size).toBe(3)
  })
})
