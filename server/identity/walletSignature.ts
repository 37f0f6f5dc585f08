/** Owns whether a wallet signed a text: over the `<Bytes>` wrapping that extensions add, and over nothing else. */
import { hexToBytes } from '@noble/hashes/utils.js'
import { verify as verifySr25519 } from '@scure/sr25519'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { Scheme } from '../../src/protocol/wallet.ts'
import { verifyEd25519 } from './ed25519.ts'

export interface WalletSignature {
  scheme: Scheme
  /** Lower-case hex of 64 bytes. */
  signature: string
}

const encoded = (text: string) => new TextEncoder().encode(text)

/** Whether the wallet's key signed the bytes. */
export function holds(walletId: string, { scheme, signature }: WalletSignature, bytes: Uint8Array): boolean {
  if (scheme === 'ed25519') return verifyEd25519(walletId, bytes, signature)
  try {
    return verifySr25519(bytes, hexToBytes(signature), hexToBytes(walletId))
  } catch {
    // No sr25519 signature, or no point of its group.
    return false
  }
}

/**
 * Null when the wallet's key signed the wrapped text. Unwrapped, the same bytes could be a transaction that somebody was made to
 * sign: such a signature is refused although it is the wallet's.
 */
export function checkWalletSignature(walletId: string, given: WalletSignature, text: string): ErrorBody | null {
  if (holds(walletId, given, encoded(`<Bytes>${text}</Bytes>`))) return null
  if (holds(walletId, given, encoded(text)))
    return {
      code: 'identity.raw_signature',
      message: 'The text was signed as it is, not within <Bytes> and </Bytes>.',
      remedy: 'Sign with the extension’s signRaw for bytes, which wraps the text; sign nothing that is not wrapped.',
    }
  return NOT_SIGNED
}

export const NOT_SIGNED: ErrorBody = {
  code: 'identity.wallet_signature',
  message: 'The signature is not the wallet’s over this challenge.',
  remedy: 'Sign the challenge’s text, unchanged, with the account that it names.',
}
