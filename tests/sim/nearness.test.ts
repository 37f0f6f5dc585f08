/** Proves that lanes of replicas near each other are faster where the world has regions. */
import { describe, expect, it } from 'vitest'
import { World, type RunOptions } from './world.ts'

const MINUTE = 60_000
const FROM = 4
const TO = 12
const RUN = { stages: 6, replicas: 8, microbatches: 96 }

interface Regions {
  /** Round trips within a region and between two, in milliseconds. */
  withinMs: number
  betweenMs: number
  memoryBytes?: number
  nearerMs?: number
}

/** What the later steps took on average, and what share of microbatches passed from one region to the other in the last. */
function train({ withinMs, betweenMs, memoryBytes = 2 ** 30, nearerMs = 10 }: Regions, run: RunOptions = RUN) {
  const apartMs = (betweenMs - withinMs) / 2
  const pace = { forwardMs: 15, backwardMs: 25, otherMs: 1, loadMs: [100, 200] } as const
  const world = new World({ seed: 4, pace, weather: { apartMs, dialMs: 1500, jitterMs: 2 }, timing: { nearerMs } })
  world.launch({ steps: TO, ...run })
  // Half of each stage in either region, at other seats at each: lanes by seat cross every other boundary.
  for (let i = 0; i < run.stages * run.replicas; i++) {
    const [seat, stage] = [Math.floor(i / run.stages), i % run.stages]
    const region = [seat, Math.floor((2 * seat) / run.replicas), seat >> 1][stage % 3]! % 2
    world.clock.after(
      50 * i,
      () => void world.join({ wireMs: withinMs / 4, memoryBytes, region, slowness: 1 + seat / 20 }),
    )
  }
  const witness = world.witness()
  const after = (step: number) => world.until(() => witness.committed >= step, 10 * MINUTE).clock.now
  const from = after(FROM)
  const stepMs = (after(TO - 1) - from) / (TO - 1 - FROM)
  world.until(() => world.state.runs.get('run')!.round?.step === TO, 10 * MINUTE)
  const regions = world.state.runs.get('run')!.round!.stages.map(({ owner }) => owner.map((id) => world.nodes.get(id)!.region)) // prettier-ignore
  const pairs = regions.slice(1).flatMap((of, stage) => of.map((region, place) => region !== regions[stage]![place]))
  world.untilEnded(10 * MINUTE)
  expect(witness.ended!.state).toBe('finished')
  return { stepMs, crossed: pairs.filter(Boolean).length / pairs.length }
}

describe('lanes in a world of two regions', () => {
  const world = { withinMs: 20, betweenMs: 150 }

  it('stay within a region, and are a third faster than lanes by seat where memory hides nothing', () => {
    const near = train({ ...world, memoryBytes: 100 })
    const bySeat = train({ ...world, memoryBytes: 100, nearerMs: Infinity })
    // A region has not exactly as many microbatches at each stage.
    expect(near.crossed).toBeLessThan(0.03)
    expect(bySeat.crossed).toBeGreaterThan(0.4)
    expect(near.stepMs).toBeLessThan(bySeat.stepMs / 1.33)
  })

  it('are faster too where the window hides what it can', () => {
    const near = train(world)
    const bySeat = train({ ...world, nearerMs: Infinity })
    expect(near.stepMs).toBeLessThan(bySeat.stepMs / 1.04)
  })
})
