/** Proves SwiGLU, forward and backward, against the f64 reference, also where the exponential would leave f32. */
import { afterAll, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/kernel.ts'
import { swigluKernels } from '../../src/gpu/kernels/swiglu.ts'
import { swiglu, swigluBackward } from '../../src/model/reference/swiglu.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

it.each([
  [1, 1],
  [6, 8],
  [1027, 3],
  [300, 500],
  [300, 1e-6],
])('%i gates of size %f', async (length, scale) => {
  const kernels = await swigluKernels(gpu)
  const [gate, up, dy] = [noise(length, 1, scale), noise(length, 2), noise(length, 3)]
  const [bufferGate, bufferUp, bufferDy] = [gpu.pool.upload(gate), gpu.pool.upload(up), gpu.pool.upload(dy)]
  const lend = () => ({ ...gpu.pool.allocate(length * 4), size: length * 4 })
  const [out, dGate, dUp] = [lend(), lend(), lend()]
  const recorder = new Recorder(gpu)
  kernels.forward(recorder, { gate: bufferGate, up: bufferUp, out }, length)
  kernels.backward(recorder, { gate: bufferGate, up: bufferUp, dy: bufferDy, dGate, dUp }, length)
  const results = Promise.all([out, dGate, dUp].map((view) => recorder.readF32(view)))
  recorder.submit()
  const [gotOut, gotGate, gotUp] = await results

  const [fGate, fUp, fDy] = [Float64Array.from(gate), Float64Array.from(up), Float64Array.from(dy)]
  const expected = swigluBackward(fGate, fUp, fDy)
  expect(relativeError(gotOut!, swiglu(fGate, fUp))).toBeLessThan(2e-6)
  expect(relativeError(gotGate!, expected.dGate)).toBeLessThan(5e-6)
  expect(relativeError(gotUp!, expected.dUp)).toBeLessThan(2e-6)
})
