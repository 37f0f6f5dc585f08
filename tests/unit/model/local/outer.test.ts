/** Proves that the outer step is SGD with Nesterov momentum. */
import { expect, it } from 'vitest'
import { outerStep } from '../../../../src/model/local/outer.ts'

it('moves as PyTorch’s SGD(lr=0.7, momentum=0.9, nesterov=True) does', () => {
  const vectors = { parameters: Float32Array.of(1), momentum: new Float32Array(1) }
  const outer = { lr: 0.7, momentum: 0.9 }
  // g = 1, then −0.5: v = 1, 0.4; steps 0.7·(1 + 0.9) and 0.7·(−0.5 + 0.36).
  outerStep(vectors, Float32Array.of(1), outer)
  expect(vectors.parameters[0]).toBeCloseTo(1 - 1.33, 6)
  outerStep(vectors, Float32Array.of(-0.5), outer)
  expect(vectors.parameters[0]).toBeCloseTo(1 - 1.33 + 0.098, 6)
  expect(vectors.momentum[0]).toBeCloseTo(0.4, 6)
})
