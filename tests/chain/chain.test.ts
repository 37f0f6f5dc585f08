import { blake2AsHex, encodeAddress } from '@polkadot/util-crypto'
import { u8aToHex } from '@polkadot/util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startLocalChain } from '../../server/chain/local/localChain.ts'
import type { LocalChain } from '../../server/chain/local/localChain.ts'
import { CHAIN_PROFILES } from '../../server/chain/profile.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import type { Chain, Signer, TransferBatch } from '../../server/chain/port.ts'
import { signerFromSecret } from '../../server/chain/signer.ts'

const wallet = (n: number) => u8aToHex(new Uint8Array(32).fill(n)).slice(2)
const root = 'ab'.repeat(32)
const TOKEN = 10n ** 12n

let local: LocalChain
let chain: Chain
let alice: Signer

beforeAll(async () => {
  local = await startLocalChain({ port: 0, finalityLag: 2, blockMs: null })
  chain = await connectChain(local.url)
  alice = await signerFromSecret('//Alice')
})

afterAll(async () => {
  await chain?.close()
  await local?.close()
})

describe('the chain port on a real runtime', () => {
  it('says which chain it is, by the runtime itself', async () => {
    expect(chain.info).toMatchObject({
      name: 'asset-hub-rococo',
      decimals: 12,
      symbol: 'ROC',
      existentialDeposit: 3_333_333n,
    })
    expect(chain.addressOf(alice.wallet)).toBe(encodeAddress(`0x${alice.wallet}`, chain.info.prefix))
    expect(await chain.runtimeVersion()).toMatchObject({ specName: 'statemine', specVersion: 900 })
  })

  it('has to be the chain of its profile', async () => {
    const refused = connectChain(local.url, CHAIN_PROFILES.bittensor)
    await expect(refused).rejects.toMatchObject({
      code: 'chain.profile',
      message: expect.stringContaining('the symbol would be TAO and is ROC') as string,
    })
    const { prefix } = chain.info
    const rococo = { prefix, decimals: 12, symbol: 'ROC', existentialDeposit: 3_333_333n, blockMs: 12_000 }
    const again = await connectChain(local.url, rococo)
    expect(again.info).toMatchObject(rococo)
    await again.close()
  })

  it('lets finality lag behind the head', async () => {
    await local.build(3)
    expect((await chain.finalized()).number).toBe(local.chain.head.number - 2)
    expect(await chain.blockHash(local.chain.head.number)).toBeNull()
  })

  it('pays several wallets and anchors the root in one finalized block', async () => {
    const batch: TransferBatch = {
      transfers: [
        { wallet: wallet(1), planck: 5n * TOKEN + 1n },
        { wallet: wallet(2), planck: 3_333_333n },
      ],
      root,
    }
    expect(await chain.freeBalances([alice.wallet, wallet(1)])).toEqual([1_000_000n * TOKEN, 0n])
    const fee = await chain.estimateFee(batch, alice.wallet)
    expect(fee).toBeGreaterThan(0n)
    const signed = await chain.sign(batch, alice, await chain.nextNonce(alice.wallet), 64)
    expect(signed).toMatchObject({ nonce: 0, specVersion: 900, hash: blake2AsHex(signed.bytes, 256) })
    expect(signed.death).toBe(signed.birth.number + 64)
    expect(await chain.dryRun(signed.bytes)).toEqual({ outcome: 'ok' })
    expect(await chain.submit(signed.bytes)).toEqual({ accepted: true })
    expect(await chain.nextNonce(alice.wallet)).toBe(1)

    await local.build(1)
    const included = local.chain.head.number
    expect(await chain.find(signed.hash, signed.birth.number + 1, (await chain.finalized()).number)).toBeNull()
    await local.build(2)
    const found = await chain.find(signed.hash, signed.birth.number + 1, included)
    expect(found).toMatchObject({ block: { number: included }, success: true, completed: true, error: null })
    expect(found!.transfers).toEqual(batch.transfers.map((transfer) => ({ ...transfer, from: alice.wallet })))
    expect(found!.remarks).toEqual([blake2AsHex(`0x${root}`, 256)])
    const [paying, first, second] = await chain.freeBalances([alice.wallet, wallet(1), wallet(2)])
    expect([first, second]).toEqual([5n * TOKEN + 1n, 3_333_333n])
    expect(paying).toBe(1_000_000n * TOKEN - first! - second! - fee)
    // The same bytes again are worth nothing.
    expect(await chain.submit(signed.bytes)).toMatchObject({ accepted: false })
  })

  it('foresees and reports a transfer that fails, with everything beside it undone', async () => {
    const batch: TransferBatch = {
      transfers: [
        { wallet: wallet(3), planck: TOKEN },
        { wallet: wallet(4), planck: 1n },
      ],
      root,
    }
    const signed = await chain.sign(batch, alice, await chain.nextNonce(alice.wallet), 64)
    const dry = await chain.dryRun(signed.bytes)
    expect(dry).toMatchObject({ outcome: 'fails' })
    await chain.submit(signed.bytes)
    await local.build(3)
    const found = await chain.find(signed.hash, signed.birth.number + 1, (await chain.finalized()).number)
    expect(found).toMatchObject({ success: false, completed: false, transfers: [], remarks: [] })
    expect(found!.error).toBe((dry as { reason: string }).reason)
    expect(await chain.freeBalances([wallet(3), wallet(4)])).toEqual([0n, 0n])
  })

  it('signs batches of 500 transfers that the runtime takes', async () => {
    const transfers = Array.from({ length: 500 }, (_, n) => ({
      wallet: blake2AsHex(`0x${n.toString(16).padStart(8, '0')}`, 256).slice(2),
      planck: 4_000_000n + BigInt(n),
    }))
    const signed = await chain.sign({ transfers, root }, alice, await chain.nextNonce(alice.wallet), 64)
    expect(await chain.submit(signed.bytes)).toEqual({ accepted: true })
    await local.build(3)
    const found = await chain.find(signed.hash, signed.birth.number + 1, (await chain.finalized()).number)
    expect(found).toMatchObject({ success: true, completed: true })
    expect(await chain.freeBalances(transfers.map(({ wallet }) => wallet))).toEqual(
      transfers.map(({ planck }) => planck),
    )
  })

  it('says that nobody answers when nobody does', async () => {
    await expect(connectChain('ws://127.0.0.1:9')).rejects.toMatchObject({ code: 'chain.unreachable' })
  })

  it('refuses a secret that is no key, without repeating it', async () => {
    const refused = await signerFromSecret('not a mnemonic at all').catch((caught: Error) => caught)
    expect(refused).toMatchObject({ code: 'chain.seed' })
    expect(JSON.stringify(refused)).not.toContain('mnemonic at all')
  })
})
