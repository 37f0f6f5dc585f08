import { describe, expect, it } from 'vitest'
import { microbatchCredit } from '../../../src/model/credit.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'

const small = { vocabSize: 48, dModel: 32, layers: 4, heads: 4, kvHeads: 2, ffn: 80, blockSize: 16 }
const config = (input: RunConfigInput = {}) =>
  runConfigSchema.parse({ stages: 2, model: small, microbatch: 3, ...input })

/** Six for each multiplied parameter and token, and twelve for each place of attention. */
function layerFlops(layers: number): number {
  const matrices = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 80 * 32
  return layers * 3 * 16 * (6 * matrices + 12 * 32 * 16)
}
const headFlops = 3 * 16 * 6 * 48 * 32

describe('the credit of a microbatch', () => {
  it('counts products and attention, and not the embedding, norms or padding', () => {
    expect(microbatchCredit(config({ partition: [3, 1] }), 0)).toBe(BigInt(layerFlops(3)))
    expect(microbatchCredit(config({ partition: [3, 1] }), 1)).toBe(BigInt(layerFlops(1) + headFlops))
  })

  it('is the same for the whole model however it is cut', () => {
    const sum = (input: RunConfigInput) => {
      const whole = config(input)
      let total = 0n
      for (let stage = 0; stage < whole.stages; stage++) total += microbatchCredit(whole, stage)
      return total
    }
    const alone = sum({ stages: 1 })
    expect(alone).toBe(BigInt(layerFlops(4) + headFlops))
    for (const cut of [{ stages: 2 }, { stages: 3, partition: [2, 1, 1] }, { stages: 4 }]) expect(sum(cut)).toBe(alone)
  })

  it('counts a tied embedding once: as the head', () => {
    const tied = config({ stages: 1, model: { ...small, tieEmbeddings: true } })
    expect(microbatchCredit(tied, 0)).toBe(microbatchCredit(config({ stages: 1 }), 0))
  })

  it('grows with the tokens of the microbatch and with nothing else of the run', () => {
    expect(microbatchCredit(config({ microbatch: 6 }), 1)).toBe(2n * microbatchCredit(config(), 1))
    expect(microbatchCredit(config({ codec: 'int8', replicas: 5, batch: 60 }), 1)).toBe(microbatchCredit(config(), 1))
  })

  it('is exact where a double would round', () => {
    const model = { vocabSize: 65_535, dModel: 16_383, layers: 1, heads: 1, kvHeads: 1, ffn: 65_535, blockSize: 8191 }
    const credit = microbatchCredit(config({ stages: 1, model, microbatch: 4095 }), 0)
    const [d, f, t] = [16_383n, 65_535n, 8191n]
    expect(credit).toBe(6n * (4n * d * d + 3n * f * d + 65_535n * d + 2n * d * t) * 4095n * t)
    expect(credit).toBeGreaterThan(BigInt(Number.MAX_SAFE_INTEGER))
  })
})
