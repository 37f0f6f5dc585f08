/** Proves what a node says of its memory: what its device proved to have, and half as much after each device it cost. */
import { describe, expect, it } from 'vitest'
import type { GpuContext } from '../../../src/gpu/device.ts'
import { SkeinError } from '../../../src/protocol/errors.ts'
import { proveDevice } from '../../../src/stage/deviceMemory.ts'

const GIB = 2 ** 30
const error = new SkeinError({ code: 'gpu.lost', message: 'Gone.', remedy: 'Wait.' })

/** Devices of which each is lost at a trial of more than `bearable` bytes and has `memory` bytes. */
function devices(bearable: number, memory = Infinity) {
  const trials: number[] = []
  let destroyed = 0
  let acquired = 0
  const acquire = async () => {
    acquired++
    return { lost: Promise.resolve(error), destroy: () => void destroyed++ } as unknown as GpuContext
  }
  const trial = async (_gpu: GpuContext, asked: number) => {
    trials.push(asked)
    return asked > bearable ? null : { asked, given: Math.min(asked, memory) }
  }
  return { acquire, trial, trials, counts: () => ({ acquired, destroyed }) }
}

describe('a device’s memory', () => {
  it('is what was offered where all of it was there, else what was there', async () => {
    const enough = devices(Infinity)
    expect((await proveDevice(enough.acquire, 4 * GIB, enough.trial)).memory).toEqual({
      memoryBytes: 4 * GIB,
      triedBytes: 4 * GIB,
    })
    const less = devices(Infinity, 3 * GIB)
    expect((await proveDevice(less.acquire, 4 * GIB, less.trial)).memory).toEqual({
      memoryBytes: 3 * GIB,
      triedBytes: 3 * GIB,
    })
  })

  it('is taken on trust beyond what a spared adapter was asked for', async () => {
    const spared = devices(Infinity)
    const trial = async () => ({ asked: 1000, given: 1000 })
    const { memory } = await proveDevice(spared.acquire, GIB, trial)
    expect(memory).toEqual({ memoryBytes: GIB, triedBytes: 1000 })
  })

  it('is halved for each device that a trial costs, until a small trial shows that memory is not the matter', async () => {
    const weak = devices(GIB)
    const { memory } = await proveDevice(weak.acquire, 4 * GIB, weak.trial)
    expect(weak.trials).toEqual([4 * GIB, 2 * GIB, GIB])
    expect(memory.memoryBytes).toBe(GIB)
    expect(weak.counts()).toEqual({ acquired: 3, destroyed: 2 })
    const broken = devices(-1)
    await expect(proveDevice(broken.acquire, GIB, broken.trial)).rejects.toMatchObject({ code: 'gpu.lost' })
    expect(broken.counts().destroyed).toBe(broken.counts().acquired)
  })
})
