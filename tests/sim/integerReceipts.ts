/** Owns digests and signatures of the simulation: short sums in place of hashes and keys. */
import { createHash } from 'node:crypto'
import { sumText, type Digest, type Receipt } from '../../src/protocol/receipt.ts'
import { addressOf } from './integerModel.ts'

const short = (digest: Digest | null) => (digest === null ? 0 : Number.parseInt(digest.slice(-8), 16))

/** A device's id: as long as a public key. */
export const deviceOf = (name: string) => addressOf(Array.from(name, (c) => c.charCodeAt(0)))

/**
 * Of a tensor that `maker` made from others. Two GPUs round differently, and one that has other inputs rounds them
 * otherwise: only what the same maker makes of the same tensors has the same bytes.
 */
export function digestOf(values: readonly number[], maker: number, from: readonly (Digest | null)[]): Digest {
  return addressOf([...values, maker, ...from.map(short)]).slice(-32)
}

/** The one digest that the server makes as well. */
export const sumDigest = (shares: readonly Digest[]): Digest =>
  createHash('sha256').update(sumText(shares)).digest('hex').slice(0, 32)

/** Of what nobody computed, such as the tensors of a liar. */
export const strangeDigest = (number: number): Digest => addressOf([number]).slice(-32)

export function hashOf({ generation, step, leases, stage, device, microbatches }: Receipt): string {
  const values = [generation, step, leases, stage, short(device)]
  for (const [microbatch, up, down, ...digests] of microbatches)
    values.push(microbatch, up, down, ...digests.map(short))
  return addressOf(values)
}

/** What only the device itself can say of it, in this world. */
export const signatureOf = (receipt: Receipt) => hashOf(receipt) + receipt.device
