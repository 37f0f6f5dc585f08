/** Proves the codec of addresses against the package that it stands for in the page. */
import * as reference from '@polkadot/util-crypto'
import { describe, expect, it } from 'vitest'
import { decodeAddress, encodeAddress, parseSs58 } from '../../../src/wallet/ss58.ts'

const keys = [0, 1, 127, 255].map((byte) => new Uint8Array(32).fill(byte))
keys.push(Uint8Array.from({ length: 32 }, (_, i) => (i * 37 + 11) & 255))
const prefixes = [0, 1, 2, 42, 63, 64, 255, 256, 1284, 2254, 16_383]

describe.each(prefixes)('an address of prefix %i', (prefix) => {
  it('is written and read as others do', () => {
    for (const key of keys) {
      const address = reference.encodeAddress(key, prefix)
      expect(encodeAddress(key, prefix)).toBe(address)
      expect(parseSs58(address)).toEqual({ prefix, publicKey: key })
      expect(decodeAddress(address)).toEqual(reference.decodeAddress(address))
    }
  })

  it('is none with any letter changed, left out or added', () => {
    const address = encodeAddress(keys.at(-1)!, prefix)
    for (let i = 0; i < address.length; i++) {
      const other = address[i] === 'z' ? 'y' : 'z'
      for (const bent of [other, '', address[i]! + other]) {
        expect(parseSs58(`${address.slice(0, i)}${bent}${address.slice(i + 1)}`)).toBeNull()
      }
    }
    for (const bent of [`1${address}`, ` ${address}`, `${address}\n`]) expect(parseSs58(bent)).toBeNull()
  })
})

it('is not read out of other texts', () => {
  for (const text of ['', '1', '11', '0x00', 'O0lI', '5'.repeat(48), '1'.repeat(49), '🌲'.repeat(20), 'z'.repeat(50)])
    expect(parseSs58(text)).toBeNull()
  // A short account index, and an Ethereum address.
  expect(parseSs58(reference.encodeAddress(new Uint8Array(8).fill(1), 42))).toBeNull()
  expect(parseSs58('0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045')).toBeNull()
  expect(() => decodeAddress('5')).toThrow(RangeError)
})

it('is of a 32-byte key and a prefix that there is', () => {
  expect(() => encodeAddress(new Uint8Array(31))).toThrow(RangeError)
  for (const prefix of [-1, 1.5, 16_384]) expect(() => encodeAddress(new Uint8Array(32), prefix)).toThrow(RangeError)
  // Two bytes of prefix for what fits in one would be a second way to write the same account.
  const twice = reference.base58Encode(
    (() => {
      const body = Uint8Array.from([0x40 | (42 >> 2), (42 & 3) << 6, ...keys[1]!])
      return Uint8Array.from([
        ...body,
        ...reference.blake2AsU8a(Uint8Array.from([...Buffer.from('SS58PRE'), ...body]), 512).subarray(0, 2),
      ])
    })(),
  )
  expect(reference.decodeAddress(twice)).toEqual(keys[1])
  expect(parseSs58(twice)).toBeNull()
})
