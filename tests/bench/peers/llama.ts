/** Owns what the peers' models share: the tensors by name and the rotary tables. */
import { stageLayouts } from '../../../src/model/layout.ts'
import type { ModelConfig } from '../../../src/protocol/runConfig.ts'

export interface NamedTensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly values: Float32Array<ArrayBuffer>
  /** Matrices take weight decay, norms do not. */
  readonly decays: boolean
}

/** The parts of a stage's flat vector, copied. */
export function namedTensors(model: ModelConfig, flat: Float32Array): NamedTensor[] {
  return stageLayouts(model, 1)[0]!.tensors.map(({ name, shape, offset, length, init }) => ({
    name,
    shape,
    values: flat.slice(offset, offset + length),
    decays: init !== 'ones',
  }))
}

/**
 * cos and sin of every position, f32 [block, 2, headDim/2]: a head x [2, headDim/2] is turned to x·cos + flip(x)·sin, flip
 * exchanging the halves. The first half of `sin` is negative.
 */
export function rotaryTables({ blockSize, dModel, heads, ropeTheta }: ModelConfig) {
  const half = dModel / heads / 2
  const cos = new Float32Array(blockSize * 2 * half)
  const sin = new Float32Array(blockSize * 2 * half)
  for (let t = 0; t < blockSize; t++) {
    for (let i = 0; i < half; i++) {
      const angle = t * ropeTheta ** (-i / half)
      for (const part of [0, 1]) {
        const at = (2 * t + part) * half + i
        cos[at] = Math.cos(angle)
        sin[at] = part === 0 ? -Math.sin(angle) : Math.sin(angle)
      }
    }
  }
  return { cos, sin, shape: [blockSize, 1, 2, half] }
}
