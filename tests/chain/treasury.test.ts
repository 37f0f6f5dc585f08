/** Proves the treasury over a real runtime, and without a node in reach. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startLocalChain } from '../../server/chain/local/localChain.ts'
import type { LocalChain } from '../../server/chain/local/localChain.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import { signerFromSecret } from '../../server/chain/signer.ts'
import { configFromEnvironment } from '../../server/config.ts'
import { openSqliteStore } from '../../server/db/sqlite.ts'
import { Treasury } from '../../server/payouts/treasury.ts'

const wallet = 'ee'.repeat(32)
const everything = { wallet: null, before: null, limit: 10 }
const logged: unknown[] = []
const log = {
  info: (...line: unknown[]) => void logged.push(line),
  error: (...line: unknown[]) => void logged.push(line),
}
const none = { open: async () => [], ended: async () => [], held: async () => {} }
let local: LocalChain

beforeAll(async () => {
  local = await startLocalChain({ port: 0, finalityLag: 2, blockMs: null })
})
afterAll(() => local?.close())

it('pays over the configured chain what the ledger owes, and says so', async () => {
  const store = await openSqliteStore(':memory:')
  const config = configFromEnvironment({ SKEIN_CHAIN_URL: local.url, SKEIN_PAYOUT_SEED: '//Alice' })
  const planck = 123_456_789_012n
  const source = {
    sealed: () => Promise.resolve({ epoch: 1, root: 'cd'.repeat(32) }),
    owed: async () => ((await store.payouts.batches(1, null, null))[0]?.state === 'paid' ? [] : [{ wallet, planck }]),
  }
  const treasury = new Treasury({
    config,
    store: store.payouts,
    source,
    log,
    deposits: { ...none, store: store.deposits },
  })
  await treasury.open()
  const view = () => treasury.payoutsView({ ...everything, wallet })
  const deadline = performance.now() + 90_000
  while ((await view()).batches[0]?.state !== 'paid' && performance.now() < deadline) {
    // Blocks come when there is something for them, so that a busy machine is given its time.
    if ((await view()).status !== null) await local.build(1)
    await sleep(100)
  }
  const { batches, status } = await view()
  expect(batches).toMatchObject([{ state: 'paid', amount: String(planck), attempts: 1, epoch: 1 }])
  expect(status).toMatchObject({ halted: null, trouble: null })
  const chain = await treasury.chainView()
  expect(chain).toMatchObject({ symbol: 'ROC', decimals: 12, existentialDeposit: '3333333' })
  expect(BigInt(chain!.hot!.balance)).toBeLessThan(10n ** 18n - planck)
  expect(chain!.finalized).toBeGreaterThanOrEqual(batches[0]!.block!.number)
  expect(JSON.stringify(logged)).not.toContain('//Alice')
  await treasury.close()
  await store.close()
})

it('keeps nobody waiting for a node that is not there', async () => {
  const store = await openSqliteStore(':memory:')
  const config = configFromEnvironment({ SKEIN_CHAIN_URL: 'ws://127.0.0.1:9', SKEIN_PAYOUT_SEED: '//Alice' })
  const treasury = new Treasury({
    config,
    store: store.payouts,
    source: null,
    log,
    deposits: { ...none, store: store.deposits },
  })
  await treasury.open()
  await expect(treasury.chainView()).rejects.toMatchObject({ code: 'chain.unreachable' })
  expect(await treasury.payoutsView(everything)).toEqual({ status: null, batches: [] })
  await treasury.close()
  await store.close()
})

it('tells what came to a run’s address once the block is final, and not before', async () => {
  const store = await openSqliteStore(':memory:')
  const config = configFromEnvironment({ SKEIN_CHAIN_URL: local.url, SKEIN_PAYOUT_SEED: '//Alice' })
  const told: [string, bigint][] = []
  const address = { wallet: '' }
  const treasury = new Treasury({
    config,
    store: store.payouts,
    source: null,
    log,
    deposits: {
      ...none,
      store: store.deposits,
      open: async () => [{ runId: 'r1', wallet: address.wallet }],
      held: async (runId, planck) => void told.push([runId, planck]),
    },
  })
  address.wallet = (await treasury.depositWallet('r1'))!
  expect(await treasury.depositWallet('r2')).not.toBe(address.wallet)
  await treasury.open()
  const until = async (done: () => boolean) => {
    for (const deadline = performance.now() + 60_000; !done() && performance.now() < deadline;) await sleep(50)
    expect(done()).toBe(true)
  }
  await until(() => told.length > 0)
  expect(treasury.addressOf(address.wallet)).toMatch(/^[1-9A-HJ-NP-Za-km-z]{46,48}$/)
  const chain = await connectChain(local.url)
  const alice = await signerFromSecret('//Alice')
  const planck = 77n * 10n ** 12n
  const batch = { transfers: [{ wallet: address.wallet, planck }], root: 'ab'.repeat(32) }
  const signed = await chain.sign(batch, alice, await chain.nextNonce(alice.wallet), 64)
  expect(await chain.submit(signed.bytes)).toEqual({ accepted: true })
  const before = told.length
  await local.build(1)
  await until(() => told.length > before)
  await sleep(500)
  expect(new Set(told.map(([, held]) => held))).toEqual(new Set([0n]))
  await local.build(2)
  await until(() => told.at(-1)![1] === planck)
  expect(told.every(([runId]) => runId === 'r1')).toBe(true)
  await chain.close()
  await treasury.close()
  await store.close()
})
