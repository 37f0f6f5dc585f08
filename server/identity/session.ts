/** Owns whether the device that a `hello` names is the one that speaks. */
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { sessionText, type SessionProof } from '../../src/protocol/identity.ts'
import { isOwnableKey, verifyEd25519 } from './ed25519.ts'

/** What the server knows of the socket that a proof came on. */
export interface Challenged {
  /** Sent on this socket and no other. */
  nonce: string
  /** By `audienceOf`; null when the upgrade named no host of this server. */
  audience: string | null
}

/** Null when the proof holds. */
export function checkSessionProof(deviceId: string, proof: SessionProof, asked: Challenged): ErrorBody | null {
  if (proof.nonce !== asked.nonce)
    return {
      code: 'identity.challenge',
      message: 'The device answered another challenge than the one of this connection.',
      remedy: 'It dials again by itself; if that goes on, reload the page.',
    }
  if (asked.audience === null || proof.audience !== asked.audience)
    return {
      code: 'identity.audience',
      message: `The device dialled ${proof.audience}, but this server was called ${asked.audience ?? 'by no name of its own'}.`,
      remedy: 'The operator lets the proxy pass the Host header on, and names every host of the server in SKEIN_HOSTS.',
    }
  if (!isOwnableKey(deviceId))
    return {
      code: 'identity.device_key',
      message: 'The device’s key is one that anybody could sign with.',
      remedy: 'Make a new key: clear this site’s data, or move the agent’s device.key away.',
    }
  const { signature, ...said } = proof
  if (verifyEd25519(deviceId, sessionText(said, deviceId), signature)) return null
  return {
    code: 'identity.signature',
    message: 'The signature is not one of the device that is named.',
    remedy: 'Reload the page to get the current version; agents are updated and started again.',
  }
}

export const OTHER_DEVICE: ErrorBody = {
  code: 'identity.session_device',
  message: 'The session belongs to another device.',
  remedy: 'Reload the page to start a session of this device.',
}
