/** Proves RMSNorm, forward and backward, against the f64 reference, with one invocation a row and with many. */
import { afterAll, describe, expect, it } from 'vitest'
import type { GpuContext } from '../../src/gpu/device.ts'
import { Recorder } from '../../src/gpu/recorder.ts'
import { rmsNormKernels } from '../../src/gpu/kernels/rmsNorm.ts'
import { rmsNorm, rmsNormBackward } from '../../src/model/reference/rmsNorm.ts'
import { noise, relativeError, testGpu } from './gpu.ts'

const gpu = await testGpu()
afterAll(() => gpu.check())

/** The same device, told to take the other way of sharing rows. */
const other: GpuContext = { ...gpu, adapter: { ...gpu.adapter, software: !gpu.adapter.software } }

const shapes = [
  { rows: 1, columns: 2, scale: 1 },
  { rows: 70, columns: 30, scale: 1 },
  { rows: 33, columns: 128, scale: 1e12 },
  { rows: 5, columns: 257, scale: 1e-4 },
]

describe.each([
  ['own row sharing', gpu],
  ['other row sharing', other],
])('%s', (_, context) => {
  it.each(shapes)('[$rows, $columns] of size $scale', async ({ rows, columns, scale }) => {
    const kernels = await rmsNormKernels(context, { columns })
    const eps = 1e-5
    const values = {
      x: noise(rows * columns, 1, scale),
      weight: noise(columns, 2, 2),
      dy: noise(rows * columns, 3),
      residual: noise(rows * columns, 4, 1 / scale),
    }
    const start = noise(columns, 5)
    const upload = (array: Float32Array) => gpu.pool.upload(array)
    const [x, weight, dy, residual] = [values.x, values.weight, values.dy, values.residual].map(upload) as never[]
    const [y, dx, dxResidual] = [0, 1, 2].map(() => gpu.pool.allocate(rows * columns * 4)) as never[]
    const inverse = gpu.pool.allocate(rows * 4)
    const dWeight = upload(start)
    const recorder = new Recorder(context)
    const shape = { rows, columns }
    kernels.forward(recorder, { x: x!, weight: weight!, y: y!, inverse }, shape, eps)
    kernels.backward(recorder, { x: x!, weight: weight!, inverse, dy: dy!, dx: dx! }, shape)
    const sum = { x: x!, weight: weight!, inverse, dy: dy!, residual: residual!, dx: dxResidual! }
    kernels.backward(recorder, sum, shape)
    kernels.backwardWeight(recorder, { x: x!, inverse, dy: dy!, dWeight }, shape)
    const size = rows * columns * 4
    const read = (view: object, bytes = size) => recorder.readF32({ ...(view as typeof dWeight), size: bytes })
    const results = Promise.all([read(y!), read(dx!), read(dxResidual!), read(dWeight, columns * 4)])
    recorder.submit()
    const [gotY, gotDx, gotSum, gotWeight] = await results

    const [fx, fw, fdy] = [values.x, values.weight, values.dy].map((v) => Float64Array.from(v)) as Float64Array[]
    const weightGradient = Float64Array.from(start)
    const expectedDx = rmsNormBackward(fx!, fw!, fdy!, weightGradient, eps)
    expect(relativeError(gotY, rmsNorm(fx!, fw!, eps))).toBeLessThan(1e-6)
    expect(relativeError(gotDx, expectedDx)).toBeLessThan(5e-6)
    const withResidual = expectedDx.map((d, i) => d + values.residual[i]!)
    expect(relativeError(gotSum, withResidual)).toBeLessThan(5e-6)
    expect(relativeError(gotWeight, weightGradient)).toBeLessThan(5e-6)
  })
})
