/** Owns the hashing of boundary tensors and the signing of receipts: both beside the work on the GPU, never in its way. */
import { receiptsOf, receiptText, type Digest, type Receipt, type ReceiptEntry, type SignedReceipt } from '../protocol/receipt.ts' // prettier-ignore
import type { TensorAddress, TensorDigest } from './machineTypes.ts'

const DIGEST_BYTES = 16

/** What signs for a device. */
export interface DeviceSigner {
  /** The Ed25519 public key, in lower-case hex: the device's id. */
  readonly id: string
  /** An Ed25519 signature (RFC 8032) of 64 bytes. */
  sign(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array>
}

/** Whether a tensor is named in receipts: those that cross a boundary in training are. */
export function isClaimed({ kind, step }: Pick<TensorAddress, 'kind' | 'step'>, steps: number): boolean {
  // Rounds of an evaluation count on from the last training step.
  return (kind === 'activation' || kind === 'gradient') && step <= steps
}

/** The bytes are copied at once and hashed on another thread (WebCrypto); whoever needs the digest waits for it. */
export function digestOf(tensor: Uint8Array): Promise<Digest> {
  const digest = crypto.subtle
    .digest('SHA-256', tensor as Uint8Array<ArrayBuffer>)
    .then((hash) => hexOf(new Uint8Array(hash, 0, DIGEST_BYTES)))
  // Nobody may ever ask for it.
  digest.catch(() => undefined)
  return digest
}

/** @throws whatever hashing or signing throws */
export async function signReceipts(
  about: Omit<Receipt, 'version' | 'device' | 'peers' | 'microbatches'>,
  entries: readonly ReceiptEntry<TensorDigest>[],
  signer: DeviceSigner,
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
  for (const receipt of receiptsOf({ ...about, device: signer.id }, hashed)) {
    const signature = await signer.sign(new TextEncoder().encode(receiptText(receipt)))
    signed.push({ receipt, signature: hexOf(signature) })
  }
  return signed
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
