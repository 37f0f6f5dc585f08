/** Owns the first weights of a run: a pure function of the seed and each tensor's name, whatever the partition. */
import type { StageLayout } from './layout.ts'

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const
const PARITY = 0x1bd11bda

/**
 * Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): two random
 * 32-bit words from a key and a counter, with no state in between. Writes them to `out[0]` and `out[1]`.
 */
export function threefry2x32(key0: number, key1: number, counter0: number, counter1: number, out: Uint32Array): void {
  const keys = [key0, key1, PARITY ^ key0 ^ key1]
  let x0 = (counter0 + key0) | 0
  let x1 = (counter1 + key1) | 0
  for (let group = 0; group < 5; group++) {
    for (let i = 0; i < 4; i++) {
      const bits = ROTATIONS[(group % 2) * 4 + i]!
      x0 = (x0 + x1) | 0
      x1 = ((x1 << bits) | (x1 >>> (32 - bits))) ^ x0
    }
    x0 = (x0 + keys[(group + 1) % 3]!) | 0
    x1 = (x1 + keys[(group + 2) % 3]! + group + 1) | 0
  }
  out[0] = x0
  out[1] = x1
}

/** FNV-1a over the UTF-16 code units, which are ASCII in every tensor name and node id. */
export function nameHash(name: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

/** Fills `values` with normals of standard deviation `std` (Box & Muller 1958, in f64), keyed by (seed, name). */
export function fillNormal(values: Float32Array, std: number, seed: number, name: string): void {
  const key = nameHash(name)
  const words = new Uint32Array(2)
  for (let i = 0; i < values.length; i += 2) {
    threefry2x32(seed, key, i / 2, 0, words)
    // The half keeps the logarithm's argument within (0, 1).
    const radius = std * Math.sqrt(-2 * Math.log((words[0]! + 0.5) / 2 ** 32))
    const angle = 2 * Math.PI * (words[1]! / 2 ** 32)
    values[i] = radius * Math.cos(angle)
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle)
  }
}

/**
 * The flat f32 vector a stage starts from: `layout.length` elements, normals (or zeros) for matrices, ones for norms, zeros in
 * the padding. `seed` is an unsigned 32-bit integer. Two partitions of one model start from the same tensors.
 */
export function initialParameters(layout: StageLayout, seed: number): Float32Array<ArrayBuffer> {
  const flat = new Float32Array(layout.length)
  for (const tensor of layout.tensors) {
    const values = flat.subarray(tensor.offset, tensor.offset + tensor.length)
    if (tensor.init === 'ones') values.fill(1)
    else if (tensor.init > 0) fillNormal(values, tensor.init, seed, tensor.name)
  }
  return flat
}
