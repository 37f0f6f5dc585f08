/** Proves that a node token names its node, ends after a day and cannot be bent. */
import { describe, expect, it } from 'vitest'
import { createTokens, TOKEN_LIFETIME_MS } from '../../../server/control/tokens.ts'

const secret = new Uint8Array(32).fill(7)
const DEVICE = 'ab'.repeat(32)

describe('node tokens', () => {
  it('names the node, device and session it was issued to', () => {
    const tokens = createTokens(secret)
    const token = tokens.issue(`n${'a'.repeat(24)}`, DEVICE, 's-1_ABCDEFGH')
    expect(tokens.nodeOf(token)).toBe(`n${'a'.repeat(24)}`)
    expect(tokens.holderOf(token)).toEqual({
      nodeId: `n${'a'.repeat(24)}`,
      deviceId: DEVICE,
      sessionId: 's-1_ABCDEFGH',
    })
    expect(encodeURIComponent(token)).toBe(token)
    expect(token.length).toBeLessThan(200)
  })

  it('ends after its lifetime', () => {
    let time = 1_000_000
    const tokens = createTokens(secret, () => time)
    const token = tokens.issue('node', DEVICE, 'session')
    time += TOKEN_LIFETIME_MS - 1
    expect(tokens.nodeOf(token)).toBe('node')
    time += 1
    expect(tokens.nodeOf(token)).toBeNull()
  })

  it('refuses another secret, another id, another device, another session, another expiry, and noise', () => {
    const tokens = createTokens(secret)
    const token = tokens.issue('node', DEVICE, 'session')
    const [id, device, session, expiry, seal] = token.split('.') as [string, string, string, string, string]
    expect(createTokens(new Uint8Array(32).fill(8)).nodeOf(token)).toBeNull()
    expect(tokens.nodeOf(`other.${device}.${session}.${expiry}.${seal}`)).toBeNull()
    expect(tokens.nodeOf(`${id}.other.${session}.${expiry}.${seal}`)).toBeNull()
    expect(tokens.nodeOf(`${id}.${device}.other.${expiry}.${seal}`)).toBeNull()
    expect(tokens.nodeOf(`${id}.${device}.${session}.zzzzzzzzz.${seal}`)).toBeNull()
    expect(tokens.nodeOf(`${token}.x`)).toBeNull()
    for (let i = 0; i < token.length; i++) {
      const bent = `${token.slice(0, i)}${token[i] === 'A' ? 'B' : 'A'}${token.slice(i + 1)}`
      // The last base64url character of 32 bytes carries two bits that mean nothing.
      if (i < token.length - 1) expect(tokens.nodeOf(bent)).toBeNull()
    }
    for (const noise of ['', '.', '..', '...', 'a'.repeat(10_000), 'ü.ü.ü']) expect(tokens.nodeOf(noise)).toBeNull()
  })

  it('refuses a weak secret and an id that is none', () => {
    expect(() => createTokens(new Uint8Array(31))).toThrow(RangeError)
    expect(() => createTokens(secret).issue('a.b', DEVICE, 'c')).toThrow(RangeError)
    expect(() => createTokens(secret).issue('a', 'b.c', 'd')).toThrow(RangeError)
    expect(() => createTokens(secret).issue('a', DEVICE, 'b.c')).toThrow(RangeError)
  })
})
