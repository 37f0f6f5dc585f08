/**
 * Owns SS58, the form in which people see a public key: base58 of prefix, key and checksum
 * (https://docs.polkadot.com/reference/parachains/accounts/#address-format). It stands in the page for a package forty times as
 * large, under that package's names.
 */
import { blake2b } from '@noble/hashes/blake2.js'

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const KEY_BYTES = 32
const CHECKSUM_BYTES = 2
/** No address of a 32-byte key is longer: two bytes of prefix. */
const LONGEST = 50
const GENERIC = 42

export interface Ss58 {
  /** Of the network. */
  prefix: number
  publicKey: Uint8Array
}

function toBase58(bytes: Uint8Array): string {
  let value = 0n
  for (const byte of bytes) value = value * 256n + BigInt(byte)
  let text = ''
  for (; value > 0n; value /= 58n) text = ALPHABET[Number(value % 58n)]! + text
  const zeros = bytes.findIndex((byte) => byte !== 0)
  return '1'.repeat(zeros < 0 ? bytes.length : zeros) + text
}

function fromBase58(text: string): Uint8Array | null {
  let value = 0n
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter)
    if (digit < 0) return null
    value = value * 58n + BigInt(digit)
  }
  const bytes: number[] = []
  for (; value > 0n; value /= 256n) bytes.unshift(Number(value % 256n))
  const zeros = /^1*/.exec(text)![0].length
  return Uint8Array.from([...new Array<number>(zeros).fill(0), ...bytes])
}

function checksum(body: Uint8Array): Uint8Array {
  const salted = Uint8Array.from([...new TextEncoder().encode('SS58PRE'), ...body])
  return blake2b(salted, { dkLen: 64 }).subarray(0, CHECKSUM_BYTES)
}

function prefixBytes(prefix: number): number[] {
  if (prefix < 64) return [prefix]
  return [((prefix & 0xfc) >> 2) | 0x40, (prefix >> 8) | ((prefix & 3) << 6)]
}

/** Null for what is no address of a 32-byte key, or is one written otherwise than there is but one way to write it. */
export function parseSs58(text: string): Ss58 | null {
  if (text.length > LONGEST) return null
  const bytes = fromBase58(text)
  if (!bytes || bytes.length === 0) return null
  const first = bytes[0]!
  const width = first < 64 ? 1 : 2
  if (first > 127 || bytes.length !== width + KEY_BYTES + CHECKSUM_BYTES) return null
  const second = bytes[1]!
  const prefix = width === 1 ? first : ((first & 0x3f) << 2) | (second >> 6) | ((second & 0x3f) << 8)
  const body = bytes.subarray(0, width + KEY_BYTES)
  const [a, b] = checksum(body)
  if (bytes[width + KEY_BYTES] !== a || bytes[width + KEY_BYTES + 1] !== b) return null
  const publicKey = body.slice(width)
  return encodeAddress(publicKey, prefix) === text ? { prefix, publicKey } : null
}

/** @throws RangeError for a key that is not 32 bytes, or a prefix that there is not */
export function encodeAddress(publicKey: Uint8Array, prefix = GENERIC): string {
  if (publicKey.length !== KEY_BYTES) throw new RangeError('A public key has 32 bytes.')
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > 16_383) throw new RangeError(`No SS58 prefix: ${prefix}`)
  const body = Uint8Array.from([...prefixBytes(prefix), ...publicKey])
  return toBase58(Uint8Array.from([...body, ...checksum(body)]))
}

/** @throws RangeError for what is no address */
export function decodeAddress(text: string): Uint8Array {
  const parsed = parseSs58(text)
  if (!parsed) throw new RangeError(`Not an address: ${text.slice(0, 60)}`)
  return parsed.publicKey
}
