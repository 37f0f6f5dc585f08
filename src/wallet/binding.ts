/** Owns how this browser's device is bound to a wallet, and how a wallet gives up a device: from the challenge to the signatures. */
import { bytesToHex } from '@noble/hashes/utils.js'
import { fail } from '../protocol/errors.ts'
import {
  challengeText,
  deviceProofText,
  type BindRequest,
  type ChallengeRequest,
  type ChallengeView,
  type DeviceProof,
  type Purpose,
  type RevokeRequest,
  type WalletDevices,
} from '../protocol/wallet.ts'
import type { DeviceKey } from '../store/deviceKey.ts'
import { signText, type WalletAccount } from './extension.ts'

/** What the server is asked. */
export interface WalletApi {
  challenge(request: ChallengeRequest): Promise<ChallengeView>
  open(id: string): Promise<ChallengeView>
  agree(id: string, proof: DeviceProof): Promise<ChallengeView>
  bind(request: BindRequest): Promise<WalletDevices>
  revoke(request: RevokeRequest): Promise<WalletDevices>
}

export interface BindingOptions {
  api: WalletApi
  /** Host of the page, which has to be the site that the challenge names. */
  site: string
  account: WalletAccount
  /** Has the account sign a text within `<Bytes>`; in a page, its wallet. */
  sign?: (account: WalletAccount, text: string) => Promise<string>
}

/**
 * Binds the device, so that its work is paid to the account; binding it again changes nothing.
 * @throws SkeinError `wallet.*` (see extension.ts), `wallet.challenge`, and what the server refuses: `identity.*`
 */
export async function bindDevice(options: BindingOptions, device: DeviceKey): Promise<WalletDevices> {
  const { challenge, scheme, signature, text } = await signChallenge(options, 'bind', [device.id])
  const proof = bytesToHex(await device.sign(deviceProofText(text)))
  return options.api.bind({ challenge, scheme, signature, proofs: [{ device: device.id, signature: proof }] })
}

/**
 * Binds devices of other machines: `asked` hears the id of the challenge with which each of them has to agree
 * (`npm run agent -- --agree ID`), `agreed` resolves when they have, and then the account signs.
 * @throws SkeinError as {@link bindDevice}
 */
export async function bindOtherDevices(
  options: BindingOptions,
  deviceIds: string[],
  agreed: (challengeId: string) => Promise<void>,
): Promise<WalletDevices> {
  const meant = await askChallenge(options, 'bind', deviceIds)
  await agreed(meant.id)
  const signature = await (options.sign ?? signText)(options.account, meant.text)
  return options.api.bind({ challenge: meant.id, scheme: options.account.scheme, signature, proofs: [] })
}

/**
 * Has a device agree with a challenge that somebody else asked for, after `confirm` has been told what it says.
 * @throws SkeinError `wallet.challenge` where the text is not what it should be, and `identity.*`
 */
export async function agreeToBinding(
  api: WalletApi,
  { site, challengeId, device }: { site: string; challengeId: string; device: DeviceKey },
  confirm: (challenge: ChallengeView) => Promise<boolean> | boolean,
): Promise<boolean> {
  const given = await api.open(challengeId)
  const text = challengeText({ ...given, id: challengeId, site, purpose: 'bind' })
  if (text !== given.text || !given.devices.includes(device.id)) refuseChallenge()
  if (!(await confirm(given))) return false
  await api.agree(challengeId, { device: device.id, signature: bytesToHex(await device.sign(deviceProofText(text))) })
  return true
}

/** Voids devices of the account for good, lost ones too. @throws SkeinError as {@link bindDevice} */
export async function revokeDevices(options: BindingOptions, deviceIds: string[]): Promise<WalletDevices> {
  const { challenge, scheme, signature } = await signChallenge(options, 'revoke', deviceIds)
  return options.api.revoke({ challenge, scheme, signature })
}

async function signChallenge(options: BindingOptions, purpose: Purpose, devices: string[]) {
  const { account, sign = signText } = options
  const { id, text } = await askChallenge(options, purpose, devices)
  return { challenge: id, scheme: account.scheme, signature: await sign(account, text), text }
}

async function askChallenge({ api, site, account }: BindingOptions, purpose: Purpose, devices: string[]) {
  const given = await api.challenge({ purpose, wallet: account.address, devices })
  // The text is written here, of what was asked for: a server that was broken into gets no other text signed.
  const text = challengeText({ ...given, site, purpose, wallet: account.address, devices })
  if (text !== given.text) refuseChallenge()
  return { id: given.id, text }
}

function refuseChallenge(): never {
  return fail(
    'wallet.challenge',
    'The server asks for another signature than was meant: nothing was signed.',
    'Check the address of this page; if it is right, tell the operator.',
  )
}
