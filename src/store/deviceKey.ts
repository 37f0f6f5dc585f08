/** Owns the device's Ed25519 key in a browser: made by WebCrypto so that nobody can read it, used to sign. */
import { bytesToHex } from '@noble/hashes/utils.js'
import { SkeinError } from '../protocol/errors.ts'

/** What signs for a device. */
export interface DeviceKey {
  /** The public key, in lower-case hex: the device's id. */
  readonly id: string
  /** An Ed25519 signature (RFC 8032) of 64 bytes. */
  sign(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>
}

/** A device's key as it is kept and handed to a Worker: structured cloning leaves the private half unreadable. */
export interface DeviceIdentity {
  readonly id: string
  readonly privateKey: CryptoKey
}

const ALGORITHM = 'Ed25519'

/** @throws SkeinError `identity.unsupported` where WebCrypto has no Ed25519 */
export async function createIdentity(): Promise<DeviceIdentity> {
  try {
    const { privateKey, publicKey } = (await crypto.subtle.generateKey(ALGORITHM, false, ['sign'])) as CryptoKeyPair
    return { id: bytesToHex(new Uint8Array(await crypto.subtle.exportKey('raw', publicKey))), privateKey }
  } catch (caught) {
    throw new SkeinError(
      {
        code: 'identity.unsupported',
        message: 'This browser cannot make the Ed25519 key by which a device is known.',
        remedy: 'Use Chrome or Edge from version 137, Firefox from 129 or Safari from 17, at an https address.',
      },
      { cause: caught },
    )
  }
}

export function deviceKey({ id, privateKey }: DeviceIdentity): DeviceKey {
  return { id, sign: async (bytes) => new Uint8Array(await crypto.subtle.sign(ALGORITHM, privateKey, bytes)) }
}
