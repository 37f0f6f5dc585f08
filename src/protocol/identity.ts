/** Owns what a device signs to say who it is, and the form in which keys and signatures travel. */
import { z } from 'zod'

/** A device is its Ed25519 public key (RFC 8032): 32 bytes in lower-case hex. */
export const deviceIdSchema = z.string().regex(/^[0-9a-f]{64}$/, 'must be a public key of 64 lower-case hex digits')
/** An Ed25519 signature: 64 bytes in lower-case hex. */
export const signatureSchema = z.string().regex(/^[0-9a-f]{128}$/, 'must be a signature of 128 lower-case hex digits')
/** 32 random bytes of the server, in lower-case hex; each is answered once. */
export const nonceSchema = z.string().regex(/^[0-9a-f]{64}$/)
/** Host and port of a server as its client dialled it: no scheme, no default port, lower case. */
const audienceSchema = z.string().min(1).max(300)

/** A node's answer to the `challenge` of its control socket. */
export const sessionProofSchema = z.object({
  audience: audienceSchema,
  nonce: nonceSchema,
  /** Over {@link sessionText}, by the device's key. */
  signature: signatureSchema,
})
export type SessionProof = z.infer<typeof sessionProofSchema>

/**
 * What a device signs to open or resume a session. The first line keeps the signature from meaning anything else; the audience
 * keeps one server from using it at another; the nonce keeps it from being used twice.
 */
export function sessionText(proof: Omit<SessionProof, 'signature'>, deviceId: string): Uint8Array<ArrayBuffer> {
  const lines = ['skein-session-v1', `audience ${proof.audience}`, `nonce ${proof.nonce}`, `device ${deviceId}`]
  return new TextEncoder().encode(lines.join('\n'))
}
