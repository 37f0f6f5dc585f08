/** Owns wallets for tests: keys made from a number, which sign as extensions do. */
import { bytesToHex } from '@noble/hashes/utils.js'
import {
  ed25519PairFromSeed,
  ed25519Sign,
  encodeAddress,
  sr25519PairFromSeed,
  sr25519Sign,
} from '@polkadot/util-crypto'
import { deviceProofText, type Scheme } from '../../../src/protocol/wallet.ts'
import type { TestDevice } from '../deviceKeys.ts'

export function testWallet(seed: number, scheme: Scheme = 'sr25519') {
  const bytes = new Uint8Array(32).fill(seed)
  const pair = scheme === 'sr25519' ? sr25519PairFromSeed(bytes) : ed25519PairFromSeed(bytes)
  const sign = scheme === 'sr25519' ? sr25519Sign : ed25519Sign
  const raw = (text: string) => bytesToHex(sign(new TextEncoder().encode(text), pair))
  return {
    scheme,
    walletId: bytesToHex(pair.publicKey),
    address: (prefix = 42) => encodeAddress(pair.publicKey, prefix),
    /** What an extension's `signRaw` gives for bytes. */
    sign: (text: string) => raw(`<Bytes>${text}</Bytes>`),
    /** What no extension should. */
    signUnwrapped: raw,
  }
}
export type TestWallet = ReturnType<typeof testWallet>

export const agree = (device: TestDevice, text: string) => ({
  device: device.id,
  signature: device.signHex(deviceProofText(text)),
})
