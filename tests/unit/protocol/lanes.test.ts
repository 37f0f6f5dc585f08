/** Proves the numbering of a step's microbatches, lane by lane and in a lane inner step by inner step, and when shards become final. */
import { describe, expect, it } from 'vitest'
import { finalUpdates, laneMicrobatches, lanePlace, mostMicrobatches, stepMicrobatches, stepTokens, updateConfig, updateMicrobatches } from '../../../src/protocol/lanes.ts' // prettier-ignore
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

const local = runConfigSchema.parse({ sync: 'local', local: { innerSteps: 3 }, replicas: 2, batch: 12, microbatch: 3 })
const exact = runConfigSchema.parse({ replicas: 2, batch: 12, microbatch: 3 })

describe('the microbatches of a step', () => {
  it('are those of one batch where replicas merge every step', () => {
    expect([stepMicrobatches(exact), updateMicrobatches(exact), laneMicrobatches(exact)]).toEqual([4, 4, 4])
    expect(stepTokens(exact)).toBe(12 * 64)
    expect(updateConfig(exact)).toEqual(exact)
  })

  it('are those of a batch for each inner step, which lanes part evenly', () => {
    expect([stepMicrobatches(local), updateMicrobatches(local), laneMicrobatches(local)]).toEqual([12, 2, 6])
    expect(stepTokens(local)).toBe(3 * 12 * 64)
    expect(updateConfig(local).batch).toBe(6)
    const places = Array.from({ length: 12 }, (_, m) => lanePlace(local, m)).map(
      ({ lane, inner }) => `${lane}.${inner}`,
    )
    expect(places.join(' ')).toBe('0.0 0.0 0.1 0.1 0.2 0.2 1.0 1.0 1.1 1.1 1.2 1.2')
  })

  it('may be in more lanes than there are replicas', () => {
    const config = runConfigSchema.parse({ ...local, local: { innerSteps: 3, lanes: 4 } })
    expect([laneMicrobatches(config), stepMicrobatches(config)]).toEqual([3, 12])
  })

  it('are at most those of the longer of training and scoring', () => {
    const scored = (evalTokens: number) => mostMicrobatches(runConfigSchema.parse({ ...exact, evalTokens }))
    expect([scored(1), scored(64 * 12), scored(64 * 12 + 64), scored(64 * 30)]).toEqual([4, 4, 5, 10])
    expect(mostMicrobatches(runConfigSchema.parse({ ...local, evalTokens: 1 }))).toBe(12)
  })
})

describe('the shards of a lane', () => {
  const shards = 8
  const all = [...Array(shards).keys()]
  const overlapping = (innerSteps: number, overlap: number) =>
    runConfigSchema.parse({ sync: 'local', local: { innerSteps, overlap } })
  const finals = (overlap: number, step: number) =>
    all.map((shard) => finalUpdates(overlapping(30, overlap), { step, shard, shards }))

  it('are all final after the last update where nothing overlaps, and where there is but one', () => {
    expect(new Set(finals(0, 7))).toEqual(new Set([30]))
    expect(finalUpdates(overlapping(30, 20), { step: 7, shard: 0, shards: 1 })).toBe(30)
  })

  it('become final one after another over the overlap, the last one after the last update', () => {
    for (const step of [1, 2, 9]) {
      expect(finals(14, step).toSorted((a, b) => a - b)).toEqual([16, 18, 20, 22, 24, 26, 28, 30])
      expect(finals(2, step).toSorted((a, b) => a - b)).toEqual([28, 28, 29, 29, 29, 29, 30, 30])
    }
    // Of all but one inner step each shard has one at least.
    expect(Math.min(...finals(29, 1))).toBe(1)
  })

  it('take turns, so that none is trained less than the others', () => {
    const sums = all.map((shard) => all.reduce((sum, step) => sum + finals(14, step)[shard]!, 0))
    expect(new Set(sums).size).toBe(1)
  })
})
