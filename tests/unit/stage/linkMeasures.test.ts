/** Proves what a node tells of its links: those of its lanes first, then those to the owners of its stage's shards. */
import { expect, it } from 'vitest'
import { MAX_LINK_MEASURES, MAX_RTT_MS } from '../../../src/protocol/control.ts'
import { linkMeasures } from '../../../src/stage/linkMeasures.ts'
import { initialStageState, type StageState } from '../../../src/stage/machine.ts'

/** A node of the middle of a pipeline, with these partners and owners. */
function between(up: string, down: string, owners: string[][]): StageState<never> {
  const leases = new Map([[0, { up, down }]])
  return Object.assign(initialStageState<never>(), { owners, current: { leases } })
}

const links = (rtts: Record<string, number>) => (id: string) =>
  id in rtts ? { rttMs: rtts[id]!, bytesPerSecond: null } : null

it('names partners of its lanes and owners of its shards, each once, and nobody that it has not measured', () => {
  const machine = between('up', 'down', [['a', 'b', 'me'], ['b', 'down', 'c']]) // prettier-ignore
  expect(linkMeasures(machine, links({ up: 10, down: 20, a: 30, b: 40 }))).toEqual([
    ['up', 10, null],
    ['down', 20, null],
    ['a', 30, null],
    ['b', 40, null],
  ])
})

it('names owners before it has leases, as who comes new', () => {
  const machine = Object.assign(initialStageState<never>(), { owners: [['a', 'b']] })
  expect(linkMeasures(machine, links({ a: 2 * MAX_RTT_MS }))).toEqual([['a', MAX_RTT_MS, null]])
})

it('never names more than a message holds', () => {
  const owners = [Array.from({ length: 200 }, (_, i) => `o${i}`)]
  const machine = between('up', 'down', owners)
  const all = linkMeasures(machine, () => ({ rttMs: 1, bytesPerSecond: null }))
  expect(all).toHaveLength(MAX_LINK_MEASURES)
  expect(all.slice(0, 2).map(([id]) => id)).toEqual(['up', 'down'])
})
