/** Proves which tolerance a pair of devices gets: the wider precision decides, and what was never measured gets more. */
import { describe, expect, it } from 'vitest'
import { TENSOR_KINDS, toleranceOf, type DeviceClass } from '../../../src/audit/tolerances.ts'

const swiftshader: DeviceClass = { vendor: 'google', architecture: 'swiftshader', products: 'f32' }
const halves: DeviceClass = { vendor: 'mesa', architecture: 'software', products: 'f16' }
const unknown: DeviceClass = { vendor: 'acme', architecture: 'gen-9', products: 'f32' }

describe('the tolerance of a pair', () => {
  it('does not depend on who claims and who recomputes', () => {
    for (const kind of TENSOR_KINDS)
      for (const codec of ['f32', 'f16', 'int8'] as const)
        expect(toleranceOf(kind, codec, [swiftshader, halves])).toEqual(toleranceOf(kind, codec, [halves, swiftshader]))
  })

  it('is the wider one where one of both computes in halves', () => {
    const exact = toleranceOf('parameterGradient', 'f32', [swiftshader, swiftshader])
    const mixed = toleranceOf('parameterGradient', 'f32', [swiftshader, halves])
    expect(mixed.median).toBeGreaterThan(10 * exact.median)
    expect(toleranceOf('parameterGradient', 'f32', [halves, halves])).toEqual(mixed)
  })

  it('allows more to an adapter that was never measured, and never what the smallest lie moves', () => {
    for (const kind of TENSOR_KINDS) {
      const seen = toleranceOf(kind, 'f16', [swiftshader, swiftshader])
      const unseen = toleranceOf(kind, 'f16', [swiftshader, unknown])
      if (kind !== 'update') expect(unseen.median).toBeGreaterThan(seen.median)
    }
    for (const pair of [
      [swiftshader, unknown],
      [unknown, { ...unknown, products: 'f16' }],
    ] as const) {
      // Weights one step old move it by 0.0097 at the least.
      expect(toleranceOf('parameterGradient', 'f16', pair).median).toBeLessThan(0.0097 / 2)
    }
  })

  it('of a gradient and of a loss is the same under every codec', () => {
    for (const kind of ['parameterGradient', 'loss', 'update'] as const)
      expect(toleranceOf(kind, 'int8', [swiftshader, unknown])).toEqual(
        toleranceOf(kind, 'f32', [swiftshader, unknown]),
      )
  })
})
