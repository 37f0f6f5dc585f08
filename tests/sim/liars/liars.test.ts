/** Proves on stages recorded here that every lie is found, that no honest device is convicted, and what it costs. */
import { beforeAll, describe, expect, it } from 'vitest'
import { gpuSource } from '../../../src/agent/adapter.ts'
import { beyond } from '../../../src/audit/compare.ts'
import { toleranceOf } from '../../../src/audit/tolerances.ts'
import { pairClasses } from '../../bench/audit/calibrate.ts'
import type { Archive } from '../../bench/audit/archive.ts'
import type { RecordingPlan } from '../../bench/audit/questions.ts'
import { LIES } from './lies.ts'
import { LIAR_WORLD, runLiarWorld } from './liarWorld.ts'
import { completeArchive } from './record.ts'
import { witnessesFrom, type Witnesses } from './witnesses.ts'

const SMALL: RecordingPlan = {
  config: {
    model: { dModel: 32, layers: 4, heads: 2, kvHeads: 1, ffn: 64, blockSize: 16 },
    optimizer: { lr: 3e-3, minLr: 3e-4, warmupSteps: 4 },
    ...{ stages: 2, replicas: 1, batch: 4, microbatch: 2, steps: 10 },
  },
  points: [2, 10],
}

let archive: Archive
let witnesses: Witnesses

beforeAll(async () => {
  const gpu = await (await gpuSource(null))()
  archive = await completeArchive(gpu, null, SMALL, () => undefined)
  gpu.destroy()
  witnesses = witnessesFrom(archive)
})

it('keeps every honest pair within its tolerance, by a factor of two', () => {
  for (const { kind, codec, pair, distances } of pairClasses(archive)) {
    const { median, upper, largest } = toleranceOf(kind, codec, pair)
    const half = { median: median / 2, upper: upper / 2, largest: largest / 2 }
    for (const found of distances) expect(beyond(found, half), `${kind} ${codec}`).toBeNull()
  }
})

describe.each(['f32', 'f16', 'int8'] as const)('one in ten lies, under %s', (codec) => {
  it('all are convicted within 200 steps, and nobody else', () => {
    const { f1, honestConvicted, fates, steadyShare } = runLiarWorld(witnesses, { ...LIAR_WORLD, codec })
    expect(new Set(fates.flatMap(({ lie }) => lie ?? []))).toEqual(new Set(LIES))
    expect(f1).toBeGreaterThanOrEqual(0.95)
    expect(honestConvicted).toBe(0)
    expect(steadyShare).toBeLessThan(0.05)
  })
})

it('convicts none of the honest in thousands of audits', () => {
  const policy = { newRate: 1, settledRate: 1 }
  const outcome = runLiarWorld(witnesses, { ...LIAR_WORLD, liars: 0, steps: 30, codec: null, policy })
  expect(outcome.audits).toBeGreaterThan(3600)
  expect(outcome.honestConvicted).toBe(0)
})

it('finds nothing without audits', () => {
  const policy = { newRate: 0, settledRate: 0, mergeRate: 0 }
  expect(runLiarWorld(witnesses, { ...LIAR_WORLD, steps: 20, policy }).f1).toBe(0)
})
