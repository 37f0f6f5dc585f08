/** Proves that a run never begins a step that it might not be able to pay for, and loses nothing while it waits for money. */
import { describe, expect, it } from 'vitest'
import { stepCredit } from '../../../src/model/credit.ts'
import { costOf, FLOPS_PER_PFLOP } from '../../../src/protocol/payment.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { Random } from '../../sim/clock.ts'
import { training, Fleet } from './fleet.ts'

const shape = { stages: 2, replicas: 2, steps: 4, checkpointEvery: 100, batch: 4, microbatch: 1 }
const each = stepCredit(runConfigSchema.parse(shape))
/** A step costs this many planck at most. */
const STEP = 1000n
const planckPerPflop = (STEP * FLOPS_PER_PFLOP) / each
const stepCost = costOf(each, planckPerPflop)
const purseOf = (budget: bigint, credit = 0n) => ({
  planckPerPflop,
  budget,
  deposited: false,
  credit,
  stepCredit: each,
})
const paid = (budget: bigint, input = {}) => training(input, ['a', 'b', 'c', 'd'], { purse: purseOf(budget) })
const spentIn = (fleet: Fleet) => {
  const work = fleet.of('commitStep').flatMap((command) => command.work)
  return work.reduce((sum, { credit }) => sum + BigInt(credit), 0n)
}
const raise = (fleet: Fleet, budget: bigint) => fleet.do({ type: 'budgetRaised', runId: 'run', budget })

describe('a run that pays', () => {
  it('trains as long as the next step is paid for, then keeps the step, says why, and lets its volunteers go', () => {
    const fleet = paid(2n * STEP + STEP / 2n)
    fleet.step()
    expect(fleet.run().round!.step).toBe(2)
    expect(fleet.sent('save')).toEqual([])
    fleet.step()
    expect(fleet.run()).toMatchObject({ state: 'paused', step: 2, round: null })
    expect(fleet.run().detail).toContain(`a step can cost ${stepCost} planck`)
    expect(fleet.sent('save').map(({ step }) => step)).toEqual([2, 2, 2, 2])
    expect(fleet.run().members.flat()).toHaveLength(4)
    fleet.saved()
    fleet.published()
    fleet.pass(1000)
    expect(fleet.run()).toMatchObject({ state: 'paused', step: 2, members: [], checkpoint: { step: 2 } })
    expect(fleet.of('rollBack')).toEqual([])
    expect(fleet.sent('release')).toHaveLength(4)
    // Hours later nothing has changed, and nobody has called it stuck.
    fleet.pass(600_000)
    expect(fleet.run()).toMatchObject({ state: 'paused', step: 2, brokenInARow: 0 })
    expect(fleet.told().filter((text) => text.includes('budget'))).toHaveLength(1)
  })

  it('goes on from there when the budget is raised by enough', () => {
    const fleet = paid(STEP + 1n)
    fleet.step()
    fleet.saved()
    fleet.published()
    fleet.pass(1000)
    raise(fleet, STEP + 2n)
    raise(fleet, 1n)
    fleet.pass(5000)
    expect(fleet.run()).toMatchObject({ state: 'paused', members: [], purse: { budget: STEP + 2n } })
    raise(fleet, 10n * STEP)
    fleet.pass(5000)
    expect(fleet.run()).toMatchObject({ state: 'preparing', step: 1 })
    fleet.ready()
    expect(fleet.run()).toMatchObject({ state: 'training', round: { step: 2 } })
  })

  it('goes on at once when the budget is raised before its volunteers are gone', () => {
    const fleet = paid(STEP + 1n)
    fleet.step()
    expect(fleet.run().state).toBe('paused')
    raise(fleet, 10n * STEP)
    expect(fleet.run()).toMatchObject({ state: 'training', generation: 1, round: { step: 2 } })
    fleet.saved()
    fleet.published()
    expect(fleet.run()).toMatchObject({ state: 'training', checkpoint: { step: 1 } })
  })

  it('seats nobody for a step that it cannot pay, and says so to those who stand by', () => {
    const fleet = new Fleet().launch(shape, { purse: purseOf(STEP - 2n) })
    for (const id of ['a', 'b', 'c', 'd']) fleet.join(id)
    fleet.pass(60_000)
    expect(fleet.run()).toMatchObject({ state: 'paused', generation: 0, members: [] })
    expect(fleet.sent('standby').at(-1)!.reason).toContain('paused until there is money for its next step')
    fleet.launch(shape, { id: 'other' })
    fleet.pass(5000)
    expect(fleet.run('other').members.flat()).toHaveLength(4)
  })

  it('is scored and finishes though nothing is left: scoring earns nothing', () => {
    const fleet = paid(4n * stepCost)
    for (let step = 0; step < 4; step++) fleet.step()
    expect(fleet.run()).toMatchObject({ state: 'evaluating', step: 4 })
  })

  it('counts a step that a restart finishes, and what was earned before', () => {
    const metric = { step: 8, loss: 1, gradNorm: 1, lr: 1, tokens: 1, durationMs: 1, at: 1 }
    const device = 'ab'.repeat(32)
    const row = { kind: 'work', run: 'run', generation: 3, step: 8, device, microbatches: 4, receipt: null } as const
    const work = [{ ...row, stage: 0, credit: String(each) }]
    const unapplied = { generation: 3, lr: 1, scale: 1, metric, work }
    const purse = purseOf(9n * stepCost - 1n, 7n * each)
    const options = { unapplied, recovering: true, generation: 3, step: 7, at: 5, purse }
    const fleet = new Fleet().launch({ ...shape, steps: 20 }, options)
    const moments = [[0, 7], [1, 7]] as [number, number][] // prettier-ignore
    for (const [i, id] of ['a', 'b', 'c', 'd'].entries())
      fleet.join(id, {
        holding: { runId: 'run', generation: 3, stage: i % 2, step: 7, moments, reduced: [0, 1], open: [] },
      })
    fleet.pass(5000)
    fleet.ready()
    expect(fleet.run()).toMatchObject({ step: 8, purse: { credit: 8n * each } })
    expect(fleet.run().round).toBeNull()
    expect(fleet.run().state).toBe('paused')
  })

  it('never spends more than its budget, whatever that is, whoever leaves and however often it is raised', () => {
    const seen = { commits: 0, pauses: 0, ends: 0 }
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed)
      const upTo = (most: number) => Math.floor(random.between(0, most + 1))
      let budget = BigInt(upTo(5000))
      const steps = 8
      const checkpointEvery = 1 + upTo(3)
      const config = { ...shape, steps, checkpointEvery }
      const fleet = new Fleet().launch(config, { purse: purseOf(budget) })
      const ids = ['a', 'b', 'c', 'd']
      for (const id of ids) fleet.join(id)
      for (let turn = 0; turn < 60 && fleet.run(); turn++) {
        const { round, members, state } = fleet.run()
        if (state === 'paused') seen.pauses += 1
        if (round?.mode === 'train')
          expect(costOf(spentIn(fleet) + each, planckPerPflop), `seed ${seed}`).toBeLessThanOrEqual(budget)
        if (random.chance(0.15)) raise(fleet, (budget += BigInt(upTo(2500))))
        else if (random.chance(0.1) && members.length > 0) {
          const id = ids[upTo(3)]!
          fleet.leave(id)
          fleet.join(id)
        } else if (round) fleet.step()
        else {
          fleet.saved()
          if (fleet.run().saving?.publishing) fleet.published()
          fleet.pass(5000)
          if (fleet.run()?.members.length) fleet.ready()
        }
        expect(costOf(spentIn(fleet), planckPerPflop), `seed ${seed}`).toBeLessThanOrEqual(budget)
        const purse = fleet.run()?.purse
        if (purse) expect(purse.credit).toBe(spentIn(fleet))
      }
      seen.commits += fleet.of('commitStep').length
      seen.ends += fleet.of('runEnded').filter(({ state }) => state === 'finished').length
    }
    expect(seen.commits).toBeGreaterThan(100)
    expect(seen.pauses).toBeGreaterThan(100)
    expect(seen.ends).toBeGreaterThan(0)
  })
})
