/** Proves the AdamW update against the f64 reference over several steps, decay on a part of the range only. */
import { afterAll, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/kernel.ts'
import { adamwKernels } from '../../src/gpu/kernels/adamw.ts'
import { adamw } from '../../src/model/reference/adamw.ts'
import { runConfigSchema } from '../../src/protocol/runConfig.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

it.each([
  { length: 1, decayLength: 0, size: 1 },
  { length: 301, decayLength: 130, size: 1 },
  { length: 301, decayLength: 1000, size: 1e-6 },
  { length: 128, decayLength: -64, size: 1e6 },
])('$length elements, decay below $decayLength, gradients of size $size', async ({ length, decayLength, size }) => {
  const { optimizer } = runConfigSchema.parse({ optimizer: { weightDecay: 0.1, beta2: 0.95 } })
  const kernels = await adamwKernels(gpu)
  const start = noise(length, 1)
  const lend = (values: Float32Array) => ({ ...gpu.pool.upload(values), size: length * 4 })
  const tensors = {
    parameter: lend(start),
    gradient: lend(start),
    first: lend(new Float32Array(length)),
    second: lend(new Float32Array(length)),
  }
  const [parameter, first, second] = [Float64Array.from(start), new Float64Array(length), new Float64Array(length)]
  const scale = 0.37
  for (let step = 1; step <= 5; step++) {
    const lr = 0.01 * step
    const gradient = noise(length, 10 + step, size)
    gpu.pool.write(tensors.gradient, gradient)
    const recorder = new Recorder(gpu)
    kernels.update(recorder, tensors, { length, decayLength }, optimizer, { lr, scale, step })
    recorder.submit()
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
  const recorder = new Recorder(gpu)
  const results = Promise.all([tensors.parameter, tensors.first, tensors.second].map((view) => recorder.readF32(view)))
  recorder.submit()
  const [gotParameter, gotFirst, gotSecond] = await results
  expect(relativeError(gotParameter!, parameter)).toBeLessThan(2e-6)
  expect(relativeError(gotFirst!, first)).toBeLessThan(2e-6)
  expect(relativeError(gotSecond!, second)).toBeLessThan(2e-6)
})
