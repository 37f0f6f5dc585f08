/** Proves that a stage is made with less where memory runs out, for real, and that the device is as good as new after it. */
import { afterEach, describe, expect, it } from 'vitest'
import type { GpuContext } from '../../src/gpu/device.ts'
import { tryMemory } from '../../src/gpu/memoryProbe.ts'
import { createStage } from '../../src/model/createStage.ts'
import { activationBytes, estimateStageMemory, microbatchesInFlight } from '../../src/model/memory.ts'
import { runLayouts } from '../../src/model/layout.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { freshGpu, testGpu } from './gpu.ts'

const config = runConfigSchema.parse({
  model: { layers: 4, dModel: 64, heads: 4, kvHeads: 4, ffn: 192, blockSize: 64 },
  stages: 2,
  replicas: 1,
  batch: 12,
  microbatch: 4,
})
const layout = runLayouts(config)[0]!
const slots = microbatchesInFlight(config, layout)
const each = activationBytes(config, layout)
const { total } = estimateStageMemory(config, 0)
const plenty = 2 ** 30

/**
 * Lets the device run out of memory past `bytes`: the next buffer is asked for at the size of all that an adapter can
 * address, for which no software adapter has room, so that what follows is the implementation's own.
 */
function limitMemory({ device, limits }: GpuContext, bytes: number) {
  const seen = { failures: 0, held: 0, lift: () => void (device.createBuffer = create) }
  const create = device.createBuffer.bind(device)
  device.createBuffer = (descriptor) => {
    const { size } = descriptor
    if (seen.held + size > bytes) {
      seen.failures++
      return create({ ...descriptor, size: limits.maxBufferSize })
    }
    seen.held += size
    const buffer = create(descriptor)
    const destroy = buffer.destroy.bind(buffer)
    let gone = false
    buffer.destroy = () => {
      if (!gone) seen.held -= size
      gone = true
      destroy()
    }
    return buffer
  }
  return seen
}

// One device for all that compile: each tunes its kernels anew.
const gpu = await testGpu()
let lift = () => {}
afterEach(() => lift())

async function trainStep(stage: Awaited<ReturnType<typeof createStage>>): Promise<void> {
  const tokens = new Uint32Array(config.microbatch * config.model.blockSize)
  stage.beginStep(1)
  const outputs: Uint8Array[] = []
  for (let m = 0; m < slots; m++) outputs.push(await stage.forward(m, { tokens }))
  for (let m = 0; m < slots; m++) await stage.backward(m, outputs[m]!)
}

describe('a stage on a device that runs out of memory', () => {
  it('keeps fewer activations, recomputes the rest, and trains', async () => {
    const whole = await createStage(gpu, { config, stage: 0 }, plenty)
    await trainStep(whole)
    expect(whole.work.recomputed).toBe(0)
    whole.destroy()
    gpu.pool.trim()

    const seen = limitMemory(gpu, total + 1.5 * each)
    lift = seen.lift
    const stage = await createStage(gpu, { config, stage: 0 }, plenty)
    expect(seen.failures).toBeGreaterThan(0)
    const { failures } = seen
    await trainStep(stage)
    expect(stage.work.recomputed).toBeGreaterThan(0)
    expect(seen.failures).toBe(failures)
    expect(() => gpu.check()).not.toThrow()
    stage.destroy()
  })

  it('that cannot hold the least says so, holds nothing, and makes a smaller stage next', async () => {
    gpu.pool.trim()
    const before = gpu.pool.bytesInUse
    const seen = limitMemory(gpu, 0.7 * total)
    lift = seen.lift
    await expect(createStage(gpu, { config, stage: 0 }, plenty)).rejects.toMatchObject({
      code: 'gpu.out_of_memory',
      message: expect.stringContaining(`${Math.ceil(total / 2 ** 20)} MiB`),
      remedy: expect.stringMatching(/smaller/),
    })
    expect(seen.failures).toBeGreaterThan(1)
    expect(gpu.pool.bytesInUse).toBe(before)
    expect(gpu.pool.bytesHeld).toBe(before)
    const small = { ...config, microbatch: 1, model: { ...config.model, layers: 2 } }
    const next = await createStage(gpu, { config: small, stage: 0 }, plenty)
    expect(() => gpu.check()).not.toThrow()
    next.destroy()
  })

  it('takes no more than was offered, and none of it twice', async () => {
    gpu.pool.trim()
    const stage = await createStage(gpu, { config, stage: 0 }, total + each)
    await trainStep(stage)
    expect(stage.work.recomputed).toBe(slots - 1)
    expect(gpu.pool.bytesHeld).toBeLessThanOrEqual(total + each)
    stage.destroy()
  })
})

describe('a stage of which more microbatches are let in than 1F1B needs', () => {
  const most = 8
  const many = { ...config, batch: most * config.microbatch }
  /** Microbatches whose forward was computed twice, with all of the step in flight. */
  async function inFlight(memoryBytes: number): Promise<number> {
    gpu.pool.trim()
    const stage = await createStage(gpu, { config: many, stage: 0 }, memoryBytes)
    const { bytesHeld } = gpu.pool
    const tokens = new Uint32Array(config.microbatch * config.model.blockSize)
    stage.beginStep(1)
    const outputs: Uint8Array[] = []
    for (let m = 0; m < most; m++) outputs.push(await stage.forward(m, { tokens }))
    if (memoryBytes === plenty) expect(gpu.pool.bytesHeld).toBeGreaterThan(bytesHeld)
    expect(gpu.pool.bytesHeld).toBeLessThanOrEqual(memoryBytes)
    for (let m = 0; m < most; m++) await stage.backward(m, outputs[m]!)
    const { recomputed } = stage.work
    stage.destroy()
    return recomputed
  }

  it('keeps the activations of all while memory has room, and lends it only then', async () => {
    expect(await inFlight(plenty)).toBe(0)
  })

  it('computes the forward of those again for which memory has none', async () => {
    expect(await inFlight(total + 5 * each)).toBe(most - 5)
  })
})

describe('the trial of memory', () => {
  it('takes what is there in steps, finds the end, and leaves nothing behind', async () => {
    const hardware = { ...gpu, adapter: { ...gpu.adapter, software: false } }
    const mib = 2 ** 20
    const seen = limitMemory(gpu, 100 * mib)
    lift = seen.lift
    const tried = await tryMemory(hardware, 160 * mib)
    expect(tried).toEqual({ asked: 160 * mib, given: 100 * mib })
    expect(seen).toMatchObject({ failures: 1, held: 0 })
    expect(await tryMemory(hardware, 96 * mib)).toEqual({ asked: 96 * mib, given: 96 * mib })
    expect(() => gpu.check()).not.toThrow()
  })

  it('spares a software adapter', async () => {
    const software = { ...gpu, adapter: { ...gpu.adapter, software: true } }
    const tried = await tryMemory(software, 2 ** 34)
    expect(tried).toEqual({ asked: 64 * 2 ** 20, given: 64 * 2 ** 20 })
  })

  it('knows a device that is lost over it', async () => {
    const doomed = await freshGpu()
    const trial = tryMemory({ ...doomed, adapter: { ...doomed.adapter, software: false } }, 2 ** 26)
    doomed.device.destroy()
    expect(await trial).toBeNull()
    doomed.destroy()
  })
})
