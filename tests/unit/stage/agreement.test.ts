/** Proves that two owners agree over other vendors' rounding and not over a false sum, by updates that the reference makes. */
import { describe, expect, it } from 'vitest'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { parametersAgree } from '../../../src/stage/agreement.ts'
import { Random } from '../../sim/clock.ts'

const LENGTH = 512
const [BETA1, BETA2, LR] = [0.9, 0.99, 3e-3]
const config = (input: RunConfigInput = {}) => runConfigSchema.parse(input)

const random = new Random(11)
const noise = () => Float32Array.from({ length: LENGTH }, () => random.next() + random.next() + random.next() - 1.5)

/** An owner of f32 moments whose arithmetic rounds by `ulp` more than it must, now up, now down. */
class Owner {
  readonly first = new Float32Array(LENGTH)
  readonly second = new Float32Array(LENGTH)
  readonly #ulp: number
  readonly #random = new Random(5)

  constructor(ulp = 0) {
    this.#ulp = ulp
  }

  update(parameters: Float32Array, gradient: Float32Array, step: number, lr = LR): Float32Array {
    const off = () => 1 + (2 * this.#random.next() - 1) * this.#ulp * 2 ** -23
    return parameters.map((p, i) => {
      const g = gradient[i]!
      this.first[i] = (BETA1 * this.first[i]! + (1 - BETA1) * g) * off()
      this.second[i] = (BETA2 * this.second[i]! + (1 - BETA2) * g * g) * off()
      const mean = this.first[i]! / (1 - BETA1 ** step)
      const root = Math.sqrt(this.second[i]! / (1 - BETA2 ** step)) * off()
      return (p * (1 - lr * 0.1) - (lr * mean) / (root + 1e-8)) * off()
    })
  }
}

/** Both owners go through the same steps; the last sum is given to each on its own. */
function after(
  steps: number,
  sums: (gradients: Float32Array[]) => [own: Float32Array, theirs: Float32Array],
  { ulp = 0, contributors = 2 } = {},
): [Float32Array, Float32Array] {
  const [own, theirs] = [new Owner(), new Owner(ulp)]
  let parameters: Float32Array = noise()
  for (let step = 1; ; step++) {
    // What the contributors share, and what is each one's own.
    const common = noise()
    const gradients = Array.from({ length: contributors }, () => noise().map((x, i) => 0.2 * x + common[i]!))
    if (step === steps) {
      const [mine, primary] = sums(gradients)
      return [own.update(parameters, mine, step), theirs.update(parameters, primary, step)]
    }
    const sum = sumOf(gradients)
    const next = own.update(parameters, sum, step)
    theirs.update(parameters, sum, step)
    parameters = next
  }
}

const sumOf = (gradients: readonly Float32Array[]) => {
  return gradients[0]!.map((_, i) => gradients.reduce((sum, gradient) => Math.fround(sum + gradient[i]!), 0))
}
const honest = (gradients: Float32Array[]): [Float32Array, Float32Array] => [sumOf(gradients), sumOf(gradients)]

describe('two owners of a shard', () => {
  it.each([1, 2, 30, 150])('agree after %i steps on GPUs that round by several ULP apart', (steps) => {
    const [own, theirs] = after(steps, honest, { ulp: 4 })
    expect(own).not.toEqual(theirs)
    expect(parametersAgree(own, theirs, LR, config())).toBe(true)
  })

  it.each([
    ['lacks one of two contributors', 2, (g: Float32Array[]) => g.slice(1)],
    ['lacks one of sixteen', 16, (g: Float32Array[]) => g.slice(1)],
    ['has one of sixteen twice', 16, (g: Float32Array[]) => [...g, g[0]!]],
    ['has one of sixteen with the sign turned', 16, (g: Float32Array[]) => [g[0]!.map((x) => -x), ...g.slice(1)]],
    ['is of another step', 2, (g: Float32Array[]) => g.map(() => noise())],
  ])('disagree when one sum %s', (_, contributors, falsify) => {
    const sums = (g: Float32Array[]): [Float32Array, Float32Array] => [sumOf(g), sumOf(falsify(g))]
    for (const steps of [2, 30, 100]) {
      const [own, theirs] = after(steps, sums, { contributors })
      expect(parametersAgree(own, theirs, LR, config()), `step ${steps}`).toBe(false)
    }
  })

  it('disagree over one element that moved where no gradient takes it', () => {
    const own = noise()
    const theirs = own.slice()
    theirs[77]! += 0.3 * LR
    expect(parametersAgree(own, theirs, LR, config())).toBe(false)
  })

  it('disagree over a shard that was not updated', () => {
    const parameters = noise()
    const updated = new Owner().update(parameters, noise(), 1)
    expect(parametersAgree(updated, parameters, LR, config())).toBe(false)
  })

  it('may be further apart where moments are bf16, by what flips of their rounding make of a rate', () => {
    const own = noise()
    const theirs = own.map((x, i) => x + (i % 2 ? 0.005 : -0.005) * LR)
    expect(parametersAgree(own, theirs, LR, config())).toBe(false)
    expect(parametersAgree(own, theirs, LR, config({ optimizer: { moments: 'bf16' } }))).toBe(true)
  })

  it('agree on what diverged alike, and not on what diverged at one of them', () => {
    const own = noise()
    own[3] = NaN
    own[4] = Infinity
    expect(parametersAgree(own, own.slice(), LR, config())).toBe(true)
    for (const i of [3, 4]) {
      const theirs = own.slice()
      theirs[i] = 0
      expect(parametersAgree(own, theirs, LR, config())).toBe(false)
      expect(parametersAgree(theirs, own, LR, config())).toBe(false)
    }
  })

  it('disagree over shards of different length', () => {
    expect(parametersAgree(new Float32Array(3), new Float32Array(4), LR, config())).toBe(false)
  })
})
