/** Owns the verification of Ed25519 signatures by their raw keys, strictly enough that a key has one owner. */
import { createPublicKey, verify } from 'node:crypto'

/** The field's prime. */
const P = 2n ** 255n - 19n
/** The y coordinate of a point of order 8. */
const Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022n

/**
 * The y coordinates of the points of order 1, 2, 4 and 8 (RFC 7748, section 6.1): under such a key a signature can be made that
 * holds for any text, so that nobody owns it. Not every release of OpenSSL refuses them.
 */
const SMALL_ORDER: ReadonlySet<bigint> = new Set([0n, 1n, P - 1n, Y8, P - Y8])

function littleEndian(hex: string): bigint {
  return BigInt(`0x${Buffer.from(hex, 'hex').reverse().toString('hex')}`)
}

/** Whether 32 bytes, in hex, can be the key of somebody: written in the one way there is, and of no small order. */
export function isOwnableKey(publicKey: string): boolean {
  const y = littleEndian(publicKey) & (2n ** 255n - 1n)
  return y < P && !SMALL_ORDER.has(y)
}

/** @param publicKey, signature lower-case hex of 32 and 64 bytes */
export function verifyEd25519(publicKey: string, bytes: Uint8Array, signature: string): boolean {
  if (!isOwnableKey(publicKey)) return false
  const x = Buffer.from(publicKey, 'hex').toString('base64url')
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
    return verify(null, bytes, key, Buffer.from(signature, 'hex'))
  } catch {
    // Bytes that are no point of the curve.
    return false
  }
}
