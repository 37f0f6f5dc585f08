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
  type RemarkPayload,
  type RevokeRequest,
  type WalletDevices,
} from '../protocol/wallet.ts'
import { parseSs58 } from './ss58.ts'
import type { DeviceKey } from '../store/deviceKey.ts'
import { signRemark, signText, type WalletAccount } from './extension.ts'

/** What the server is asked. */
export interface WalletApi {
  challenge(request: ChallengeRequest): Promise<ChallengeView>
  open(id: string): Promise<ChallengeView>
  /** The challenge as an extrinsic. */
  remark(id: string): Promise<RemarkPayload>
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
  /** Has the account sign the same as a remark, for a wallet that signs no texts; told the text too. */
  byRemark?: boolean
  signPayload?: (account: WalletAccount, payload: RemarkPayload, text: string) => Promise<string>
}

/**
 * Binds the device, so that its work is paid to the account; binding it again changes nothing.
 * @throws SkeinError `wallet.*` (see extension.ts), `wallet.challenge`, and what the server refuses: `identity.*`
 */
export async function bindDevice(options: BindingOptions, device: DeviceKey): Promise<WalletDevices> {
  const { text, ...signed } = await signChallenge(options, 'bind', [device.id])
  const proof = bytesToHex(await device.sign(deviceProofText(text)))
  return options.api.bind({ ...signed, proofs: [{ device: device.id, signature: proof }] })
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
  const { text: _, ...signed } = await signChallenge(options, 'revoke', deviceIds)
  return options.api.revoke(signed)
}

async function signChallenge(options: BindingOptions, purpose: Purpose, devices: string[]) {
  const { account, api, sign = signText, signPayload = (by, payload) => signRemark(by, payload) } = options
  const { id, text } = await askChallenge(options, purpose, devices)
  const about = { challenge: id, scheme: account.scheme, text }
  if (!(options.byRemark ?? account.hardware)) return { ...about, signature: await sign(account, text) }
  const remark = await api.remark(id)
  // A server that was broken into gets nothing signed that says more than the text.
  const { publicKey } = parseSs58(remark.address) ?? {}
  if (!saysOnly(remark.method, text) || !publicKey || bytesToHex(publicKey) !== account.walletId) refuseChallenge()
  return { ...about, remark, signature: await signPayload(account, remark, text) }
}

/** Whether a call is two bytes that name it and one argument, the text: the wallet shows which call that is. */
function saysOnly(method: string, text: string): boolean {
  const bytes = new TextEncoder().encode(text)
  // SCALE's compact length, of one, two or four bytes.
  const size = bytes.length < 64 ? 1 : bytes.length < 16_384 ? 2 : 4
  const compact = bytes.length * 4 + (size === 4 ? 2 : size - 1)
  const length = Uint8Array.from({ length: size }, (_, i) => (compact >>> (8 * i)) & 255)
  return method.slice(6) === bytesToHex(length) + bytesToHex(bytes) && method.startsWith('0x')
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
