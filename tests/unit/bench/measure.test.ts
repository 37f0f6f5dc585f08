import { describe, expect, it } from 'vitest'
import { trainFlopsPerToken } from '../../bench/flops.ts'
import { measureKernel } from '../../bench/measureKernels.ts'
import { againstPeak, measureTraining, trainPace } from '../../bench/measureTraining.ts'
import { recordsSchema } from '../../bench/records.ts'
import { WORKS } from '../../bench/works.ts'
import { fakeEntrant, fakeTeller } from './fakeEntrant.ts'

const kernel = { op: 'matmul', form: 'nn', m: 100, n: 100, k: 100 } as const
const pace = { rounds: 3, roundMs: 40 }

describe('kernels', () => {
  it('take turns, and are held against the fastest', async () => {
    const log: string[] = []
    const entrants = [
      fakeEntrant('skein 1', { milliseconds: 10 }, log),
      fakeEntrant('peer 2', { milliseconds: 40 }, log),
    ]
    const records = await measureKernel(entrants, kernel, pace, fakeTeller())
    expect(records.map(({ impl, gflops, shareOfBest }) => [impl, gflops, shareOfBest])).toEqual([
      ['skein 1', 0.2, 1],
      ['peer 2', 0.05, 0.25],
    ])
    expect(recordsSchema.parse(records)).toEqual(records)
    const runs = log.filter((line) => line.endsWith('runKernel')).slice(2)
    expect(runs).toEqual(Array.from({ length: 3 }, () => ['skein 1 runKernel', 'peer 2 runKernel']).flat())
    expect(log.slice(-2)).toEqual(['skein 1 releaseKernel', 'peer 2 releaseKernel'])
  })

  it('of a peer that errs, fails or is missing leave no record and one line', async () => {
    const teller = fakeTeller()
    const entrants = [
      fakeEntrant('skein 1'),
      fakeEntrant('wrong 1', { error: 1e-2 }),
      fakeEntrant('nan 1', { error: Number.NaN }),
      fakeEntrant('lame 1', { fails: 'prepareKernel' }),
      fakeEntrant('without 1', { error: null }),
    ]
    const records = await measureKernel(entrants, kernel, pace, teller)
    expect(records.map(({ impl }) => impl)).toEqual(['skein 1'])
    expect(teller.said).toHaveLength(3)
    expect(teller.said[2]).toBe('matmul 100×100×100: lame 1 is left out: no prepareKernel')
  })

  it('of Skein that err end the run', async () => {
    const broken = fakeEntrant('skein 1', { error: 1 })
    await expect(measureKernel([broken], kernel, pace, fakeTeller())).rejects.toThrow('off by 1.0e+0')
    expect(broken.calls.at(-1)).toBe('skein 1 releaseKernel')
  })
})

describe('training', () => {
  const whole = { ...trainPace(false, 60_000), roundMs: 100 }

  it('goes on in turns to the loss after 50 updates, and counts the third step', async () => {
    const entrants = [fakeEntrant('skein 1', { milliseconds: 10 }), fakeEntrant('peer 2', { milliseconds: 50 })]
    const { records } = await measureTraining(entrants, WORKS.w1, whole, fakeTeller())
    expect(recordsSchema.parse(records)).toEqual(records)
    const [skein, peer] = records
    expect(skein).toMatchObject({ tokensPerSecond: 76_800, dispatchesPerStep: 100, submitsPerStep: 2, gpuBytes: 4096 })
    expect(peer).toMatchObject({ tokensPerSecond: 15_360, comparedSteps: 10, lossDifference: 0 })
    expect(peer!.lossAfter50).toBeCloseTo(6 - 0.51)
    // Skein was not left idle while the slower one caught up.
    expect(skein!.steps).toBeGreaterThan(200)
    const [share, other] = againstPeak([skein!, { ...peer!, where: 'cpu' }], 1000)
    expect(share!.mfu).toBeCloseTo((76_800 * trainFlopsPerToken(WORKS.w1.config.model)) / 1e12)
    expect(other!.mfu).toBeNull()
  })

  it('does not count losses that disagree by more than 1e-4, with those given or with the first', async () => {
    const off = (share: number) => ({ loss: (step: number) => (6 - step / 100) * (step === 7 ? 1 + share : 1) })
    const entrants = () => [fakeEntrant('skein 1'), fakeEntrant('near 1', off(9e-5)), fakeEntrant('far 1', off(2e-4))]
    const teller = fakeTeller()
    const { records, losses } = await measureTraining(entrants(), WORKS.w1, whole, teller)
    expect(records.map(({ impl }) => impl)).toEqual(['skein 1', 'near 1'])
    expect(teller.said).toEqual(['w1: the losses of far 1 are off by 2.0e-4: not counted.'])
    expect(losses.has('far 1')).toBe(true)
    const against = await measureTraining(entrants(), WORKS.w1, whole, fakeTeller(), losses.get('far 1'))
    expect(against.records.map(({ impl }) => impl)).toEqual(['far 1'])
  })

  it('stops one that takes too long and scores what it did, without taking it for the reference', async () => {
    const entrants = [fakeEntrant('slow 1', { milliseconds: 20_000 }), fakeEntrant('skein 1')]
    const { records, reference } = await measureTraining(entrants, WORKS.w1, whole, fakeTeller())
    expect(reference.length).toBeGreaterThan(50)
    expect(records[0]).toMatchObject({ impl: 'slow 1', steps: 3, comparedSteps: 3, lossAfter50: null })
    expect(records[1]).toMatchObject({ comparedSteps: 10, lossDifference: 0 })
  })

  it('goes on without a peer that fails, and ends with a failing Skein', async () => {
    const teller = fakeTeller()
    const lame = fakeEntrant('lame 1', { fails: 'prepareTraining' })
    const { records } = await measureTraining([fakeEntrant('skein 1'), lame], WORKS.w1, whole, teller)
    expect(records).toHaveLength(1)
    expect(teller.said).toEqual(['w1: lame 1 is left out: no prepareTraining'])
    const broken = fakeEntrant('skein 1', { fails: 'train' })
    await expect(measureTraining([broken], WORKS.w1, whole, fakeTeller())).rejects.toThrow('no train')
  })
})
