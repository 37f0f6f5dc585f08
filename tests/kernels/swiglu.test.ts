/** Proves SwiGLU, forward and backward, against the f64 reference, also where the exponential would leave f32. */
import { afterAll, expect, it } from 'vitest'
import { Recorder } from '../../src/gpu/recorder.ts'
import { swigluKernels } from '../../src/gpu/kernels/swiglu.ts'
import { swiglu, swigluBackward } from '../../src/model/reference/swiglu.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

it.each([
  [1, 1, 1],
  [3, 2, 8],
  [13, 79, 3],
  [25, 12, 500],
  [300, 4, 1e-6],
])('%i rows of %i gates of size %f', async (rows, ffn, scale) => {
  const kernels = await swigluKernels(gpu, { ffn })
  const length = rows * ffn
  const [gate, up, dy] = [noise(length, 1, scale), noise(length, 2), noise(length, 3)]
  const joined = new Float32Array(2 * length)
  for (let r = 0; r < rows; r++) {
    joined.set(gate.subarray(r * ffn, (r + 1) * ffn), 2 * r * ffn)
    joined.set(up.subarray(r * ffn, (r + 1) * ffn), (2 * r + 1) * ffn)
  }
  const [gateUp, bufferDy] = [gpu.pool.upload(joined), gpu.pool.upload(dy)]
  const lend = (count: number) => ({ ...gpu.pool.allocate(count * 4), size: count * 4 })
  const [out, dGateUp] = [lend(length), lend(2 * length)]
  const recorder = new Recorder(gpu)
  kernels.forward(recorder, { gateUp, out }, { rows })
  kernels.backward(recorder, { gateUp, dy: bufferDy, dGateUp }, { rows })
  const results = Promise.all([out, dGateUp].map((view) => recorder.readF32(view)))
  recorder.submit()
  const [gotOut, gotBoth] = await results
  const half = (which: 0 | 1) =>
    Float32Array.from({ length }, (_, i) => gotBoth![i + (Math.floor(i / ffn) + which) * ffn]!)

  const [fGate, fUp, fDy] = [Float64Array.from(gate), Float64Array.from(up), Float64Array.from(dy)]
  const expected = swigluBackward(fGate, fUp, fDy)
  expect(relativeError(gotOut!, swiglu(fGate, fUp))).toBeLessThan(2e-6)
  expect(relativeError(half(0), expected.dGate)).toBeLessThan(5e-6)
  expect(relativeError(half(1), expected.dUp)).toBeLessThan(2e-6)
})
