/** Proves the way of money: what a page earned is paid by a real runtime, to the last planck, and the page shows and checks it. */
import path from 'node:path'
import { blake2b } from '@noble/hashes/blake2.js'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import { startLocalChain, type LocalChain } from '../../server/chain/local/localChain.ts'
import { openSqliteStore } from '../../server/db/sqlite.ts'
import { injectWallet } from './injectedWallet.ts'
import { expect, test as base, tinyConfig, volunteerPath } from './skein.ts'

const PLANCK_PER_PFLOP = 10n ** 21n

const test = base.extend<{ chain: LocalChain }>({
  // Playwright reads what a fixture needs from its first argument, which has to be a pattern.
  // eslint-disable-next-line no-empty-pattern
  chain: async ({}, use) => {
    const chain = await startLocalChain({ port: 0, finalityLag: 1, blockMs: 1000 })
    await use(chain)
    await chain.close()
  },
  serverOptions: async ({ chain }, use) =>
    use({
      chainUrl: chain.url,
      ss58Prefix: 2,
      epochBlocks: 4,
      payouts: { seed: '//Alice', batch: 100, epochCap: null, least: 0n },
    }),
})

test('what a page trained is paid to its wallet in a finalized block, and its proof is anchored there', async ({
  skein,
  chain,
  page,
}) => {
  const node = await connectChain(chain.url)
  const wallet = await injectWallet(page, 9)
  const run = await skein.launch('paid', { ...tinyConfig, stages: 1, steps: 3 })
  const store = await openSqliteStore(path.join(skein.dataFolder, 'skein.db'))
  await store.ledger.append([{ kind: 'price', run, planckPerPflop: String(PLANCK_PER_PFLOP) }], Date.now())
  await store.close()
  await page.goto(skein.origin + volunteerPath)
  await skein.follow(run)
  await page.getByRole('link', { name: 'Earnings' }).click()
  const panel = page.getByRole('region', { name: 'Wallet' })
  await panel.getByRole('button', { name: 'Connect a wallet' }).click()
  await panel.getByRole('button', { name: 'Bind this device' }).click()
  await expect(panel.getByRole('status')).toHaveText('The device is bound to the wallet.')

  const payouts = page.getByRole('region', { name: 'Payouts' })
  const paid = payouts.getByRole('listitem').filter({ hasText: 'extrinsic' })
  await expect(paid).toHaveCount(1, { timeout: 60_000 })
  const asked = await page.request.get(`${skein.origin}/api/v1/accounts/wallet:${wallet.walletId}`)
  const account = (await asked.json()) as {
    credit: { earned: string }
    payouts: { planck: string; block: string; extrinsic: string; epoch: number }[]
  }
  const planck = (BigInt(account.credit.earned) * PLANCK_PER_PFLOP) / 10n ** 15n
  expect(account.payouts.map((payout) => payout.planck)).toEqual([String(planck)])
  expect(await node.freeBalances([wallet.walletId])).toEqual([planck])
  const [payout] = account.payouts
  const { number } = await node.finalized()
  const found = await node.find(`0x${payout!.extrinsic}`, Math.max(1, number - 60), number)
  expect(found).toMatchObject({ success: true, completed: true, block: { hash: `0x${payout!.block}` } })
  expect(found!.transfers.map((transfer) => transfer.planck)).toEqual([planck])
  await expect(paid.getByRole('button', { name: 'Copy the block hash' })).toHaveAttribute('title', `0x${payout!.block}`)
  await expect(page.locator('[data-state=paid]')).not.toHaveText(/^0\sFLOP$/)

  const proof = page.getByRole('region', { name: 'Check my proof' })
  await proof.getByLabel('Epoch').fill(String(payout!.epoch))
  await proof.getByRole('button', { name: 'Check my proof' }).click()
  await expect(proof.getByRole('status')).toHaveText('The proof holds.')
  await expect(proof).toContainText('as carrying this root')
  const root = await proof.getByRole('button', { name: 'Copy the root' }).getAttribute('title')
  expect(found!.remarks).toEqual([`0x${bytesToHex(blake2b(hexToBytes(root!), { dkLen: 32 }))}`])
  await node.close()
})
