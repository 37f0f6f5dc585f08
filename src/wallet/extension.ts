/** Owns what the page asks of wallets: which accounts they have, and a signature over a text; nothing of theirs loads before. */
import type * as dapp from '@polkadot/extension-dapp'
import { bytesToHex } from '@noble/hashes/utils.js'
import { fail, SkeinError } from '../protocol/errors.ts'
import { schemeSchema, type RemarkPayload, type Scheme } from '../protocol/wallet.ts'
import { encodeAddress, parseSs58 } from './ss58.ts'

export interface WalletAccount {
  /** SS58 with the chain's prefix. */
  address: string
  /** The public key. */
  walletId: string
  /** As its owner calls it; empty where it has no name. */
  name: string
  /** The wallet's name for itself, such as `polkadot-js`. */
  source: string
  scheme: Scheme
  /** Its key lies in a device that signs extrinsics and no texts. */
  hardware?: true
}

/** What is used of the package that wallets are reached by. */
export type WalletAccess = Pick<typeof dapp, 'web3Enable' | 'web3Accounts' | 'web3FromSource'>
type InjectedSigner = Awaited<ReturnType<WalletAccess['web3FromSource']>>['signer']
type InjectedAccount = Awaited<ReturnType<WalletAccess['web3Accounts']>>[number]

const loadAccess = (): Promise<WalletAccess> => import('@polkadot/extension-dapp')

/** The name by which wallets ask their owner whether to let this page in. */
const ORIGIN = 'Skein'

/**
 * Asks every wallet of this browser for its accounts, which brings up the wallets' own questions. Accounts whose keys are neither
 * sr25519 nor ed25519, and those of Ethereum, are left out.
 * @param ss58Prefix of the chain
 * @throws SkeinError `wallet.none` (no wallet, or none lets the page in), `wallet.no_account`
 */
export async function connectWallets(ss58Prefix: number, load = loadAccess): Promise<WalletAccount[]> {
  const { web3Enable, web3Accounts } = await load()
  const wallets = await web3Enable(ORIGIN)
  if (wallets.length === 0)
    fail(
      'wallet.none',
      'No wallet of this browser lets this page in.',
      'Install a wallet for Substrate chains such as Polkadot.js, Talisman or SubWallet, or allow this page in it, and connect again.',
    )
  const accounts = (await web3Accounts()).flatMap((account) => accountOf(account, ss58Prefix) ?? [])
  if (accounts.length === 0)
    fail(
      'wallet.no_account',
      'The wallet shows this page no account that can be bound.',
      'Make an account of type sr25519 or ed25519 in it, or let this page see one.',
    )
  return accounts
}

function accountOf({ address, meta, type }: InjectedAccount, ss58Prefix: number): WalletAccount | null {
  const parsed = parseSs58(address)
  const scheme = schemeSchema.safeParse(type ?? 'sr25519').data
  if (!parsed || !scheme) return null
  return {
    address: encodeAddress(parsed.publicKey, ss58Prefix),
    walletId: bytesToHex(parsed.publicKey),
    name: meta.name ?? '',
    source: meta.source,
    scheme,
    ...(isHardware(meta, scheme) && { hardware: true }),
  }
}

/** Extensions bind a Ledger's accounts to one chain, and its keys are ed25519; some say by their name that it is one. */
const isHardware = ({ genesisHash, source }: InjectedAccount['meta'], scheme: Scheme) =>
  /ledger/i.test(source) || (Boolean(genesisHash) && scheme === 'ed25519')

/**
 * Has the account sign a text, which its wallet shows to its owner and wraps in `<Bytes>`.
 * @returns lower-case hex of 64 bytes
 * @throws SkeinError `wallet.cannot_sign` (a Ledger, a watched account), `wallet.refused` (by its owner), `wallet.signature`
 */
export async function signText(account: WalletAccount, text: string, load = loadAccess): Promise<string> {
  const signRaw = await signerOf(
    account,
    'signRaw',
    ['a text', 'Choose an account whose key lies in the wallet itself.'],
    load,
  )
  const data = `0x${bytesToHex(new TextEncoder().encode(text))}` as const
  return signatureOf(account, () => signRaw({ address: account.address, data, type: 'bytes' }))
}

/**
 * Has the account sign an extrinsic, which is not submitted: all that a Ledger signs.
 * @returns, throws as {@link signText}
 */
export async function signRemark(account: WalletAccount, payload: RemarkPayload, load = loadAccess): Promise<string> {
  const remedy = 'Choose an account whose key lies in the wallet itself, or in a Ledger.'
  const signPayload = await signerOf(account, 'signPayload', ['an extrinsic', remedy], load)
  return signatureOf(account, () => signPayload(payload as Parameters<typeof signPayload>[0]))
}

/** One of the ways in which the account's wallet signs. @throws SkeinError `wallet.cannot_sign` where it has none of that kind */
async function signerOf<K extends 'signRaw' | 'signPayload'>(
  { source }: WalletAccount,
  kind: K,
  [what, remedy]: readonly [string, string],
  load: typeof loadAccess,
): Promise<NonNullable<InjectedSigner[K]>> {
  const { signer } = await (await load()).web3FromSource(source)
  const sign = signer[kind] as InjectedSigner[K]
  if (!sign) return fail('wallet.cannot_sign', `The wallet ${source} cannot sign ${what} with this account.`, remedy)
  return sign.bind(signer) as NonNullable<InjectedSigner[K]>
}

async function signatureOf(account: WalletAccount, sign: () => Promise<{ signature: string }>): Promise<string> {
  let signature: string
  try {
    signature = (await sign()).signature
  } catch (caught) {
    throw new SkeinError(
      {
        code: 'wallet.refused',
        message: `The wallet did not sign: ${caught instanceof Error ? caught.message : String(caught)}`.slice(0, 2000),
        remedy: 'Allow it in the wallet, or choose another account.',
      },
      { cause: caught },
    )
  }
  // Some wallets put a byte before it that names the scheme: 00 ed25519, 01 sr25519.
  const typed = { ed25519: '00', sr25519: '01' }[account.scheme]
  const hex = new RegExp(`^0x(?:${typed})?([0-9a-f]{128})$`, 'i').exec(signature)?.[1]
  if (hex !== undefined) return hex.toLowerCase()
  return fail(
    'wallet.signature',
    `The wallet ${account.source} gave back something that is no signature.`,
    'Update the wallet, or choose another one.',
  )
}
