/** Proves binding by an extrinsic on a real runtime: what a keyring signs as extensions do binds, and each forgery is refused. */
import { Keyring, type ApiPromise } from '@polkadot/api'
import { TypeRegistry } from '@polkadot/types'
import type { KeyringPair } from '@polkadot/keyring/types'
import { u8aToHex } from '@polkadot/util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startLocalChain, type LocalChain } from '../../server/chain/local/localChain.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import type { Chain } from '../../server/chain/port.ts'
import type { Challenge, RemarkPayload, Scheme } from '../../src/protocol/wallet.ts'
import { identityApi } from '../../src/wallet/api.ts'
import { bindDevice } from '../../src/wallet/binding.ts'
import { connectWallets, signRemark, type WalletAccess } from '../../src/wallet/extension.ts'
import { testDevice } from '../unit/deviceKeys.ts'
import { agree } from '../unit/identity/wallets.ts'
import { openFixture, type Fixture } from '../unit/server/appFixture.ts'

const laptop = testDevice(1)
const REMARK = (text: string) => u8aToHex(new TextEncoder().encode(text))

let local: LocalChain
let chain: Chain
let fixture: Fixture
let root: string
let ledger: KeyringPair
let hot: KeyringPair

beforeAll(async () => {
  local = await startLocalChain({ port: 0, finalityLag: 2, blockMs: null })
  chain = await connectChain(local.url)
  ledger = new Keyring({ type: 'ed25519' }).createFromUri('//Alice')
  hot = new Keyring({ type: 'sr25519' }).createFromUri('//Alice')
})
afterAll(async () => {
  await chain?.close()
  await local?.close()
})
beforeEach(async () => {
  fixture = await openFixture({ ss58Prefix: chain.info.prefix }, { remarks: () => chain })
  root = `${await fixture.app.listen({ host: '127.0.0.1', port: 0 })}/api/v1`
})
afterEach(() => fixture.close())

/** As an extension does, which knows of the chain what the payload says. */
function sign(pair: KeyringPair, payload: RemarkPayload): string {
  const registry = new TypeRegistry()
  registry.setSignedExtensions(payload.signedExtensions)
  return registry.createType('ExtrinsicPayload', payload, { version: payload.version }).sign(pair).signature
}

async function ask(path: string, body?: object) {
  const init = body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
  const answer = await fetch(`${root}/wallet/${path}`, init)
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}
async function offer(pair: KeyringPair) {
  const wallet = chain.addressOf(u8aToHex(pair.publicKey).slice(2))
  const { body } = await ask('challenge', { wallet, devices: [laptop.id] })
  const challenge = body as unknown as Challenge & { text: string }
  const remark = (await ask(`challenges/${challenge.id}/remark`)).body as unknown as RemarkPayload
  return { challenge, remark }
}
function request(
  { id, text }: Challenge & { text: string },
  pair: KeyringPair,
  remark: RemarkPayload,
  signed = remark,
) {
  const signature = sign(pair, signed).slice(4)
  return { challenge: id, scheme: pair.type as Scheme, signature, remark, proofs: [agree(laptop, text)] }
}
const bound = async () => (await fetch(`${root}/devices/${laptop.id}`)).json() as Promise<{ walletId: string | null }>

describe('a wallet that signs no texts', () => {
  it.each(['ed25519', 'sr25519'])('binds by a signed system.remark, with a key of %s', async (type) => {
    const pair = type === 'ed25519' ? ledger : hot
    const { challenge, remark } = await offer(pair)
    const { status, body } = await ask('bind', request(challenge, pair, remark))
    expect(status, JSON.stringify(body)).toBe(200)
    expect(await bound()).toMatchObject({ walletId: u8aToHex(pair.publicKey).slice(2) })
    const [{ proof }] = body.devices as [{ proof: string }]
    const kept = (await ask(`proofs/${proof}`)).body
    expect(kept).toMatchObject({ text: challenge.text, remark: { nonce: remark.nonce, tip: '0x00', genesisHash: chain.info.genesis } }) // prettier-ignore
  })

  it('signs what no block can include, so that nobody can have it pay a fee', async () => {
    const { remark } = await offer(hot)
    const wallet = u8aToHex(hot.publicKey).slice(2)
    const { api } = chain as unknown as { api: ApiPromise }
    const send = async (payload: RemarkPayload) => {
      const extrinsic = api.tx(api.registry.createType('Call', payload.method))
      extrinsic.addSignature(payload.address, sign(hot, payload) as `0x${string}`, payload as never)
      await chain.submit(extrinsic.toHex())
      await local.build(3)
      return { nonce: await chain.nextNonce(wallet), free: (await chain.freeBalances([wallet]))[0]! }
    }
    const [before] = await chain.freeBalances([wallet])
    expect(await send(remark)).toEqual({ nonce: 0, free: before })
    // It is the nonce alone that keeps it out.
    const sent = await send({ ...remark, nonce: '0x00000000' })
    expect(sent.nonce).toBe(1)
    expect(sent.free).toBeLessThan(before!)
  })

  it('binds from the page by itself where the account is a Ledger’s', async () => {
    const address = chain.addressOf(u8aToHex(ledger.publicKey).slice(2))
    const signPayload = (payload: RemarkPayload) => Promise.resolve({ id: 1, signature: sign(ledger, payload) })
    const extension = { signer: { signPayload } }
    const access = {
      web3Enable: () => Promise.resolve([extension]),
      web3Accounts: () =>
        Promise.resolve([
          { address, type: 'ed25519', meta: { source: 'polkadot-js', genesisHash: chain.info.genesis } },
        ]),
      web3FromSource: () => Promise.resolve(extension),
    } as unknown as WalletAccess
    const load = () => Promise.resolve(access)
    const [account] = await connectWallets(chain.info.prefix, load)
    expect(account).toMatchObject({ hardware: true })
    const device = {
      id: laptop.id,
      sign: (bytes: Uint8Array) => Promise.resolve(Buffer.from(laptop.signHex(bytes), 'hex')),
    }
    const api = identityApi(root)
    const options = { api, site: new URL(root).host, account: account! }
    const signPayloadOf = (by: typeof options.account, payload: RemarkPayload) => signRemark(by, payload, load)
    await bindDevice({ ...options, signPayload: signPayloadOf }, device as never)
    expect(await bound()).toMatchObject({ walletId: account!.walletId })

    // A server that was broken into gets nothing else signed.
    for (const change of [
      (payload: RemarkPayload) => ({ ...payload, method: `${payload.method}00` }),
      (payload: RemarkPayload) => ({ ...payload, method: payload.method.replace('536b65696e', '536b65696f') }),
      (payload: RemarkPayload) => ({ ...payload, address: chain.addressOf('ab'.repeat(32)) }),
    ]) {
      const broken = { ...api, remark: async (id: string) => change(await api.remark(id)) }
      const refused = bindDevice({ ...options, api: broken, signPayload: () => expect.fail('signed') }, device as never)
      await expect(refused).rejects.toMatchObject({ code: 'wallet.challenge' })
    }
  })
})

describe('refused, with a code of its own:', () => {
  const calls = (chain: Chain) => (chain as unknown as { api: ApiPromise }).api.tx
  const changes: [string, string, (payload: RemarkPayload, text: string) => Partial<RemarkPayload>][] = [
    ['another chain', 'remark_genesis', () => ({ genesisHash: `0x${'12'.repeat(32)}` })],
    ['another runtime', 'remark_version', () => ({ specVersion: '0x00000385' })],
    [
      'a transfer',
      'remark_call',
      () => ({ method: calls(chain).balances!.transferKeepAlive!(hot.address, 1).method.toHex() }),
    ],
    [
      'a remark that leaves an event',
      'remark_call',
      (_, text) => ({ method: calls(chain).system!.remarkWithEvent!(REMARK(text)).method.toHex() }),
    ],
    [
      'an altered text',
      'remark_text',
      (_, text) => ({ method: calls(chain).system!.remark!(REMARK(text.replace(laptop.id, testDevice(2).id))).method.toHex() }), // prettier-ignore
    ],
    ['more than the text', 'remark_text', (_, text) => ({ method: calls(chain).system!.remark!(REMARK(`${text} `)).method.toHex() })], // prettier-ignore
    ['bytes after the call', 'remark_payload', ({ method }) => ({ method: `${method}00` })],
    ['other extensions', 'remark_payload', ({ signedExtensions }) => ({ signedExtensions: signedExtensions.slice(1) })],
    ['another account', 'remark_signer', () => ({ address: hot.address })],
  ]
  it.each(changes)('%s', async (_, code, change) => {
    const { challenge, remark } = await offer(ledger)
    const other = { ...remark, ...change(remark, challenge.text) }
    expect((await ask('bind', request(challenge, ledger, other))).body).toMatchObject({ code: `identity.${code}` })
    expect(await bound()).toMatchObject({ walletId: null })
  })

  it('the signature of another key, of another scheme, or over another remark', async () => {
    const { challenge, remark } = await offer(ledger)
    const stranger = new Keyring({ type: 'ed25519' }).createFromUri('//Bob')
    const right = request(challenge, ledger, remark)
    for (const forged of [
      request(challenge, stranger, remark),
      { ...right, scheme: 'sr25519' },
      request(challenge, ledger, remark, { ...remark, nonce: '0x00' }),
      // A remark's signature is none over the text.
      { ...right, remark: undefined },
    ])
      expect((await ask('bind', forged)).body).toMatchObject({ code: 'identity.wallet_signature' })
    expect(await bound()).toMatchObject({ walletId: null })
  })

  it('a challenge that was used', async () => {
    const { challenge, remark } = await offer(ledger)
    const good = request(challenge, ledger, remark)
    expect((await ask('bind', good)).status).toBe(200)
    expect((await ask('bind', good)).body).toMatchObject({ code: 'identity.challenge_used' })
  })

  it('a remark for a challenge that another one is signed for', async () => {
    const [one, two] = [await offer(ledger), await offer(ledger)]
    const crossed = request(one.challenge, ledger, two.remark)
    expect((await ask('bind', crossed)).body).toMatchObject({ code: 'identity.remark_text' })
  })
})
