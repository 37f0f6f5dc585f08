/**
 * Proves that no false work gets into a step where every claim is audited and can be settled, and that nobody honest pays for
 * it. Of a claim one microbatch is drawn, and one whose neighbour or jurors crash in the same step may stay open: worlds in
 * which a liar gets through like that exist, and are not among these.
 */
import { describe, expect, it } from 'vitest'
import { audited, CONVICTS } from './audited.ts'
import { LIES } from './tenure.ts'

const MINUTE = 60_000
const SEEDS = [1, 2, 3, 4, 5, 6]

describe.each(LIES)('a volunteer that lies by %s', (lie) => {
  it.each(SEEDS)('has part in no committed step, seed %i', (seed) => {
    const world = audited(seed, lie).untilEnded(20 * MINUTE)
    const { desk } = world.server
    expect(world.witness()).toMatchObject({ ended: { state: 'finished' } })
    expect(world.watch.liars.size).toBe(1)
    const liars = [...world.watch.liars]
    expect(desk!.convicted).toEqual(CONVICTS[lie] ? liars : [])
    if (CONVICTS[lie] === false) expect([...desk!.disputed]).toContain(liars[0])
    expect(desk!.closed.passed).toBeGreaterThan(12 * 9)
  })
})

it.each(SEEDS)('honest volunteers are audited and nothing else, seed %i', (seed) => {
  const world = audited(seed, null).untilEnded(20 * MINUTE)
  const { desk } = world.server
  expect(world.witness()).toMatchObject({ ended: { state: 'finished' } })
  expect(desk!.convicted).toEqual([])
  expect(desk!.disputed.size).toBe(0)
  expect(desk!.closed.convicted).toBe(0)
  // Three stages of five in each of twelve steps; some jurors leave before they have answered.
  expect(desk!.closed.passed).toBeGreaterThan(12 * 3 * 4)
})
