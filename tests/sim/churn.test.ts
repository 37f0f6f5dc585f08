/** Proves that volunteers who come and go, links that break and a server that restarts change nothing about what is trained. */
import { describe, expect, it } from 'vitest'
import { troubled } from './accidents.ts'

const MINUTE = 60_000
const replayed = process.env.SKEIN_SIM_SEED
const seeds = replayed ? [Number(replayed)] : Array.from({ length: 60 }, (_, i) => i + 1)

describe('a fleet with accidents', () => {
  it.each(seeds)('seed %i trains what one machine would', (seed) => {
    const world = troubled(seed).untilEnded(60 * MINUTE)
    expect(world.witnesses.get('run')!.ended!.state).toBe('finished')
  })

  it('was in trouble at all', () => {
    if (replayed) return
    const worlds = seeds.slice(0, 12).map((seed) => troubled(seed).untilEnded(60 * MINUTE))
    expect(worlds.reduce((sum, world) => sum + world.rollbacks, 0)).toBeGreaterThan(5)
  })
})
