/** Owns a wallet extension for a page under test: injected as real ones are, with its sr25519 key kept out of the page. */
import type { Page } from '@playwright/test'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { getPublicKey, secretFromSeed, sign } from '@scure/sr25519'
import { encodeAddress, parseSs58 } from '../../src/wallet/ss58.ts'

interface RawPayload {
  address: string
  /** Hex with `0x`, or text. */
  data: string
  type: 'bytes' | 'payload'
}

export interface InjectedWallet {
  address: string
  walletId: string
  /** What its owner was shown and signed, in order. */
  signed: string[]
  /** Its owner says no to the next signature. */
  refuseNext(): void
}

/** To be called before the page is opened. */
export async function injectWallet(page: Page, seed: number): Promise<InjectedWallet> {
  const secret = secretFromSeed(new Uint8Array(32).fill(seed))
  const publicKey = getPublicKey(secret)
  const address = encodeAddress(publicKey)
  const signed: string[] = []
  let refuse = false
  await page.exposeFunction('testWalletSign', (payload: RawPayload): string | null => {
    // As wallets do: an account is its key, whichever chain's prefix its address has.
    const asked = parseSs58(payload.address)?.publicKey
    if (!asked || bytesToHex(asked) !== bytesToHex(publicKey) || payload.type !== 'bytes')
      throw new Error('another account, or no bytes')
    if (refuse) {
      refuse = false
      return null
    }
    const bytes = payload.data.startsWith('0x')
      ? hexToBytes(payload.data.slice(2))
      : new TextEncoder().encode(payload.data)
    const text = new TextDecoder().decode(bytes)
    signed.push(text)
    return `0x${bytesToHex(sign(secret, new TextEncoder().encode(`<Bytes>${text}</Bytes>`)))}`
  })
  await page.addInitScript(
    (account) => {
      const page = window as unknown as {
        testWalletSign(payload: unknown): Promise<string | null>
        injectedWeb3: Record<string, unknown>
      }
      let id = 0
      page.injectedWeb3 = {
        'polkadot-js': {
          version: '0.63.1',
          enable: async () => ({
            accounts: { get: async () => [account], subscribe: () => () => {} },
            signer: {
              async signRaw(payload: unknown) {
                const signature = await page.testWalletSign(payload)
                if (signature === null) throw new Error('Cancelled')
                return { id: ++id, signature }
              },
            },
          }),
        },
      }
    },
    { address, name: 'Savings', type: 'sr25519' },
  )
  return { address, walletId: bytesToHex(publicKey), signed, refuseNext: () => (refuse = true) }
}
