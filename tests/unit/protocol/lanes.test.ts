/** Proves the numbering of a step's microbatches: lane by lane, and in a lane inner step by inner step. */
import { describe, expect, it } from 'vitest'
import { laneMicrobatches, lanePlace, mostMicrobatches, stepMicrobatches, stepTokens, updateConfig, updateMicrobatches } from '../../../src/protocol/lanes.ts' // prettier-ignore
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
