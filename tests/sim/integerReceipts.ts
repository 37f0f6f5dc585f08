/** Owns digests and signatures of the simulation: short sums in place of hashes and keys. */
import type { Digest, Receipt } from '../../src/protocol/receipt.ts'
import { addressOf } from './integerModel.ts'

/** A device's id: as long as a public key. */
export const deviceOf = (name: string) => addressOf(Array.from(name, (c) => c.charCodeAt(0)))

/** Two sums of 32 bits in decimal: worlds make millions of them, and only compare them. */
class Sum {
  #a = 0x811c9dc5
  #b = 0

  add(value: number): void {
    this.#a = Math.imul(this.#a ^ value, 0x01000193)
    this.#b = (Math.imul(this.#b ^ (this.#a >>> 11), 0x2c1b3c6d) + value) | 0
  }

  addDigest(digest: Digest | null): void {
    // Up to the point: one of the two is enough to tell two digests apart here.
    this.add(digest === null ? 0 : Number.parseInt(digest, 10))
  }

  toString(): string {
    return `${this.#a >>> 0}.${this.#b >>> 0}`
  }
}

/**
 * Of a tensor that `maker` made from others. Two GPUs round differently, and one that has other inputs rounds them
 * otherwise: only what the same maker makes of the same tensors has the same bytes.
 */
export function digestOf(values: readonly number[], maker: number, from: readonly (Digest | null)[]): Digest {
  const sum = new Sum()
  sum.add(maker)
  for (const value of values) sum.add(value)
  for (const digest of from) sum.addDigest(digest)
  return sum.toString()
}

/** Of what nobody computed, such as the tensors of a liar. */
export const strangeDigest = (number: number): Digest => digestOf([number], -1, [])

/** Nobody changes a receipt that is signed; each is looked at by its maker and by the server. */
const hashes = new WeakMap<Receipt, string>()

export function hashOf(receipt: Receipt): string {
  let hash = hashes.get(receipt)
  if (hash === undefined) hashes.set(receipt, (hash = freshHash(receipt)))
  return hash
}

function freshHash({ generation, step, leases, stage, device, microbatches }: Receipt): string {
  const sum = new Sum()
  for (const value of [generation, step, leases, stage, Number.parseInt(device.slice(-8), 16)]) sum.add(value)
  for (const [microbatch, up, down, ...digests] of microbatches) {
    for (const value of [microbatch, up, down]) sum.add(value)
    for (const digest of digests) sum.addDigest(digest)
  }
  return sum.toString()
}

/** What only the device itself can say of it, in this world. */
export const signatureOf = (receipt: Receipt) => hashOf(receipt) + receipt.device
