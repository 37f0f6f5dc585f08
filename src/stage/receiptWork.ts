/** Owns the hashing of tensors and the signing of receipts: both beside the work on the GPU, never in its way. */
import { bytesToHex } from '@noble/hashes/utils.js'
import { receiptsOf, receiptText, sumText, type Digest, type Receipt, type ReceiptEntry, type SignedReceipt } from '../protocol/receipt.ts' // prettier-ignore
import type { DeviceKey } from '../store/deviceKey.ts'
import type { StageAction, StageEvent, TensorAddress, TensorDigest } from './machineTypes.ts'

const DIGEST_BYTES = 16

/** Whether a tensor is named in receipts: those that cross a boundary in training are, and shares of the gradient sum. */
export function isClaimed({ kind, step }: Pick<TensorAddress, 'kind' | 'step'>, steps: number): boolean {
  if (kind === 'gradientShard' || kind === 'relayedShard') return true
  // Rounds of an evaluation count on from the last training step.
  return (kind === 'activation' || kind === 'gradient') && step <= steps
}

/** The bytes are copied at once and hashed on another thread (WebCrypto); whoever needs the digest waits for it. */
export function digestOf(tensor: Uint8Array): Promise<Digest> {
  const digest = crypto.subtle
    .digest('SHA-256', tensor as Uint8Array<ArrayBuffer>)
    .then((hash) => bytesToHex(new Uint8Array(hash, 0, DIGEST_BYTES)))
  // Nobody may ever ask for it.
  digest.catch(() => undefined)
  return digest
}

const known = (digests: readonly TensorDigest[]) => Promise.all(digests.map(async (digest) => digest))

/** The answer to `tally`. @throws whatever hashing throws */
export async function tallyOf(
  generation: number,
  { step, attempt, shard, digests }: Extract<StageAction<Uint8Array>, { type: 'tally' }>,
): Promise<StageEvent<never>> {
  const message = { type: 'tallied', generation, step, attempt, shard, digests: await known(digests) } as const
  return { type: 'tallied', generation, message }
}

/** The digest of a sum of these shares. @throws whatever hashing throws */
export async function sumDigestOf(shares: readonly TensorDigest[]): Promise<Digest> {
  return digestOf(new TextEncoder().encode(sumText(await known(shares))))
}

/** @throws whatever hashing or signing throws */
export async function signReceipts(
  about: Omit<Receipt, 'version' | 'device' | 'peers' | 'microbatches' | 'shares'>,
  entries: readonly ReceiptEntry<TensorDigest>[],
  shares: readonly TensorDigest[],
  signer: DeviceKey,
): Promise<SignedReceipt[]> {
  const hashed = await Promise.all(
    entries.map(async (entry) => ({
      ...entry,
      activationTaken: await entry.activationTaken,
      activationMade: await entry.activationMade,
      gradientTaken: await entry.gradientTaken,
      gradientMade: await entry.gradientMade,
    })),
  )
  const signed: SignedReceipt[] = []
  for (const receipt of receiptsOf({ ...about, device: signer.id, shares: await known(shares) }, hashed)) {
    const signature = await signer.sign(new TextEncoder().encode(receiptText(receipt)))
    signed.push({ receipt, signature: bytesToHex(signature) })
  }
  return signed
}
