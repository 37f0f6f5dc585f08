/** Proves what standing by earns: a stated share, only where weights are held and nothing was refused, and never before work. */
import { describe, expect, it } from 'vitest'
import { microbatchCredit, stepCredit } from '../../../src/model/credit.ts'
import { costOf, FLOPS_PER_PFLOP, STANDBY_PERCENT } from '../../../src/protocol/payment.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import { training, type Fleet } from './fleet.ts'

const shape = { stages: 2, replicas: 2, steps: 4, checkpointEvery: 100, batch: 4, microbatch: 1 }
const each = stepCredit(runConfigSchema.parse(shape))
/** Two replicas at each stage, and one more at the first. */
const five = ['a', 'b', 'c', 'd', 'e']
const standing = (fleet: Fleet) =>
  fleet.of('commitStep').flatMap(({ work }) => work.filter(({ kind }) => kind === 'standby'))
const stageOf = (fleet: Fleet, id: string) => fleet.run().members.findIndex((ids) => ids.includes(id))

/** `e` joins the run under way and has its weights. */
function withStandby(purse?: Parameters<typeof training>[2]): Fleet {
  const fleet = training(shape, five.slice(0, 4), purse)
  fleet.join('e')
  fleet.report('e', { type: 'ready', step: 0, expectedMs: null })
  return fleet
}

describe('standing by', () => {
  it('earns its share of the mean member’s credit, with the commit, and is told', () => {
    const fleet = withStandby()
    fleet.step()
    const stage = stageOf(fleet, 'e')
    const mean = (microbatchCredit(fleet.run().config, stage) * 4n) / 2n
    const credit = String((mean * STANDBY_PERCENT) / 100n)
    expect(standing(fleet)).toEqual([{ kind: 'standby', run: 'run', step: 1, stage, device: 'device-e', credit }])
    expect(fleet.sent('credited', 'e')).toMatchObject([{ step: 1, stage, work: [{ kind: 'standby', credit }] }])
  })

  it('earns nothing before the weights are there, nor while nothing is heard', () => {
    const fleet = training(shape, five.slice(0, 4))
    fleet.join('e')
    fleet.step()
    expect(standing(fleet)).toEqual([])
    fleet.report('e', { type: 'ready', step: 1, expectedMs: null })
    fleet.pass(7000, ['a', 'b', 'c', 'd'])
    fleet.step()
    expect(standing(fleet)).toEqual([])
  })

  it('earns nothing for who lost its leases in that step', () => {
    const fleet = withStandby()
    const stage = stageOf(fleet, 'e')
    const lost = fleet.run().members[stage]![0]!
    fleet.pass(
      7000,
      five.filter((id) => id !== lost),
    )
    // Heard again within the step, it is no member with leases and no standby either.
    fleet.beat(lost)
    expect(fleet.state.nodes.get(lost)!.suspect).toBe(false)
    for (const id of fleet.run().members.flat()) if (id !== lost) fleet.finish(id, { signs: true })
    fleet.sums()
    fleet.updates()
    expect(fleet.of('commitStep')).toHaveLength(1)
    expect(standing(fleet).map(({ device }) => device)).not.toContain(`device-${lost}`)
  })

  it('is paid as far as the budget reaches beyond the work, and takes no step’s money', () => {
    const planckPerPflop = (1_000_000n * FLOPS_PER_PFLOP) / each
    const purse = (budget: bigint) => ({
      purse: { planckPerPflop, budget, deposited: false, credit: 0n, stepCredit: each },
    })
    const poor = withStandby(purse(costOf(each, planckPerPflop)))
    poor.step()
    expect(standing(poor)).toEqual([])
    const rich = withStandby(purse(2n * costOf(each, planckPerPflop)))
    rich.step()
    expect(standing(rich)).toHaveLength(1)
    const all = rich.of('commitStep').flatMap(({ work }) => work)
    expect(rich.run().purse!.credit).toBe(all.reduce((sum, { credit }) => sum + BigInt(credit), 0n))
  })
})
