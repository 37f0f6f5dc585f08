/** Proves that the outer step is SGD with Nesterov momentum, and the same bits on whoever takes it. */
import { describe, expect, it } from 'vitest'
import { counterDither } from '../../../../src/codec/groups.ts'
import { encodeMean, outerStep } from '../../../../src/model/local/outer.ts'
import { runConfigSchema } from '../../../../src/protocol/runConfig.ts'
import { noise } from '../../../kernels/gpu.ts'

const localOf = (mergeCodec: 'f32' | 'int8' | 'int4') =>
  runConfigSchema.parse({ sync: 'local', local: { mergeCodec, outer: { lr: 0.7, momentum: 0.9 } } }).local

const vectorsOf = (values: Float32Array, laneMoments: Float32Array | null = null) => ({
  parameters: values.slice(),
  momentum: new Float32Array(values.length),
  laneMoments,
})

it('moves as PyTorch’s SGD(lr=0.7, momentum=0.9, nesterov=True) does', () => {
  const vectors = vectorsOf(Float32Array.of(1))
  const local = localOf('f32')
  // g = 1, then −0.5: v = 1, 0.4; steps 0.7·(1 + 0.9) and 0.7·(−0.5 + 0.36).
  outerStep(vectors, encodeMean(Float32Array.of(4), 0.25, local, counterDither(1)), local, counterDither(1))
  expect(vectors.parameters[0]).toBeCloseTo(1 - 1.33, 6)
  outerStep(vectors, encodeMean(Float32Array.of(-2), 0.25, local, counterDither(1)), local, counterDither(1))
  expect(vectors.parameters[0]).toBeCloseTo(1 - 1.33 + 0.098, 6)
  expect(vectors.momentum[0]).toBeCloseTo(0.4, 6)
})

it('takes the mean of the lanes’ moments from behind what they changed', () => {
  const local = localOf('f32')
  const [alone, sharing] = [vectorsOf(noise(3, 1)), vectorsOf(noise(3, 1), new Float32Array(3))]
  outerStep(alone, encodeMean(Float32Array.of(1, 2, 3), 0.5, local, counterDither(1)), local, counterDither(1))
  outerStep(
    sharing,
    encodeMean(Float32Array.of(1, 2, 3, 4, -5, 6), 0.5, local, counterDither(1)),
    local,
    counterDither(1),
  )
  expect(sharing.parameters).toEqual(alone.parameters)
  expect(sharing.momentum).toEqual(alone.momentum)
  expect(sharing.laneMoments).toEqual(Float32Array.of(2, -2.5, 3))
})

describe.each(['f32', 'int8', 'int4'] as const)('in %s', (codec) => {
  it('leaves an owner and whoever takes its bytes with the same bits', () => {
    const local = localOf(codec)
    const [owner, other] = [vectorsOf(noise(300, 1)), vectorsOf(noise(300, 1))]
    for (let step = 1; step <= 5; step++) {
      const mean = encodeMean(noise(300, 10 + step, 1e-3), 1 / 3, local, counterDither(step))
      outerStep(owner, mean, local, counterDither(step))
      outerStep(other, mean.slice(), local, counterDither(step))
    }
    expect(other).toEqual(owner)
    expect(owner.parameters).not.toEqual(noise(300, 1))
  })
})
