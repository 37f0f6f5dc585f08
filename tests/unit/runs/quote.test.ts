/** Proves that a quote is the work that a run will be credited for, at its price, and says what it does not know. */
import { describe, expect, it } from 'vitest'
import { CLOUD_GPUS } from '../../../server/runs/cloudGpus.ts'
import { DeviceSpeeds } from '../../../server/runs/deviceSpeeds.ts'
import { quoteFor } from '../../../server/runs/quote.ts'
import { microbatchCredit } from '../../../src/model/credit.ts'
import { quoteSchema } from '../../../src/protocol/quote.ts'
import type { WorkCredit } from '../../../src/protocol/receipt.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

const config = runConfigSchema.parse({ stages: 2, replicas: 3, batch: 12, microbatch: 3, steps: 50 })
const perStep = 4n * (microbatchCredit(config, 0) + microbatchCredit(config, 1))
const gpu = {
  gpu: 'one',
  peakFlops: 1e12,
  mfu: 0.5,
  dollarsPerHour: 7200,
  sources: { peak: 'p', mfu: 'm', price: 'd' },
  asOf: '2026-04',
}

describe('a quote', () => {
  it('counts every microbatch of every step at every stage, once', () => {
    const quote = quoteFor(config, null, [], [])
    expect(quote).toMatchObject({ credit: String(50n * perStep), creditPerStep: String(perStep) })
    expect([quote.cost, quote.costPerStep]).toEqual([null, null])
    // Who holds a stage besides changes nothing of the work.
    expect(quoteFor({ ...config, replicas: 9 }, null, [], []).credit).toBe(quote.credit)
  })

  it('rounds the cost up to a whole planck', () => {
    const price = 10n ** 15n
    expect(quoteFor(config, price, [], [])).toMatchObject({ cost: String(50n * perStep), costPerStep: String(perStep) })
    expect(quoteFor(config, 1n, [], []).costPerStep).toBe('1')
  })

  it('takes the time from the devices that are there, no more than have a place', () => {
    const credit = Number(50n * perStep)
    const timeOn = (speeds: (number | null)[]) => quoteFor(config, null, speeds, []).time
    expect(timeOn([1e9, 3e9])).toEqual({
      known: true,
      seconds: credit / 4e9,
      devices: 2,
      measured: 2,
      flopsPerSecond: 2e9,
    })
    expect(timeOn([null, 2e9, null])).toMatchObject({ seconds: credit / 6e9, devices: 3, measured: 1 })
    expect(timeOn(new Array(10).fill(1e9))).toMatchObject({ seconds: credit / 6e9, devices: 6 })
  })

  it('says why there is no time where nothing is measured', () => {
    const reason = (speeds: (number | null)[]) => quoteFor(config, null, speeds, []).time
    expect(reason([])).toMatchObject({ known: false, reason: expect.stringContaining('No device') })
    expect(reason([1e9])).toMatchObject({
      known: false,
      reason: expect.stringContaining('needs 2 devices at least; 1 is'),
    })
    expect(reason([null, null])).toMatchObject({ known: false, reason: expect.stringContaining('nothing is measured') })
  })

  it('reckons rented GPUs from the figures that it shows', () => {
    const [cloud] = quoteFor(config, null, [], [gpu]).clouds
    const seconds = Number(50n * perStep) / 5e11
    expect(cloud).toEqual({ ...gpu, seconds, dollars: 2 * seconds })
    for (const real of CLOUD_GPUS) {
      expect(real.asOf).toMatch(/^20\d\d-\d\d$/)
      expect(Object.values(real.sources).every((source) => source.length > 10)).toBe(true)
    }
    expect(quoteSchema.parse(quoteFor(config, 5n, [1e9, 1e9], CLOUD_GPUS)).clouds).toHaveLength(CLOUD_GPUS.length)
  })
})

describe('the speed of devices', () => {
  const work = (device: string, credit: string, stage = 0): WorkCredit => ({
    kind: 'work',
    run: 'r',
    generation: 1,
    step: 1,
    stage,
    device,
    microbatches: 1,
    credit,
    receipt: null,
  })

  it('is what a device earned in a step over what the step took, smoothed', () => {
    const speeds = new DeviceSpeeds()
    expect(speeds.of('a')).toBeNull()
    speeds.committed([work('a', '1000'), work('b', '500'), work('a', '1000', 1)], 2000)
    expect([speeds.of('a'), speeds.of('b')]).toEqual([1000, 250])
    speeds.committed([work('a', '4000')], 2000)
    speeds.committed([work('a', '4000')], 0)
    expect([speeds.of('a'), speeds.of('b')]).toEqual([1500, 250])
  })

  it('is forgotten of those who worked longest ago, once they are too many', () => {
    const speeds = new DeviceSpeeds()
    speeds.committed([work('old', '1')], 1)
    speeds.committed([work('kept', '1')], 1)
    speeds.committed([work('old', '1')], 1)
    speeds.committed(
      Array.from({ length: 19_999 }, (_, i) => work(`d${i}`, '1')),
      1,
    )
    expect([speeds.of('kept'), speeds.of('old'), speeds.of('d19998')]).toEqual([null, 1000, 1000])
  })
})
