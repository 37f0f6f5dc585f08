/** Owns how a wallet and its devices become one: the text that both sign, and the bodies of the routes under `/api/v1/wallet`. */
import { z } from 'zod'
import { deviceIdSchema, nonceSchema, signatureSchema } from './identity.ts'

/** Devices in one challenge. */
export const MAX_CHALLENGE_DEVICES = 32

/** An account's public key, 32 bytes in lower-case hex; SS58 is for people and wallets alone. */
export const walletIdSchema = z.string().regex(/^[0-9a-f]{64}$/)
/** What may be an address; the codec says whether it is one. */
export const ss58TextSchema = z.string().min(1).max(64)

export const purposeSchema = z.enum(['bind', 'revoke'])
export type Purpose = z.infer<typeof purposeSchema>

/** How the account's key signs. */
export const schemeSchema = z.enum(['sr25519', 'ed25519'])
export type Scheme = z.infer<typeof schemeSchema>

export const walletInfoSchema = z.object({
  /** The chain's SS58 prefix: addresses of another one are refused. */
  ss58Prefix: z.int().min(0).max(16_383),
})

export const challengeRequestSchema = z.object({
  purpose: purposeSchema.default('bind'),
  wallet: ss58TextSchema.describe('SS58, with the prefix of GET /api/v1/wallet.'),
  devices: z
    .array(deviceIdSchema)
    .min(1)
    .max(MAX_CHALLENGE_DEVICES)
    .refine((devices) => new Set(devices).size === devices.length, 'must name each device once'),
})
export type ChallengeRequest = z.input<typeof challengeRequestSchema>

export const challengeSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  purpose: purposeSchema,
  /** The host that the request came to. */
  site: z.string(),
  /** SS58. */
  wallet: z.string(),
  devices: z.array(deviceIdSchema),
  nonce: nonceSchema,
  /** Unix milliseconds by the server's clock; no other clock counts. */
  issuedAt: z.int(),
  expiresAt: z.int(),
})
export type Challenge = z.infer<typeof challengeSchema>

const hex = (bytes: number) => z.string().regex(new RegExp(`^0x(?:[0-9a-f]{2}){1,${bytes}}$`))
const hash = z.string().regex(/^0x[0-9a-f]{64}$/)

/** A challenge is under 3 KB with all its devices. */
const MAX_CALL_BYTES = 8192

/**
 * An extrinsic as extensions are asked to sign it (`SignerPayloadJSON` of @polkadot/types), numbers big-endian: a call of
 * `system.remark` with a challenge's text, for whoever signs extrinsics and nothing else, as a Ledger does.
 */
export const remarkPayloadSchema = z.strictObject({
  address: ss58TextSchema,
  blockHash: hash,
  blockNumber: hex(8),
  era: hex(2),
  genesisHash: hash,
  method: hex(MAX_CALL_BYTES),
  nonce: hex(8),
  signedExtensions: z.array(z.string().max(64)).max(64),
  specVersion: hex(4),
  tip: hex(16),
  transactionVersion: hex(4),
  version: z.int().min(4).max(5),
})
export type RemarkPayload = z.infer<typeof remarkPayloadSchema>

/**
 * A wallet's signature: over the challenge's text within `<Bytes>` and `</Bytes>`, as extensions make it; or over `remark`, which
 * says the same and is never submitted.
 */
const walletSignature = {
  challenge: challengeSchema.shape.id,
  scheme: schemeSchema,
  signature: signatureSchema,
  remark: remarkPayloadSchema.optional(),
}

/** A device's signature over {@link deviceProofText}. */
export const deviceProofSchema = z.object({ device: deviceIdSchema, signature: signatureSchema })
export type DeviceProof = z.infer<typeof deviceProofSchema>

/** The challenge with its text, which is what {@link challengeText} makes of it, and the devices that have agreed so far. */
export const challengeViewSchema = challengeSchema.extend({ text: z.string(), agreed: z.array(deviceIdSchema) })
export type ChallengeView = z.infer<typeof challengeViewSchema>

export const bindRequestSchema = z.object({
  ...walletSignature,
  /** One of each device of the challenge that has not agreed by itself. */
  proofs: z.array(deviceProofSchema).max(MAX_CHALLENGE_DEVICES),
})
export type BindRequest = z.infer<typeof bindRequestSchema>

export const revokeRequestSchema = z.object(walletSignature)
export type RevokeRequest = z.infer<typeof revokeRequestSchema>

export const deviceViewSchema = z.object({
  deviceId: deviceIdSchema,
  /** SS58; null for a device that no wallet ever bound. */
  wallet: z.string().nullable(),
  /** The same as a public key. */
  walletId: walletIdSchema.nullable(),
  /** Unix milliseconds. */
  boundAt: z.int().nullable(),
  revokedAt: z.int().nullable(),
  /** SHA-256 of what was signed, for GET /api/v1/wallet/proofs/:hash. */
  proof: z.string().nullable(),
})
export type DeviceView = z.infer<typeof deviceViewSchema>

export const walletDevicesSchema = z.object({
  wallet: z.string(),
  walletId: walletIdSchema,
  /** Newest first. */
  devices: z.array(deviceViewSchema),
})
export type WalletDevices = z.infer<typeof walletDevicesSchema>

const statements: Record<Purpose, string> = {
  bind: 'From now on this account is paid for the work of these devices, and for their unpaid work until now:',
  revoke: 'These devices no longer belong to this account, and their keys are void for good:',
}

/**
 * What the account signs, for a person to read first. It names the site before all else, so that what is signed at one site is
 * of no use at another; it cannot begin as hex does, which extensions would show as bytes.
 */
export function challengeText(challenge: Challenge): string {
  const { site, purpose, wallet, devices, nonce, issuedAt, expiresAt } = challenge
  return [
    `Skein at ${site} asks the account`,
    wallet,
    `to ${purpose} ${devices.length === 1 ? 'a device' : `${devices.length} devices`}.`,
    '',
    statements[purpose],
    ...devices.map((device) => `- ${device}`),
    '',
    'This moves no money and costs nothing.',
    '',
    `Purpose: skein-wallet-${purpose}-v1`,
    `Nonce: ${nonce}`,
    `Issued: ${new Date(issuedAt).toISOString()}`,
    `Expires: ${new Date(expiresAt).toISOString()}`,
  ].join('\n')
}

/** What a device signs to agree with a challenge; the first line keeps the signature from meaning anything else. */
export function deviceProofText(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`skein-device-binding-v1\n${text}`)
}
