/** Proves the recorder, the pool and the pipeline cache on the device at hand. */
import { afterAll, describe, expect, it } from 'vitest'
import { sizeClass } from '../../src/gpu/buffers.ts'
import { acquireGpu } from '../../src/gpu/device.ts'
import { createKernel, spread } from '../../src/gpu/kernel.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import { reduceKernels } from '../../src/gpu/kernels/reduce.ts'
import { freshGpu, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

/** The smallest kernel there is: total += addend. */
const kernels = await reduceKernels(gpu)

describe('Recorder', () => {
  it('runs more dispatches than its uniforms hold, in order', async () => {
    const one = gpu.pool.upload(new Float32Array([1, 0, 0, 0]))
    const sum = gpu.pool.upload(new Float32Array(4))
    const recorder = new Recorder(gpu)
    for (let i = 0; i < 2100; i++) kernels.accumulate(recorder, one, sum, 4)
    const result = recorder.readF32(sum)
    recorder.submit()
    expect((await result)[0]).toBe(2100)
    expect([recorder.dispatches, recorder.submits]).toEqual([2100, 2])
  })

  it('copies, clears and reads odd byte lengths', async () => {
    const from = gpu.pool.upload(new Uint8Array([1, 2, 3, 4, 5]))
    const to = gpu.pool.allocate(8)
    const recorder = new Recorder(gpu)
    recorder.clear(to)
    recorder.copy(from, to, 8)
    const result = recorder.read({ ...to, size: 5 })
    recorder.submit()
    expect(Array.from(new Uint8Array(await result))).toEqual([1, 2, 3, 4, 5])
  })
})

describe('PipelineCache', () => {
  const text = `@group(0) @binding(0) var<uniform> n: u32;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@compute @workgroup_size({{SIZE}}) fn main() { x[0] = n; }`

  it('compiles equal texts once', async () => {
    const first = await createKernel(gpu, 'cached', text, { SIZE: 1 })
    const again = await createKernel(gpu, 'cached', text, { SIZE: 1 })
    const other = await createKernel(gpu, 'cached', text, { SIZE: 2 })
    expect(again.pipeline).toBe(first.pipeline)
    expect(other.pipeline).not.toBe(first.pipeline)
  })

  it('names the line that does not compile', async () => {
    const broken = text.replace('x[0] = n', 'x[0] = nothing')
    const attempt = createKernel(gpu, 'broken', broken, { SIZE: 1 })
    await expect(attempt).rejects.toMatchObject({ code: 'gpu.shader', message: expect.stringContaining('nothing') })
  })
})

describe('BufferPool', () => {
  it('recycles by size class and counts what is lent', () => {
    const before = gpu.pool.bytesInUse
    const first = gpu.pool.allocate(5000)
    expect(gpu.pool.bytesInUse - before).toBe(sizeClass(5000))
    gpu.pool.release(first)
    gpu.pool.release(first)
    expect(gpu.pool.bytesInUse).toBe(before)
    expect(gpu.pool.allocate(4900).buffer).toBe(first.buffer)
  })

  it('wastes at most a fifth above the smallest classes', () => {
    for (let bytes = 1024; bytes < 1e8; bytes = Math.ceil(bytes * 1.01)) {
      expect(sizeClass(bytes)).toBeGreaterThanOrEqual(bytes)
      expect(sizeClass(bytes) / bytes).toBeLessThan(1.26)
      expect(sizeClass(bytes) % 256).toBe(0)
    }
  })

  it('reports running out of memory', async () => {
    const tight = await freshGpu()
    const most = tight.limits.maxBufferSize
    for (let i = 0; i < 64; i++) tight.pool.allocate(most)
    await expect(tight.pool.settled()).rejects.toMatchObject({ code: 'gpu.out_of_memory' })
    tight.destroy()
  })
})

describe('acquireGpu', () => {
  it('refuses where there is no WebGPU, no adapter, or too little of it', async () => {
    const none = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU
    await expect(acquireGpu({ gpu: none })).rejects.toMatchObject({ code: 'gpu.no_adapter' })
    const limits = { maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 2 ** 27, maxStorageBuffersPerShaderStage: 4 }
    const small = { requestAdapter: () => Promise.resolve({ limits }) } as unknown as GPU
    await expect(acquireGpu({ gpu: small })).rejects.toMatchObject({ code: 'gpu.limits' })
  })

  it('says when the device is gone', async () => {
    const doomed = await freshGpu()
    doomed.device.destroy()
    expect((await doomed.lost).code).toBe('gpu.lost')
    expect(() => doomed.check()).toThrow(expect.objectContaining({ code: 'gpu.lost' }))
  })
})

it('spreads workgroups over two dimensions where one cannot hold them', () => {
  expect(spread(65_535)).toEqual([65_535])
  const [x, y = 1] = spread(200_000)
  expect(x).toBeLessThanOrEqual(65_535)
  expect(x * y).toBeGreaterThanOrEqual(200_000)
})
