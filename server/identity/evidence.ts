/** Owns what is kept of a signed challenge: all of it, so that a stranger can verify years later who agreed to what. */
import { createHash } from 'node:crypto'
import type { DeviceProof, RemarkPayload, Scheme } from '../../src/protocol/wallet.ts'
import type { Evidence } from '../db/identityStore.ts'

export interface SignedChallenge {
  text: string
  /** The wallet's public key. */
  walletId: string
  scheme: Scheme
  /** The wallet's, over `<Bytes>text</Bytes>`; where there is a `remark`, over that extrinsic, which says the text. */
  signature: string
  remark?: RemarkPayload | undefined
  /** The devices', over `deviceProofText(text)`. */
  proofs: readonly DeviceProof[]
}

/** Keys sorted, no spaces, devices in order of their ids: the same signatures have one hash. */
export function evidenceOf({ proofs, remark, scheme, signature, text, walletId }: SignedChallenge): Evidence {
  const sorted = [...proofs].sort((a, b) => (a.device < b.device ? -1 : 1))
  const body = JSON.stringify({
    proofs: sorted.map(({ device, signature: of }) => ({ device, signature: of })),
    ...(remark && { remark: Object.fromEntries(Object.entries(remark).sort(([a], [b]) => (a < b ? -1 : 1))) }),
    scheme,
    signature,
    text,
    wallet: walletId,
  })
  return { hash: createHash('sha256').update(body).digest('hex'), body }
}
