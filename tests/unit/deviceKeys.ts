/** Owns devices for tests: keys made from a number, and what such a device answers to a challenge. */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { sessionText, type SessionProof } from '../../src/protocol/identity.ts'
import type { DeviceKey } from '../../src/store/deviceKey.ts'

export interface TestDevice extends DeviceKey {
  /** Hex of a signature. */
  signHex(bytes: Uint8Array): string
  prove(audience: string, nonce: string): SessionProof
}

/** The same key for the same number. */
export function testDevice(seed: number): TestDevice {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, seed)])
  const privateKey = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' })
  const id = Buffer.from(x!, 'base64url').toString('hex')
  const signHex = (bytes: Uint8Array) => sign(null, bytes, privateKey).toString('hex')
  return {
    id,
    sign: (bytes) => Promise.resolve(new Uint8Array(sign(null, bytes, privateKey))),
    signHex,
    prove(audience, nonce) {
      const said = { audience, nonce }
      return { ...said, signature: signHex(sessionText(said, id)) }
    },
  }
}
