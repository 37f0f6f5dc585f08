/** Owns the port of identities: which wallet has which devices, and the challenges by which that is signed. */
import type { Challenge, DeviceProof } from '../../src/protocol/wallet.ts'

export interface ChallengeRecord extends Challenge {
  /** The public key behind `wallet`. */
  walletId: string
}

export interface KeptChallenge extends ChallengeRecord {
  usedAt: number | null
  /** Of devices that agreed by themselves, each once. */
  proofs: DeviceProof[]
}

export interface BindingRecord {
  deviceId: string
  walletId: string
  /** SHA-256 of the evidence under which it was bound. */
  proof: string
  /** Unix milliseconds. */
  boundAt: number
  revokedAt: number | null
}

/** What was signed, whole, so that anybody can verify it again. */
export interface Evidence {
  /** SHA-256 of `body`. */
  hash: string
  /** Canonical JSON. */
  body: string
}

/** What the ledger is to say of identities. */
export type IdentityEntry =
  { kind: 'bind'; device: string; wallet: string; proof: string } | { kind: 'revoke'; device: string }

/** A signed challenge, verified, to be carried out. */
export interface Signed {
  challenge: ChallengeRecord
  evidence: Evidence
  /** Unix milliseconds. */
  at: number
}

/**
 * One interface, several databases: tests/unit/server/identityStore.compliance runs against each. All writes are durable on
 * return, whole or not at all, and follow one another even when several ask at once.
 */
export interface IdentityStore {
  /** Keeps a challenge unless `limit` are open by its `issuedAt`; forgets those that expired more than `keepMs` before. */
  addChallenge(challenge: ChallengeRecord, limit: number, keepMs: number): Promise<boolean>
  challenge(id: string): Promise<KeptChallenge | null>
  /** Keeps that a device agrees with a challenge. */
  addProof(challengeId: string, proof: DeviceProof): Promise<void>
  /**
   * Uses the challenge up and binds its devices to its wallet. Those it has already stay as they are; each other one becomes an
   * entry for the ledger. @throws SkeinError `identity.challenge_used`, `identity.device_bound`, `identity.device_revoked`
   */
  bind(signed: Signed): Promise<BindingRecord[]>
  /**
   * Uses the challenge up and voids its devices; those that are void already stay so, each other one becomes an entry for the
   * ledger. @throws SkeinError `identity.challenge_used`, `identity.not_bound` (to this wallet)
   */
  revoke(signed: Signed): Promise<BindingRecord[]>
  binding(deviceId: string): Promise<BindingRecord | null>
  /** Newest first. */
  bindingsOf(walletId: string, limit: number): Promise<BindingRecord[]>
  evidence(hash: string): Promise<string | null>
  /** What the ledger has not confirmed, oldest first. */
  entries(limit: number): Promise<{ id: number; entry: IdentityEntry }[]>
  dropEntry(id: number): Promise<void>
}
