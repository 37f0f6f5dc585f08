/** Owns who belongs to whom: hands out challenges, checks what was signed, and tells the ledger what came of it. */
import { randomBytes } from 'node:crypto'
import { bytesToHex } from '@noble/hashes/utils.js'
import { fail, SkeinError, type ErrorBody } from '../../src/protocol/errors.ts'
import {
  challengeText,
  deviceProofText,
  type BindRequest,
  type Challenge,
  type DeviceProof,
  type Purpose,
  type RemarkPayload,
  type RevokeRequest,
} from '../../src/protocol/wallet.ts'
import { parseSs58 } from '../../src/wallet/ss58.ts'
import type {
  BindingRecord,
  ChallengeRecord,
  IdentityEntry,
  IdentityStore,
  KeptChallenge,
} from '../db/identityStore.ts'
import { isOwnableKey, verifyEd25519 } from './ed25519.ts'
import { evidenceOf } from './evidence.ts'
import { CHALLENGE_USED, deviceRevoked } from './refusals.ts'
import { checkRemark, NO_CHAIN, type Remarks } from './remark.ts'
import { checkWalletSignature } from './walletSignature.ts'

export const REGISTRY_LIMITS = {
  /** From a challenge's issue to its expiry: long enough to read it and to find a password. */
  challengeMs: 10 * 60_000,
  /** How long one that expired is still known as such. */
  keepMs: 60 * 60_000,
  /** Challenges that may wait for their signatures at a time. */
  open: 10_000,
  /** How far another server's clock, or this one's before it was set, may have been ahead. */
  skewMs: 60_000,
  /** Devices of a wallet that are listed. */
  listed: 1000,
}

const ENTRIES_AT_ONCE = 100

export interface RegistryOptions {
  store: IdentityStore
  /** Of the chain. */
  ss58Prefix: () => number
  /** What remarks are read by; null where no chain is configured. @throws what the chain says while it cannot be asked */
  remarks: () => Remarks | null
  /**
   * Takes an entry into the ledger. Each is offered in order and again until this resolves, in the next process too: one that the
   * ledger has already is to be passed over. Where there is no ledger they wait in the store.
   */
  recorded: ((entry: IdentityEntry) => Promise<void>) | null
  /** A device's key is void from now on. */
  revoked(deviceId: string): void
  /** What `recorded` threw; it is tried again at the next change and the next start. */
  failed(error: unknown): void
  /** Unix milliseconds. */
  now?: () => number
}

export class Registry {
  readonly #options: RegistryOptions
  readonly #now: () => number
  #recording: Promise<void> = Promise.resolve()

  constructor(options: RegistryOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** SS58 prefix of the chain's addresses. @throws what the chain says while it cannot be asked */
  get ss58Prefix(): number {
    return this.#options.ss58Prefix()
  }

  /** @throws SkeinError `identity.ss58`, `identity.ss58_prefix`; what {@link ss58Prefix} throws */
  walletIdOf(address: string): string {
    const parsed = parseSs58(address)
    if (!parsed)
      return fail(
        'identity.ss58',
        'The wallet’s address is not valid SS58.',
        'Copy it again: a letter is missing, or not the right one.',
      )
    const { ss58Prefix } = this
    if (parsed.prefix !== ss58Prefix)
      fail(
        'identity.ss58_prefix',
        `The address has the SS58 prefix ${parsed.prefix}; accounts of this chain have ${ss58Prefix}.`,
        'Give the address of the same account on this chain; wallets can show it.',
      )
    return bytesToHex(parsed.publicKey)
  }

  /** @throws SkeinError `identity.ss58`, `identity.ss58_prefix`, `identity.device_key`, `identity.too_many_challenges` */
  async challenge(site: string, purpose: Purpose, wallet: string, devices: string[]): Promise<Challenge> {
    const walletId = this.walletIdOf(wallet)
    for (const device of devices)
      if (!isOwnableKey(device))
        fail('identity.device_key', `${device} is nobody’s key.`, 'Name devices by the ids that they show.')
    const issuedAt = this.#now()
    const record: ChallengeRecord = {
      id: randomBytes(16).toString('hex'),
      purpose,
      site,
      wallet,
      walletId,
      devices,
      nonce: randomBytes(32).toString('hex'),
      issuedAt,
      expiresAt: issuedAt + REGISTRY_LIMITS.challengeMs,
    }
    const { open, keepMs } = REGISTRY_LIMITS
    if (!(await this.#options.store.addChallenge(record, open, keepMs)))
      fail(
        'identity.too_many_challenges',
        'Too many challenges wait for a signature.',
        'Try again in a few minutes, when some of them have expired.',
      )
    return record
  }

  /** @throws SkeinError `identity.challenge_unknown` */
  async open(id: string): Promise<KeptChallenge> {
    return (
      (await this.#options.store.challenge(id)) ??
      fail('identity.challenge_unknown', 'This server gave no such challenge.', 'Ask for a challenge, and sign it.')
    )
  }

  /**
   * Keeps that a device agrees, so that a wallet elsewhere can bind it. @throws SkeinError `identity.*`
   */
  async agree(site: string, id: string, proof: DeviceProof): Promise<KeptChallenge> {
    const challenge = this.#answerable(await this.open(id), site, 'bind')
    if (!challenge.devices.includes(proof.device))
      fail(
        'identity.device_not_asked',
        'The challenge is not about this device.',
        'Ask for a challenge that names the device’s id.',
      )
    await this.#options.store.addProof(id, proofOf(proof.device, [proof], challengeText(challenge)))
    return this.open(id)
  }

  /** @throws SkeinError `identity.*`: a code for each thing that can be wrong */
  async bind(site: string, request: BindRequest): Promise<BindingRecord[]> {
    const challenge = await this.#signed(site, 'bind', request)
    const text = challengeText(challenge)
    const given = [...request.proofs, ...challenge.proofs]
    const proofs = challenge.devices.map((device) => proofOf(device, given, text))
    const evidence = evidenceOf({ ...request, text, walletId: challenge.walletId, proofs })
    const bound = await this.#options.store.bind({ challenge, evidence, at: this.#now() })
    await this.record()
    return bound
  }

  /** @throws SkeinError `identity.*` */
  async revoke(site: string, request: RevokeRequest): Promise<BindingRecord[]> {
    const challenge = await this.#signed(site, 'revoke', request)
    const text = challengeText(challenge)
    const evidence = evidenceOf({ ...request, text, walletId: challenge.walletId, proofs: [] })
    const revoked = await this.#options.store.revoke({ challenge, evidence, at: this.#now() })
    for (const { deviceId } of revoked) this.#options.revoked(deviceId)
    await this.record()
    return revoked
  }

  /**
   * The challenge as an extrinsic, for a wallet that signs nothing else.
   * @throws SkeinError `identity.*`, `identity.no_chain` where no chain is configured, `chain.unreachable`
   */
  async remark(site: string, id: string): Promise<RemarkPayload> {
    const given = await this.open(id)
    const challenge = this.#answerable(given, site, given.purpose)
    return this.#remarks().remarkOf(challenge.walletId, challengeText(challenge))
  }

  binding(deviceId: string): Promise<BindingRecord | null> {
    return this.#options.store.binding(deviceId)
  }

  bindingsOf(walletId: string): Promise<BindingRecord[]> {
    return this.#options.store.bindingsOf(walletId, REGISTRY_LIMITS.listed)
  }

  evidence(hash: string): Promise<string | null> {
    return this.#options.store.evidence(hash)
  }

  /** Why a device may not come in; null: it may. */
  async barred(deviceId: string): Promise<ErrorBody | null> {
    const binding = await this.#options.store.binding(deviceId)
    return binding?.revokedAt == null ? null : deviceRevoked(deviceId)
  }

  /** Offers the ledger what it has not taken; to be called at the start as well. Never throws: the entries are kept. */
  record(): Promise<void> {
    this.#recording = this.#recording.then(() => this.#drain()).catch((caught) => this.#options.failed(caught))
    return this.#recording
  }

  async #drain(): Promise<void> {
    const { store, recorded } = this.#options
    while (recorded) {
      const entries = await store.entries(ENTRIES_AT_ONCE)
      if (entries.length === 0) return
      for (const { id, entry } of entries) {
        await recorded(entry)
        await store.dropEntry(id)
      }
    }
  }

  #remarks(): Remarks {
    const remarks = this.#options.remarks()
    if (!remarks) throw new SkeinError(NO_CHAIN)
    return remarks
  }

  /** The challenge that a request answers, once everything but the devices' proofs has been checked. */
  async #signed(site: string, purpose: Purpose, request: RevokeRequest): Promise<KeptChallenge> {
    const challenge = this.#answerable(await this.open(request.challenge), site, purpose)
    const { remark } = request
    const text = challengeText(challenge)
    const error = remark
      ? await checkRemark(this.#remarks(), challenge.walletId, { ...request, remark }, text)
      : checkWalletSignature(challenge.walletId, request, text)
    if (error) throw new SkeinError(error)
    return challenge
  }

  /** The challenge, where it may still be answered here and now. */
  #answerable(challenge: KeptChallenge, site: string, purpose: Purpose): KeptChallenge {
    if (challenge.purpose !== purpose)
      fail(
        'identity.challenge_purpose',
        `The challenge was given to ${challenge.purpose} devices, not to ${purpose} them.`,
        `Ask for a challenge with the purpose ${purpose}.`,
      )
    if (challenge.site !== site)
      fail(
        'identity.challenge_domain',
        `The challenge is of ${challenge.site}, and this is ${site}.`,
        'Sign only what names the site that you are at; then ask this site for a challenge.',
      )
    const now = this.#now()
    if (challenge.issuedAt > now + REGISTRY_LIMITS.skewMs)
      fail(
        'identity.clock_skew',
        'By the server’s clock the challenge is of the future.',
        'Ask for a new challenge; the operator sets the clocks of the servers right.',
      )
    if (challenge.usedAt !== null) throw new SkeinError(CHALLENGE_USED)
    if (challenge.expiresAt <= now)
      fail('identity.challenge_expired', 'The challenge has expired.', 'Ask for a new challenge and sign that one.')
    return challenge
  }
}

function proofOf(device: string, proofs: readonly DeviceProof[], text: string): DeviceProof {
  const proof = proofs.find((candidate) => candidate.device === device)
  if (!proof)
    return fail(
      'identity.device_proof_missing',
      `The device ${device} has not agreed to be bound.`,
      'Bind a device where it is: its own key has to sign the challenge too.',
    )
  if (verifyEd25519(device, deviceProofText(text), proof.signature)) return proof
  return fail(
    'identity.device_proof',
    `The agreement of the device ${device} is not signed by its key over this challenge.`,
    'Have that device itself sign the challenge.',
  )
}
