import { describe, expect, it } from 'vitest'
import { operandsOf, resultError } from '../../bench/operands.ts'
import type { AttentionCase, MatmulCase } from '../../bench/works.ts'
import { attention } from '../../../src/model/reference/attention.ts'

function product({ form, m, n, k }: MatmulCase, [a, b]: readonly Float32Array[]): Float32Array {
  const c = new Float32Array(m * n)
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      for (let i = 0; i < k; i++) {
        const x = form === 'tn' ? a![i * m + row]! : a![row * k + i]!
        c[row * n + column]! += x * (form === 'nt' ? b![column * k + i]! : b![i * n + column]!)
      }
    }
  }
  return c
}

describe.each(['nn', 'nt', 'tn'] as const)('a %s product', (form) => {
  const kernel = { op: 'matmul', form, m: 24, n: 20, k: 16 } as const
  const operands = operandsOf(kernel)
  const right = product(kernel, operands)

  it('is close to f64 when right', () => {
    expect(resultError(kernel, operands, right)).toBeLessThan(1e-6)
  })

  it('scores nothing when zero, cut short, not a number, or of another form', () => {
    expect(resultError(kernel, operands, new Float32Array(right.length))).toBeCloseTo(1, 5)
    expect(resultError(kernel, operands, right.subarray(1))).toBe(Infinity)
    expect(resultError(kernel, operands, right.with(right.length - 1, Number.NaN))).toBe(Infinity)
    const other = product({ ...kernel, form: form === 'nn' ? 'nt' : 'nn' }, operands)
    expect(resultError(kernel, operands, other)).toBeGreaterThan(0.1)
  })
})

describe('attention', () => {
  const kernel: AttentionCase = { op: 'attention', pass: 'forward', batch: 2, heads: 2, seq: 6, headDim: 4 }
  const operands = operandsOf(kernel)
  const [q, k, v] = operands.map((values) => Float64Array.from(values))
  const shape = { batch: 2, sequence: 6, heads: 2, kvHeads: 2, headDim: 4 }
  const right = Float32Array.from(attention(q!, k!, v!, shape))

  it('is close to f64 when right', () => {
    expect(resultError(kernel, operands, right)).toBeLessThan(1e-6)
  })

  it('scores nothing with a wrong last sequence or without its gradients', () => {
    expect(resultError(kernel, operands, right.with(right.length - 1, 9))).toBeGreaterThan(0.5)
    expect(resultError({ ...kernel, pass: 'forwardBackward' }, operands, right)).toBe(Infinity)
  })
})
