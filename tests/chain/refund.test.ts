/** Proves on a real runtime that what a run did not spend goes back to its senders, once, and what was earned to the account that pays. */
import { setTimeout as sleep } from 'node:timers/promises'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startLocalChain } from '../../server/chain/local/localChain.ts'
import type { LocalChain } from '../../server/chain/local/localChain.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import type { Chain } from '../../server/chain/port.ts'
import { signerFromSecret } from '../../server/chain/signer.ts'
import { configFromEnvironment } from '../../server/config.ts'
import { openSqliteStore } from '../../server/db/sqlite.ts'
import { Treasury } from '../../server/payouts/treasury.ts'

let local: LocalChain
let chain: Chain
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-refund-'))
  local = await startLocalChain({ port: 0, finalityLag: 2, blockMs: null })
  chain = await connectChain(local.url)
})
afterAll(async () => {
  await chain?.close()
  await local?.close()
  await rm(folder, { recursive: true })
})

const log = { info: () => {}, error: () => {} }
const UNIT = 10n ** 12n

/** The treasury of a server that is started again and again over one database; the run is under way until it is said to end. */
function deployment(runId: string) {
  const run = { ended: false, spent: 0n, wallet: '' }
  const told: bigint[] = []
  const start = async () => {
    const store = await openSqliteStore(join(folder, `${runId}.db`))
    const config = configFromEnvironment({ SKEIN_CHAIN_URL: local.url, SKEIN_PAYOUT_SEED: '//Alice' })
    const treasury = new Treasury({
      config,
      store: store.payouts,
      source: { sealed: async () => null, owed: async () => [] },
      log,
      deposits: {
        store: store.deposits,
        open: async () => (run.ended ? [] : [{ runId, wallet: run.wallet }]),
        ended: async () => (run.ended ? [{ runId, wallet: run.wallet, spent: run.spent }] : []),
        held: async (_, planck) => void told.push(planck),
      },
    })
    run.wallet = (await treasury.depositWallet(runId))!
    await treasury.open()
    return { treasury, close: async () => (await treasury.close(), store.close()) }
  }
  return { run, told, start }
}

async function build(done: () => Promise<boolean> | boolean, blocks = 40): Promise<void> {
  for (let n = 0; n < blocks && !(await done()); n++) {
    await local.build(1)
    await sleep(300)
  }
  expect(await done()).toBe(true)
}

async function send(from: string, wallet: string, planck: bigint): Promise<void> {
  const signer = await signerFromSecret(from)
  const batch = { transfers: [{ wallet, planck }], root: 'ab'.repeat(32) }
  const signed = await chain.sign(batch, signer, await chain.nextNonce(signer.wallet), 64)
  expect(await chain.submit(signed.bytes)).toEqual({ accepted: true })
}

const balances = async (...secrets: string[]) =>
  chain.freeBalances(await Promise.all(secrets.map(async (secret) => (await signerFromSecret(secret)).wallet)))

it('two senders get theirs in proportion, the hot account what was earned, and the address ends empty', async () => {
  const { run, told, start } = deployment('r1')
  let server = await start()
  await build(() => told.length > 0)
  await send('//Bob', run.wallet, 30n * UNIT)
  await send('//Charlie', run.wallet, 10n * UNIT)
  await build(() => told.at(-1) === 40n * UNIT)
  const [alice, bob, charlie] = await balances('//Alice', '//Bob', '//Charlie')
  run.spent = 8n * UNIT + 5n
  run.ended = true
  // The server goes amid whatever it does, and another goes on.
  await build(async () => (await server.treasury.refundsOf('r1')).length === 1)
  await server.close()
  server = await start()
  await build(async () => (await server.treasury.refundsOf('r1')).some(({ state }) => state === 'paid'))
  const [refund] = await server.treasury.refundsOf('r1')
  expect(refund).toMatchObject({ state: 'paid', extrinsic: expect.stringMatching(/^0x[0-9a-f]{64}$/) })
  const after = await balances('//Alice', '//Bob', '//Charlie')
  expect(after[0]! - alice!).toBe(run.spent)
  const back = 32n * UNIT - 5n
  // Bob sent most: he gets all that is left, and bears the fee.
  const [gotBob, gotCharlie] = [after[1]! - bob!, after[2]! - charlie!]
  expect(back - gotBob - gotCharlie).toBeGreaterThan(0n)
  expect(back - gotBob - gotCharlie).toBeLessThan(UNIT / 10n)
  expect(back / 4n - gotCharlie).toBeGreaterThanOrEqual(0n)
  expect(back / 4n - gotCharlie).toBeLessThan(UNIT / 10n)
  expect(await chain.freeBalances([run.wallet])).toEqual([0n])

  // Once: neither more blocks nor another start send anything more; what comes late goes back to who sent it.
  await server.close()
  server = await start()
  for (let n = 0; n < 8; n++) {
    await local.build(1)
    await sleep(200)
  }
  expect(await server.treasury.refundsOf('r1')).toHaveLength(1)
  const [beforeDave] = await balances('//Charlie')
  await send('//Charlie', run.wallet, 2n * UNIT)
  await build(async () => (await server.treasury.refundsOf('r1')).filter(({ state }) => state === 'paid').length === 2)
  const [hot] = await balances('//Alice')
  expect(hot).toBe(after[0])
  expect(beforeDave! - (await balances('//Charlie'))[0]!).toBeLessThan(UNIT / 10n)
  await server.close()
}, 240_000)

it('what is too little to be sent back goes to the hot account, and the run is told of', async () => {
  const { run, told, start } = deployment('r2')
  const server = await start()
  await build(() => told.length > 0)
  await send('//Bob', run.wallet, UNIT)
  await build(() => told.at(-1) === UNIT)
  const [alice] = await balances('//Alice')
  run.spent = UNIT
  run.ended = true
  await build(async () => (await server.treasury.refundsOf('r2')).some(({ state }) => state === 'paid'))
  const got = (await balances('//Alice'))[0]! - alice!
  expect(got).toBeGreaterThan(UNIT - UNIT / 10n)
  expect(got).toBeLessThan(UNIT)
  expect(await chain.freeBalances([run.wallet])).toEqual([0n])
  await server.close()
}, 120_000)
