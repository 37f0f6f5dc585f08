/** Proves the way from a page's work to a wallet's balance on a real runtime, and that the page can check all of it. */
import { ApiPromise, WsProvider } from '@polkadot/api'
import { startLocalChain, type LocalChain } from '../../server/chain/local/localChain.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import { signerFromSecret } from '../../server/chain/signer.ts'
import { injectWallet } from './injectedWallet.ts'
import { expect, test as base, tinyConfig, volunteerPath } from './skein.ts'

/** Not from the account that pays: its nonces are the server's. */
async function deposit(url: string, wallet: string, planck: bigint): Promise<void> {
  const chain = await connectChain(url)
  const bob = await signerFromSecret('//Bob')
  const batch = { transfers: [{ wallet, planck }], root: '0'.repeat(64) }
  const signed = await chain.sign(batch, bob, await chain.nextNonce(bob.wallet), 64)
  expect(await chain.submit(signed.bytes)).toEqual({ accepted: true })
  await chain.close()
}

const test = base.extend<{ chain: LocalChain }>({
  // eslint-disable-next-line no-empty-pattern -- Playwright reads the names of fixtures from here
  chain: async ({}, use) => {
    const chain = await startLocalChain({ port: 0, finalityLag: 2, blockMs: 1000 })
    await use(chain)
    await chain.close()
  },
  serverOptions: async ({ chain }, use) =>
    use({
      chainUrl: chain.url,
      epochBlocks: 5,
      payouts: { seed: '//Alice', batch: 100, epochCap: null, least: 0n },
    }),
})

test('a page works, its wallet is paid to the last unit beside the epoch’s root, and the page checks the proof', async ({
  skein,
  chain,
  page,
}) => {
  test.setTimeout(180_000)
  const api = await ApiPromise.create({ provider: new WsProvider(chain.url), noInitWarn: true })
  const wallet = await injectWallet(page, 9)
  const balance = async () => {
    const account = (await api.query.system!.account!(`0x${wallet.walletId}`)) as unknown as {
      data: { free: { toBigInt(): bigint } }
    }
    return account.data.free.toBigInt()
  }
  expect(await balance()).toBe(0n)
  const read = async <T>(path: string) => (await (await page.request.get(`${skein.origin}/api/v1${path}`)).json()) as T
  await expect.poll(async () => (await page.request.get(`${skein.origin}/api/v1/chain`)).status()).toBe(200)

  // A planck a FLOP: what is paid is what was computed, to the last one.
  const run = await skein.api.launch({
    name: 'paid',
    datasetId: skein.dataset.id,
    config: { ...tinyConfig, stages: 1, steps: 8 },
    payment: { planckPerPflop: String(10n ** 15n), budget: String(10n ** 15n) },
  })
  // The run begins once somebody has sent it money, in a block that is final.
  expect(run.state).toBe('paused')
  await deposit(chain.url, run.payment!.deposit!.wallet, 10n ** 15n)
  await page.goto(skein.origin + volunteerPath)
  await skein.follow(run.id)

  await page.getByRole('link', { name: 'Earnings' }).click()
  const panel = page.getByRole('region', { name: 'Wallet' })
  await panel.getByRole('button', { name: 'Connect a wallet' }).click()
  await panel.getByRole('button', { name: 'Bind this device' }).click()
  await expect(panel.getByRole('status')).toHaveText('The device is bound to the wallet.')

  const payouts = page.getByRole('region', { name: 'Payouts' })
  await expect(payouts).toContainText('extrinsic', { timeout: 120_000 })
  const account = await read<{
    credit: { earned: string }
    payouts: { planck: string; epoch: number; block: string; extrinsic: string }[]
  }>(`/accounts/wallet:${wallet.walletId}`)
  const [payout, ...more] = account.payouts
  expect(more).toEqual([])
  expect(BigInt(payout!.planck)).toBe(BigInt(account.credit.earned))
  expect(await balance()).toBe(BigInt(payout!.planck))

  // Root and transfer are in that one block, which is final.
  const { block } = await api.rpc.chain.getBlock(`0x${payout!.block}`)
  const extrinsic = block.extrinsics.find((one) => one.hash.toHex() === `0x${payout!.extrinsic}`)!
  const finalized = await api.rpc.chain.getHeader(await api.rpc.chain.getFinalizedHead())
  expect(finalized.number.toNumber()).toBeGreaterThanOrEqual(block.header.number.toNumber())
  const epochs = await read<{ entry: { epoch: number; root: string } }[]>('/ledger/epochs')
  const { root } = epochs.find(({ entry }) => entry.epoch === payout!.epoch)!.entry
  expect(extrinsic.method.section).toBe('utility')
  expect(extrinsic.method.method).toBe('batchAll')
  expect(extrinsic.method.toHex()).toContain(root)
  expect(extrinsic.method.toHex()).toContain(wallet.walletId)

  await expect(page.locator('[data-state=paid]')).not.toHaveText(/^0/)
  const proof = page.getByRole('region', { name: 'Check my proof' })
  await proof.getByRole('spinbutton', { name: 'Epoch' }).fill(String(payout!.epoch))
  await proof.getByRole('button', { name: 'Check my proof' }).click()
  await expect(proof.getByRole('status')).toHaveText('The proof holds.')
  await expect(proof.getByRole('button', { name: 'Copy the root' })).toHaveAttribute('title', root)
  await page.screenshot({ path: test.info().outputPath('paid.png'), fullPage: true })
  await api.disconnect()
})
