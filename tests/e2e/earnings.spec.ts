/** Proves the earnings page: a device binds to an injected wallet, sees its credit sealed, and checks the proof itself. */
import path from 'node:path'
import type { Page } from '@playwright/test'
import { openSqliteStore } from '../../server/db/sqlite.ts'
import type { LedgerEntry, ProofAnswer } from '../../src/protocol/ledger.ts'
import { injectWallet } from './injectedWallet.ts'
import { expect, test, tinyConfig, volunteerPath, type Skein } from './skein.ts'

const TFLOP = 10n ** 12n

test.use({ viewport: { width: 390, height: 844 }, serverOptions: { epochMs: 2000 } })

/** Appends rows to the ledger of the test's server, as committed steps do. */
async function append(skein: Skein, entries: readonly LedgerEntry[]): Promise<void> {
  const store = await openSqliteStore(path.join(skein.dataFolder, 'skein.db'))
  for (const entry of entries) await store.ledger.append([entry], Date.now())
  await store.close()
}

const work = (device: string, step: number, credit: bigint): LedgerEntry => ({
  kind: 'work',
  run: 'r0a1b2c3d4e5f',
  generation: 0,
  step,
  stage: 0,
  device,
  microbatches: 4,
  credit: String(credit),
  receipt: null,
})

async function deviceOf(page: Page): Promise<string> {
  const id = page.getByRole('button', { name: 'Copy the id of this device' })
  await expect(id).toBeVisible()
  return (await id.getAttribute('title'))!
}

const amount = (page: Page, state: string) => page.locator(`[data-state=${state}]`)

const overflow = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)

test('a device binds to an injected wallet, earlier work included, and its proof holds in the page', async ({
  skein,
  page,
}) => {
  const scripts: string[] = []
  page.on('request', (request) => scripts.push(request.url()))
  const wallet = await injectWallet(page, 7)
  await page.goto(`${skein.origin}/earnings`)
  const device = await deviceOf(page)
  expect(device).toMatch(/^[0-9a-f]{64}$/)
  await expect(page.getByText('Nothing is accepted yet.')).toBeVisible()
  await expect(amount(page, 'pending')).toHaveText(/^0\sFLOP$/)

  await append(skein, [
    work(device, 1, 3n * TFLOP),
    work(device, 2, 2n * TFLOP),
    {
      kind: 'conviction',
      device,
      run: 'r0a1b2c3d4e5f',
      fromStep: 2,
      toStep: 2,
      credit: String(2n * TFLOP),
      reason: 'Two others agree with each other and not with this device.',
    },
  ])
  await expect(amount(page, 'verified')).toHaveText(/^3\.00\sTFLOP$/)
  await expect(amount(page, 'voided')).toHaveText(/^2\.00\sTFLOP$/)
  await expect(page.getByRole('region', { name: 'Voided credit' })).toContainText('Two others agree with each other')

  const walletCode = () => scripts.filter((url) => /walletAccess|extension-dapp/.test(url))
  expect(walletCode()).toEqual([])
  const panel = page.getByRole('region', { name: 'Wallet' })
  await panel.getByRole('button', { name: 'Connect a wallet' }).press('Enter')
  await expect(panel.getByRole('radio', { name: /Savings/ })).toBeChecked()
  await expect(panel).toContainText(wallet.address)
  expect(walletCode().length).toBeGreaterThan(0)

  wallet.refuseNext()
  await panel.getByRole('button', { name: 'Bind this device' }).click()
  await expect(panel.getByRole('alert')).toContainText('wallet.refused')
  await panel.getByRole('button', { name: 'Connect a wallet' }).click()
  await panel.getByRole('button', { name: 'Bind this device' }).click()
  await expect(panel.getByRole('status')).toHaveText('The device is bound to the wallet.')
  expect(wallet.signed).toHaveLength(1)
  expect(wallet.signed[0]).toContain(`Skein at ${new URL(skein.origin).host} asks the account`)
  expect(wallet.signed[0]).toContain(device)
  await expect(panel.getByRole('button', { name: `Copy the address of the wallet` })).toHaveAttribute(
    'title',
    wallet.address,
  )

  await expect(page.getByRole('heading', { name: 'Credit of the wallet' })).toBeVisible()
  await append(skein, [work(device, 3, 4n * TFLOP)])
  await expect(amount(page, 'verified')).toHaveText(/^7\.00\sTFLOP$/)

  const proof = page.getByRole('region', { name: 'Check my proof' })
  await proof.getByRole('button', { name: 'Check my proof' }).click()
  await expect(proof.getByRole('status')).toHaveText('The proof holds.')
  const epochs = (await (await page.request.get(`${skein.origin}/api/v1/ledger/epochs`)).json()) as {
    entry: { root: string; epoch: number }
  }[]
  const shown = await proof.getByRole('button', { name: 'Copy the root' }).getAttribute('title')
  expect(epochs.map(({ entry }) => entry.root)).toContain(shown)
  await expect(proof).toContainText(/9\.00\sTFLOP earned, 2\.00\sTFLOP voided/)

  // Somebody on the way pays the account more than was sealed.
  await page.route('**/proof/**', async (route) => {
    const answer = (await (await route.fetch()).json()) as ProofAnswer
    answer.proof.leaf.earned = String(BigInt(answer.proof.leaf.earned) + 1n)
    await route.fulfill({ json: answer })
  })
  await proof.getByRole('button', { name: 'Check my proof' }).click()
  await expect(proof.getByRole('alert')).toContainText('proof.root')
  await expect(proof.getByText('The proof holds')).toHaveCount(0)
  expect(await overflow(page)).toBeLessThanOrEqual(0)

  await panel.getByRole('button', { name: /^Revoke device/ }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke for good' }).click()
  await expect(page.getByRole('alert').filter({ hasText: 'has revoked it' })).toBeVisible()
  expect(wallet.signed).toHaveLength(2)
  const account = (await (
    await page.request.get(`${skein.origin}/api/v1/accounts/wallet:${wallet.walletId}`)
  ).json()) as { credit: { earned: string } }
  expect(account.credit.earned).toBe(String(9n * TFLOP))
})

test('without a wallet the page says what to install, and the console shows the ledger', async ({ skein, page }) => {
  await page.setViewportSize({ width: 360, height: 780 })
  await page.goto(`${skein.origin}/earnings`)
  const device = await deviceOf(page)
  const panel = page.getByRole('region', { name: 'Wallet' })
  await panel.getByRole('button', { name: 'Connect a wallet' }).click()
  await expect(panel.getByRole('alert')).toContainText('wallet.none')
  await expect(panel.getByRole('alert').getByRole('link')).toHaveCount(3)
  expect(await overflow(page)).toBeLessThanOrEqual(0)

  await append(
    skein,
    Array.from({ length: 30 }, (_, i) => work(device, i + 1, TFLOP)),
  )
  await page.goto(`${skein.origin}/console/ledger`)
  const epochs = page.getByRole('region', { name: 'Table of epochs' })
  await expect(epochs.getByRole('row').last()).toContainText(/^1/)
  await expect(page.getByText('it has no chain configured')).toBeVisible()
  const rows = page.getByRole('region', { name: 'Rows' })
  await expect(rows.getByRole('row').nth(1)).toContainText('Seal')
  await rows.getByRole('button', { name: 'Older' }).click()
  await expect(rows.getByRole('row').last()).toContainText('4 microbatches of step 1, stage 1 of run r0a1b2c3d4e5f')
  await rows.getByRole('button', { name: 'Newer' }).click()
  await expect(rows.getByRole('button', { name: 'Newer' })).toBeDisabled()
  expect(await overflow(page)).toBeLessThanOrEqual(0)
})

test('what a page trained is on its receipts, in the ledger and under the root, to the last FLOP', async ({
  skein,
  page,
}) => {
  const run = await skein.launch('earned', { ...tinyConfig, stages: 1, steps: 4 })
  await page.goto(skein.origin + volunteerPath)
  await skein.follow(run)
  await page.getByRole('link', { name: 'Earnings' }).click()
  const device = await deviceOf(page)
  const asked = await page.request.get(`${skein.origin}/api/v1/accounts/device:${device}`)
  const account = (await asked.json()) as { credit: { earned: string }; runs: { run: string }[] }
  expect(account.runs.map((share) => share.run)).toEqual([run])
  expect(BigInt(account.credit.earned)).toBeGreaterThan(0n)

  const receipts = page.getByRole('region', { name: 'Receipts of this device' })
  await expect(receipts.getByRole('listitem')).toHaveCount(4)
  const [kept, ledger] = await receipts.locator('p.quiet strong').allTextContents()
  expect(kept).toBe(ledger)
  await expect(page.getByRole('region', { name: 'Credit by run' })).toContainText('earned')
  await expect(amount(page, 'verified')).toHaveText(kept!)
  const proof = page.getByRole('region', { name: 'Check my proof' })
  await proof.getByRole('button', { name: 'Check my proof' }).click()
  await expect(proof.getByRole('status')).toHaveText('The proof holds.')
  await expect(proof).toContainText(`${kept} earned`)
})
