/** Proves the AdamW update against the f64 reference over several steps, decay on a part of the range only, and bf16 moments. */
import { afterAll, describe, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { MOMENT_BYTES, adamwKernels, adamwScalars } from '../../src/gpu/kernels/adamw.ts'
import type { AdamwOptions } from '../../src/gpu/kernels/adamw.ts'
import { bf16Decode, bf16Encode } from '../../src/model/optimizerMoments.ts'
import { adamw } from '../../src/model/reference/adamw.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import type { RunConfigInput } from '../../src/protocol/runConfig.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

/** A parameter vector with its moments on the GPU, `before` elements into the moments' buffers. */
async function trainee(options: AdamwOptions, start: Float32Array<ArrayBuffer>, before = 0) {
  const { length } = start
  const kernels = await adamwKernels(gpu, options)
  const bytes = MOMENT_BYTES[options.moments]
  const moment = () => {
    const lent = gpu.pool.upload(new Float32Array((before + length) * (bytes / 4)))
    return { buffer: lent.buffer, offset: before * bytes, size: length * bytes }
  }
  const lend = (values: Float32Array) => ({ ...gpu.pool.upload(values), size: length * 4 })
  const tensors = { parameter: lend(start), gradient: lend(start), first: moment(), second: moment() }
  const read = async (of: 'parameter' | 'first' | 'second') => {
    const recorder = new Recorder(gpu)
    const result = recorder.read(tensors[of])
    recorder.submit()
    const raw = await result
    return of === 'parameter' || bytes === 4 ? new Float32Array(raw) : bf16Decode(new Uint16Array(raw))
  }
  return {
    read,
    update(
      gradient: Float32Array<ArrayBuffer>,
      input: RunConfigInput['optimizer'],
      step: { lr: number; scale: number; step: number },
      decayLength = 0,
    ) {
      const { optimizer } = runConfigSchema.parse({ optimizer: input })
      gpu.pool.write(tensors.gradient, gradient)
      const recorder = new Recorder(gpu)
      recorder.variables = adamwScalars(optimizer, step)
      kernels.record(recorder, tensors, { start: before, length, decayLength }, optimizer)
      recorder.submit()
    },
  }
}

describe('f32 moments', () => {
  it.each([
    { length: 8, decayLength: 0, size: 1, columns: 1 as const },
    { length: 8, decayLength: 8, size: 1, columns: 2 as const },
    { length: 1320, decayLength: 136, size: 1, columns: 1 as const },
    { length: 1320, decayLength: 136, size: 1, columns: 2 as const },
    { length: 640, decayLength: 100_000, size: 1e-6, columns: undefined },
    { length: 128, decayLength: -64, size: 1e6, columns: undefined },
  ])('$length elements, decay below $decayLength, gradients of size $size, $columns columns', async (given) => {
    const { length, decayLength, size, columns } = given
    const settings = { weightDecay: 0.1, beta2: 0.95 }
    const { optimizer } = runConfigSchema.parse({ optimizer: settings })
    const start = noise(length, 1)
    const trained = await trainee({ moments: 'f32', ...(columns && { columns }) }, start)
    const [parameter, first, second] = [Float64Array.from(start), new Float64Array(length), new Float64Array(length)]
    const scale = 0.37
    for (let step = 1; step <= 5; step++) {
      const lr = 0.01 * step
      const gradient = noise(length, 10 + step, size)
      trained.update(gradient, settings, { lr, scale, step }, decayLength)
      const cut = Math.max(0, Math.min(decayLength, length))
      for (const [from, to, weightDecay] of [
        [0, cut, optimizer.weightDecay],
        [cut, length, 0],
      ] as const) {
        const part = (values: Float64Array) => values.subarray(from, to)
        const scaled = Float64Array.from(gradient, (g) => g * scale)
        const { beta1, beta2, eps } = optimizer
        adamw(part(parameter), part(scaled), part(first), part(second), { lr, beta1, beta2, eps, weightDecay, step })
      }
    }
    expect(relativeError(await trained.read('parameter'), parameter)).toBeLessThan(2e-6)
    expect(relativeError(await trained.read('first'), first)).toBeLessThan(2e-6)
    expect(relativeError(await trained.read('second'), second)).toBeLessThan(2e-6)
  })

  it('takes whole blocks only', async () => {
    const trained = await trainee({ moments: 'f32' }, noise(20, 1))
    expect(() => trained.update(noise(20, 1), {}, { lr: 1, scale: 1, step: 1 })).toThrow(RangeError)
  })
})

describe('bf16 moments', () => {
  const length = 4096

  it.each([1, 2] as const)('train beside f32 moments, %i columns', async (columns) => {
    const settings = { beta2: 0.99, weightDecay: 0 }
    const start = noise(length, 3)
    // A shard may start where bf16 pairs may not be bound.
    const half = await trainee({ moments: 'bf16', columns }, start, 64)
    const whole = await trainee({ moments: 'f32', columns }, start, 64)
    for (let step = 1; step <= 20; step++) {
      const gradient = noise(length, 50 + step)
      for (const one of [half, whole]) one.update(gradient, settings, { lr: 0.01, scale: 1, step })
    }
    const moved = (await whole.read('parameter')).map((x, i) => x - start[i]!)
    const movedHalf = (await half.read('parameter')).map((x, i) => x - start[i]!)
    expect(relativeError(movedHalf, moved)).toBeLessThan(0.03)
    expect(relativeError(movedHalf, moved)).toBeGreaterThan(0)
    expect(relativeError(await half.read('first'), await whole.read('first'))).toBeLessThan(0.01)
    expect(relativeError(await half.read('second'), await whole.read('second'))).toBeLessThan(0.05)
  })

  it('let a slow second moment decay as it should, without bias', async () => {
    const settings = { beta2: 0.999, weightDecay: 0 }
    const trained = await trainee({ moments: 'bf16' }, noise(length, 4))
    trained.update(new Float32Array(length).fill(1), settings, { lr: 0, scale: 1, step: 1 })
    const mean = async () => (await trained.read('second')).reduce((sum, v) => sum + v, 0) / length
    const start = await mean()
    expect(Math.abs(start / 1e-3 - 1)).toBeLessThan(1e-4)
    const zero = new Float32Array(length)
    for (let step = 2; step <= 201; step++) trained.update(zero, settings, { lr: 0, scale: 1, step })
    // To the nearest, every one of these steps would be lost; 200 roundings of 4096 elements have a deviation of 2e-4.
    expect(Math.abs((await mean()) / (1e-3 * 0.999 ** 200) - 1)).toBeLessThan(2e-3)
  })

  it('round by step and place alone', async () => {
    const run = async (before: number) => {
      const trained = await trainee({ moments: 'bf16' }, noise(length, 5), before)
      for (let step = 1; step <= 3; step++) trained.update(noise(length, step), {}, { lr: 0.01, scale: 1, step })
      return trained.read('second')
    }
    const first = await run(64)
    expect(await run(64)).toEqual(first)
    expect(await run(128)).not.toEqual(first)
  })

  it('come from f32 by rounding to nearest, ties to even', () => {
    const values = new Float32Array([0, 1, -1.5, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 3e38, 1e-30])
    const decoded = bf16Decode(bf16Encode(values))
    expect([...decoded.subarray(0, 6)]).toEqual([0, 1, -1.5, 1, 1 + 2 ** -6, 1 + 2 ** -7])
    expect(relativeError(decoded, values)).toBeLessThan(2 ** -8)
    expect(bf16Decode(bf16Encode(decoded))).toEqual(decoded)
  })
})
