/** Owns the kernels' operands and the judgement of their results against f64. */
import { attention, attentionBackward } from '../../src/model/reference/attention.ts'
import type { AttentionCase, KernelCase, MatmulCase } from './works.ts'

/** Reproducible values in [-1, 1): Mulberry32 (Ettinger). */
function noise(length: number, seed: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length)
  let state = seed | 0
  for (let i = 0; i < length; i++) {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    values[i] = ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1
  }
  return values
}

/** A and B; or q, k, v and the gradient of the output. */
export function operandsOf(kernel: KernelCase): Float32Array<ArrayBuffer>[] {
  if (kernel.op === 'matmul') return [noise(kernel.m * kernel.k, 1), noise(kernel.k * kernel.n, 2)]
  const length = kernel.batch * kernel.seq * kernel.heads * kernel.headDim
  return [1, 2, 3, 4].map((seed) => noise(length, seed))
}

const SAMPLES = 256

/**
 * Largest difference over the largest expected magnitude: 256 entries of a product spread over the whole of it, the
 * corners included; attention's first and last sequence. Infinity for a result of another length or with a NaN.
 */
export function resultError(kernel: KernelCase, operands: readonly Float32Array[], result: Float32Array): number {
  return kernel.op === 'matmul' ? matmulError(kernel, operands, result) : attentionError(kernel, operands, result)
}

function matmulError({ form, m, n, k }: MatmulCase, [a, b]: readonly Float32Array[], c: Float32Array): number {
  if (c.length !== m * n) return Infinity
  const [aRow, aStep] = form === 'tn' ? [1, m] : [k, 1]
  const [bColumn, bStep] = form === 'nt' ? [k, 1] : [1, n]
  const worst = new Worst()
  const compare = (row: number, column: number) => {
    let sum = 0
    for (let i = 0; i < k; i++) sum += a![row * aRow! + i * aStep!]! * b![i * bStep! + column * bColumn!]!
    worst.see(c[row * n + column]!, sum)
  }
  for (const row of [0, m - 1]) for (const column of [0, n - 1]) compare(row, column)
  // Strides without a common factor visit rows and columns alike.
  for (let s = 0; s < SAMPLES - 4; s++) compare((s * 7919 + 13) % m, (s * 6151 + 29) % n)
  return worst.relative
}

function attentionError(
  { pass, batch, heads, seq, headDim }: AttentionCase,
  operands: readonly Float32Array[],
  result: Float32Array,
): number {
  const total = batch * seq * heads * headDim
  const outputs = pass === 'forward' ? 1 : 4
  if (result.length !== outputs * total) return Infinity
  const length = total / batch
  const worst = new Worst()
  for (const sequence of new Set([0, batch - 1])) {
    const at = sequence * length
    const [q, k, v, dOut] = operands.map((values) => Float64Array.from(values.subarray(at, at + length)))
    const shape = { batch: 1, sequence: seq, heads, kvHeads: heads, headDim }
    const expected = [attention(q!, k!, v!, shape)]
    if (pass === 'forwardBackward') {
      const { dq, dk, dv } = attentionBackward(q!, k!, v!, dOut!, shape)
      expected.push(dq, dk, dv)
    }
    expected.forEach((values, part) => {
      const own = new Worst()
      values.forEach((value, i) => own.see(result[part * total + at + i]!, value))
      worst.takeOver(own)
    })
  }
  return worst.relative
}

class Worst {
  #difference = 0
  #magnitude = 1e-30
  #others = 0

  see(actual: number, expected: number): void {
    const difference = Math.abs(actual - expected)
    this.#difference = Math.max(this.#difference, Number.isNaN(difference) ? Infinity : difference)
    this.#magnitude = Math.max(this.#magnitude, Math.abs(expected))
  }

  /** A tensor with its own magnitude. */
  takeOver(other: Worst): void {
    this.#others = Math.max(this.#others, other.relative)
  }

  get relative(): number {
    return Math.max(this.#others, this.#difference / this.#magnitude)
  }
}
