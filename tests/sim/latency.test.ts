/** Proves that the window hides what links take: a pipeline over long ones keeps most of its pace, as far as memory allows. */
import { describe, expect, it } from 'vitest'
import { World, type RunOptions } from './world.ts'

const MINUTE = 60_000
const FROM = 2
const TO = 5
const PIPELINE = { stages: 4, replicas: 1, microbatches: 48 }

interface Link {
  /** Between any two nodes, in milliseconds. */
  rttMs: number
  memoryBytes?: number
}

/** Lets each node measure in a first step, and returns what the steps after it took on average. */
function train({ rttMs, memoryBytes = 2 ** 30 }: Link, run: RunOptions = PIPELINE) {
  const world = new World({ seed: 3, pace: { forwardMs: 15, backwardMs: 25, otherMs: 1, loadMs: [100, 200] } })
  world.launch({ steps: TO, ...run })
  for (let i = 0; i < run.stages * run.replicas; i++) world.join({ wireMs: rttMs / 4, memoryBytes })
  const witness = world.witness()
  const after = (step: number) => world.until(() => witness.committed >= step, 10 * MINUTE).clock.now
  const from = after(FROM)
  // What the server had them do in the last of these steps, while it is under way.
  const before = after(TO - 1)
  world.until(() => world.state.runs.get('run')!.round?.step === TO, 10 * MINUTE)
  const windows = world.state.runs.get('run')!.round!.stages.map(({ work }) => [...work.values()].map((w) => w.window))
  const stepMs = (before - from) / (TO - 1 - FROM)
  world.untilEnded(10 * MINUTE)
  expect(witness.ended!.state).toBe('finished')
  return { stepMs, windows }
}

describe('a pipeline over links that take their time', () => {
  const near = train({ rttMs: 1 })

  it('lets in what 1F1B does where they take next to none', () => {
    expect(near.windows).toEqual([[5], [4], [3], [1]])
  })

  it('is nearly twice as fast at 100 ms as without the room for more in flight', () => {
    const hidden = train({ rttMs: 100 })
    const bare = train({ rttMs: 100, memoryBytes: 100 })
    expect(bare.windows).toEqual(near.windows)
    expect(bare.stepMs / hidden.stepMs).toBeGreaterThan(1.7)
    // The first microbatch goes there and the last comes back over three boundaries, whatever is in flight between.
    expect(hidden.stepMs).toBeLessThan(1.1 * near.stepMs + 3 * 100)
  })

  it('takes no more in flight than stage times and round trips ask for', () => {
    const [first, second, third] = train({ rttMs: 100 }).windows.flat()
    // Four stages of 40 ms and three boundaries of 100 ms, there and back; one more.
    expect(first).toBeGreaterThanOrEqual(12)
    expect(first).toBeLessThanOrEqual(14)
    expect(second! - third!).toBeGreaterThanOrEqual(3)
  })

  it('does as well with several replicas', () => {
    const run = { stages: 3, replicas: 3, microbatches: 72 }
    const hidden = train({ rttMs: 100 }, run)
    const bare = train({ rttMs: 100, memoryBytes: 100 }, run)
    expect(bare.stepMs / hidden.stepMs).toBeGreaterThan(1.4)
  })
})
