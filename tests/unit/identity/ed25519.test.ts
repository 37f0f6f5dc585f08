/** Proves that a signature holds for one text and one key alone, and that a key which anybody can sign with is nobody's. */
import { expect, it } from 'vitest'
import { isOwnableKey, verifyEd25519 } from '../../../server/identity/ed25519.ts'
import { createIdentity, deviceKey } from '../../../src/store/deviceKey.ts'
import { testDevice } from '../deviceKeys.ts'

const text = (words: string) => new TextEncoder().encode(words)

it('verifies what WebCrypto signed with a key that it will not give away', async () => {
  const identity = await createIdentity()
  expect(identity.privateKey.extractable).toBe(false)
  const { id, sign } = deviceKey(structuredClone(identity))
  const signature = Buffer.from(await sign(text('claim'))).toString('hex')
  expect(verifyEd25519(id, text('claim'), signature)).toBe(true)
  expect(verifyEd25519(id, text('claim '), signature)).toBe(false)
  expect(verifyEd25519(testDevice(1).id, text('claim'), signature)).toBe(false)
  for (const at of [0, 63, 64, 127]) {
    const bent = `${signature.slice(0, at)}${signature[at] === '0' ? '1' : '0'}${signature.slice(at + 1)}`
    expect(verifyEd25519(id, text('claim'), bent), `digit ${at}`).toBe(false)
  }
})

it.each([
  ['0', '00'.repeat(32)],
  ['0 with a sign', `${'00'.repeat(31)}80`],
  ['1', `01${'00'.repeat(31)}`],
  ['-1', `ec${'ff'.repeat(30)}7f`],
  ['of order 8', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
  ['of order 8, the other', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
  ['the prime, which is 0 again', `ed${'ff'.repeat(30)}7f`],
  ['1 above the prime, which is 1 again', `ee${'ff'.repeat(30)}7f`],
])('the key %s is nobody’s', (_name, key) => {
  expect(isOwnableKey(key)).toBe(false)
})

it('leaves ordinary keys alone', () => {
  for (let seed = 1; seed < 100; seed++) expect(isOwnableKey(testDevice(seed).id)).toBe(true)
})
