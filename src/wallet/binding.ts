/** Owns how this browser's device is bound to a wallet, and how a wallet gives up a device: from the challenge to the signatures. */
import { bytesToHex } from '@noble/hashes/utils.js'
import { fail } from '../protocol/errors.ts'
import {
  challengeText,
  deviceProofText,
  type BindRequest,
  type Challenge,
  type ChallengeRequest,
  type Purpose,
  type RevokeRequest,
  type WalletDevices,
} from '../protocol/wallet.ts'
import type { DeviceKey } from '../store/deviceKey.ts'
import { signText, type WalletAccount } from './extension.ts'

/** What the server is asked. */
export interface WalletApi {
  challenge(request: ChallengeRequest): Promise<Challenge & { text: string }>
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

/** Voids devices of the account for good, lost ones too. @throws SkeinError as {@link bindDevice} */
export async function revokeDevices(options: BindingOptions, deviceIds: string[]): Promise<WalletDevices> {
  const { challenge, scheme, signature } = await signChallenge(options, 'revoke', deviceIds)
  return options.api.revoke({ challenge, scheme, signature })
}

async function signChallenge(options: BindingOptions, purpose: Purpose, devices: string[]) {
  const { api, site, account, sign = signText } = options
  const given = await api.challenge({ purpose, wallet: account.address, devices })
  // The text is written here, of what was asked for: a server that was broken into gets no other text signed.
  const text = challengeText({ ...given, site, purpose, wallet: account.address, devices })
  if (text !== given.text)
    fail(
      'wallet.challenge',
      'The server asks for another signature than was meant: nothing was signed.',
      'Check the address of this page; if it is right, tell the operator.',
    )
  const signature = await sign(account, text)
  return { challenge: given.id, scheme: account.scheme, signature, text }
}
