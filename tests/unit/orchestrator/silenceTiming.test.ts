/** Owns the proof that a slow heartbeat, which an operator may choose, is not taken for death. */
import { expect, test } from 'vitest'
import { DEFAULT_TIMING, silenceTiming } from '../../../server/orchestrator/timing.ts'

test('a node that beats as slowly as the operator allows is neither suspect nor evicted between two beats', () => {
  for (const heartbeatMs of [200, 2000, 60_000]) {
    const { suspectMs, evictMs } = silenceTiming(heartbeatMs)
    expect(suspectMs).toBeGreaterThanOrEqual(3 * heartbeatMs)
    expect(evictMs).toBeGreaterThanOrEqual(10 * heartbeatMs)
  }
})

test('the usual heartbeat keeps the usual deadlines', () => {
  const { suspectMs, evictMs } = DEFAULT_TIMING
  expect(silenceTiming(2000)).toEqual({ suspectMs, evictMs })
})
