/** Owns the check of a receipt's signature, before the orchestrator hears of it. */
import { createHash } from 'node:crypto'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { receiptText, signedReceiptText, type SignedReceipt } from '../../src/protocol/receipt.ts'
import { verifyEd25519 } from '../identity/ed25519.ts'

export interface CheckedReceipt {
  /** SHA-256 of the signed receipt, in hex: the ledger's name for it. */
  readonly hash: string
  /** Null when the device of this session signed it. */
  readonly fault: ErrorBody | null
}

const DEVICE: ErrorBody = {
  code: 'receipt.device',
  message: 'The receipt is another device’s.',
  remedy: 'Reload the page, so that it takes up its key again.',
}
const SIGNATURE: ErrorBody = {
  code: 'receipt.signature',
  message: 'The receipt’s signature is not that of this device.',
  remedy: 'Reload the page, so that it takes up its key again.',
}

/**
 * Done at once rather than beside: it takes a fraction of a millisecond, once a step and node, and what the node says next
 * is to find it done.
 */
export function checkReceipt({ receipt, signature }: SignedReceipt, deviceId: string): CheckedReceipt {
  const hash = createHash('sha256').update(signedReceiptText({ receipt, signature })).digest('hex')
  if (receipt.device !== deviceId) return { hash, fault: DEVICE }
  const genuine = verifyEd25519(deviceId, new TextEncoder().encode(receiptText(receipt)), signature)
  return { hash, fault: genuine ? null : SIGNATURE }
}
