/** Proves the page's way to bind a device, from a wallet's accounts to the server's routes, and that it signs nothing unasked. */
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { agree } from '../../../src/agent/agree.ts'
import { openKeyFile } from '../../../src/agent/keyFile.ts'
import { deviceProofText } from '../../../src/protocol/wallet.ts'
import { identityApi, type IdentityApi } from '../../../src/wallet/api.ts'
import { bindDevice, bindOtherDevices, revokeDevices, type BindingOptions } from '../../../src/wallet/binding.ts'
import { connectWallets, signText, type WalletAccess, type WalletAccount } from '../../../src/wallet/extension.ts'
import { testDevice } from '../deviceKeys.ts'
import { testWallet } from '../identity/wallets.ts'
import { openFixture, type Fixture } from '../server/appFixture.ts'

const alice = testWallet(1)
const bob = testWallet(2, 'ed25519')
const laptop = testDevice(1)

type InjectedAccount = Awaited<ReturnType<WalletAccess['web3Accounts']>>[number]
type InjectedWallet = Awaited<ReturnType<WalletAccess['web3FromSource']>>

/** Wallets as extensions are to a page. */
class Extensions implements WalletAccess {
  enabled = true
  signature = (text: string) => `0x${alice.sign(text)}`
  refuses = false
  asked: string[] = []
  accounts: InjectedAccount[] = [
    { address: alice.address(42), meta: { name: 'Alice', source: 'test' }, type: 'sr25519' },
    { address: bob.address(42), meta: { source: 'test' }, type: 'ed25519' },
    { address: testWallet(3).address(42), meta: { source: 'test' }, type: 'ecdsa' },
    { address: '0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045', meta: { source: 'test' }, type: 'ethereum' },
  ]
  readonly #wallet = {
    signer: {
      signRaw: ({ data, type }: { data: string; type: string }) => {
        if (this.refuses) return Promise.reject(new Error('Cancelled'))
        expect(type).toBe('bytes')
        const text = Buffer.from(data.slice(2), 'hex').toString()
        this.asked.push(text)
        return Promise.resolve({ id: 1, signature: this.signature(text) })
      },
    },
  } as unknown as InjectedWallet

  web3Enable = () => Promise.resolve(this.enabled ? [this.#wallet] : [])
  web3Accounts = () => Promise.resolve(this.accounts)
  web3FromSource = () => Promise.resolve(this.#wallet)
  load = () => Promise.resolve(this)
}

let extensions: Extensions
beforeEach(() => (extensions = new Extensions()))

describe('wallets of this browser', () => {
  it('show accounts that can be bound, with addresses of the chain', async () => {
    expect(await connectWallets(0, extensions.load)).toEqual([
      { address: alice.address(0), walletId: alice.walletId, name: 'Alice', source: 'test', scheme: 'sr25519' },
      { address: bob.address(0), walletId: bob.walletId, name: '', source: 'test', scheme: 'ed25519' },
    ])
  })

  it('are missing, closed or empty, which is said', async () => {
    extensions.accounts = extensions.accounts.slice(2)
    await expect(connectWallets(42, extensions.load)).rejects.toMatchObject({ code: 'wallet.no_account' })
    extensions.enabled = false
    await expect(connectWallets(42, extensions.load)).rejects.toMatchObject({ code: 'wallet.none' })
  })

  it('give a signature, in the form of each, or a reason', async () => {
    const [account] = (await connectWallets(42, extensions.load)) as [WalletAccount]
    const hex = alice.sign('text')
    for (const form of [`0x${hex}`, `0x01${hex}`, `0x${hex.toUpperCase()}`]) {
      extensions.signature = () => form
      expect(await signText(account, 'text', extensions.load)).toBe(hex)
    }
    for (const form of ['0x', hex, `0x00${hex}`, `0x${hex}00`]) {
      extensions.signature = () => form
      await expect(signText(account, 'text', extensions.load)).rejects.toMatchObject({ code: 'wallet.signature' })
    }
    extensions.refuses = true
    await expect(signText(account, 'text', extensions.load)).rejects.toMatchObject({
      code: 'wallet.refused',
      message: expect.stringContaining('Cancelled') as string,
    })
  })
})

describe('a device of this browser', () => {
  let fixture: Fixture
  let api: IdentityApi
  let site: string
  /** The server's clock; the page's is years off, which nobody may notice. */
  let time: number

  beforeEach(async () => {
    time = Date.UTC(2030, 0, 1)
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(1999, 0, 1) })
    fixture = await openFixture({}, { now: () => time })
    const url = await fixture.app.listen({ host: '127.0.0.1', port: 0 })
    site = new URL(url).host
    api = identityApi(`${url}/api/v1`)
  })
  afterEach(async () => {
    vi.useRealTimers()
    await fixture.close()
  })

  async function options(change: Partial<BindingOptions> = {}): Promise<BindingOptions> {
    const [account] = (await connectWallets(await api.ss58Prefix(), extensions.load)) as [WalletAccount]
    const sign: BindingOptions['sign'] = (who, text) => signText(who, text, extensions.load)
    return { api, site, account, sign, ...change }
  }

  it('is bound and revoked over real routes, whatever the page takes the time to be', async () => {
    expect(await bindDevice(await options(), laptop)).toMatchObject({
      walletId: alice.walletId,
      devices: [{ deviceId: laptop.id, boundAt: time }],
    })
    expect(extensions.asked[0]).toContain(`Skein at ${site} asks`)
    expect(await api.device(laptop.id)).toMatchObject({ walletId: alice.walletId, revokedAt: null })
    time += 1
    await revokeDevices(await options(), [laptop.id])
    expect(await api.devicesOf(alice.address())).toMatchObject({ devices: [{ deviceId: laptop.id, revokedAt: time }] })
    await expect(bindDevice(await options(), laptop)).rejects.toMatchObject({ code: 'identity.device_revoked' })
  })

  it('is not bound in time by the page’s clock when the server’s has run out', async () => {
    const slow = await options({
      sign: async (account, text) => {
        time += 11 * 60_000
        return signText(account, text, extensions.load)
      },
    })
    await expect(bindDevice(slow, laptop)).rejects.toMatchObject({ code: 'identity.challenge_expired' })
  })

  it('of another machine is bound once it has agreed there, by the agent’s own command', async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'skein-agree-'))
    const { id } = openKeyFile(path.join(folder, 'device.key'))
    const printed: string[] = []
    const run = (challenge: string) => agree(`http://${site}`, folder, challenge, (text) => void printed.push(text))
    await expect(bindOtherDevices(await options(), [id], async () => {})).rejects.toMatchObject({
      code: 'identity.device_proof_missing',
    })
    const bound = await bindOtherDevices(await options(), [id], async (challenge) => {
      await run(challenge)
      expect((await api.open(challenge)).agreed).toEqual([id])
    })
    expect(bound).toMatchObject({ walletId: alice.walletId, devices: [{ deviceId: id }] })
    expect(printed[0]).toContain(alice.address())
    // Not with what is about others, used, or nobody's.
    const others = await api.challenge({ wallet: alice.address(), devices: [laptop.id] })
    await expect(run(others.id)).rejects.toMatchObject({ code: 'wallet.challenge' })
    await expect(run('0'.repeat(32))).rejects.toMatchObject({ code: 'identity.challenge_unknown' })
    const mine = await api.challenge({ wallet: alice.address(), devices: [id] })
    const forged = { device: id, signature: laptop.signHex(deviceProofText(mine.text)) }
    await expect(api.agree(mine.id, forged)).rejects.toMatchObject({ code: 'identity.device_proof' })
    const uninvited = { device: laptop.id, signature: laptop.signHex(deviceProofText(mine.text)) }
    await expect(api.agree(mine.id, uninvited)).rejects.toMatchObject({ code: 'identity.device_not_asked' })
    expect((await api.open(mine.id)).agreed).toEqual([])
    rmSync(folder, { recursive: true })
  })

  it('signs nothing that it did not ask for, and neither does the wallet', async () => {
    const signed = vi.spyOn(laptop, 'sign')
    const bent = (change: (text: string) => string): IdentityApi => ({
      ...api,
      challenge: async (request) => {
        const given = await api.challenge(request)
        return { ...given, text: change(given.text) }
      },
    })
    for (const change of [(text: string) => `${text} `, (text: string) => text.replace(site, 'other.example')])
      await expect(bindDevice(await options({ api: bent(change) }), laptop)).rejects.toMatchObject({
        code: 'wallet.challenge',
      })
    const elsewhere = await options({ site: 'evil.example' })
    await expect(bindDevice(elsewhere, laptop)).rejects.toMatchObject({ code: 'wallet.challenge' })
    expect(extensions.asked).toEqual([])
    expect(signed).not.toHaveBeenCalled()
  })

  it('hears what the server refuses, and where there is none', async () => {
    const forger = await options({ sign: async (_account, text) => bob.sign(text) })
    await expect(bindDevice(forger, laptop)).rejects.toMatchObject({ code: 'identity.wallet_signature' })
    const gone = identityApi('http://127.0.0.1:9/api/v1')
    await expect(gone.ss58Prefix()).rejects.toMatchObject({ code: 'api.unreachable' })
    const odd = identityApi('http://x', async () => new Response('{"ss58Prefix":"many"}'))
    await expect(odd.ss58Prefix()).rejects.toMatchObject({ code: 'api.unexpected' })
  })
})
