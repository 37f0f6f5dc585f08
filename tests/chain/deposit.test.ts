/** Proves on a whole server and a real runtime that a run waits for its money, and starts once that is final. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startLocalChain } from '../../server/chain/local/localChain.ts'
import type { LocalChain } from '../../server/chain/local/localChain.ts'
import { connectChain } from '../../server/chain/polkadotChain.ts'
import { signerFromSecret } from '../../server/chain/signer.ts'
import { startServer } from '../../server/main.ts'
import { generateCorpus } from '../../src/formats/corpus.ts'
import { runDetailSchema, runSummarySchema } from '../../src/protocol/api.ts'

let local: LocalChain
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-deposit-'))
  local = await startLocalChain({ port: 0, finalityLag: 2, blockMs: null })
})
afterAll(async () => {
  await local?.close()
  await rm(folder, { recursive: true })
})

it('a run that pays waits for its deposit, starts when that is final, and remembers it over a restart', async () => {
  const start = () =>
    startServer({
      host: '127.0.0.1',
      port: 0,
      dataFolder: folder,
      logLevel: 'silent',
      adminToken: null,
      chainUrl: local.url,
      payouts: { seed: '//Alice', batch: 100, epochCap: null, least: 0n },
    })
  let server = await start()
  const send = async (path: string, type: string, body: string): Promise<unknown> =>
    (await fetch(`${server.url}/api/v1${path}`, { method: 'POST', headers: { 'content-type': type }, body })).json()
  const dataset = (await send('/datasets?name=text', 'text/plain', generateCorpus(1, 50_000))) as { id: string }
  const budget = String(10n ** 13n)
  const payment = { planckPerPflop: '1000', budget }
  const asked = { name: 'paid', datasetId: dataset.id, config: { stages: 1 }, payment }
  const run = runSummarySchema.parse(await send('/runs', 'application/json', JSON.stringify(asked)))
  expect(run).toMatchObject({ state: 'paused', payment: { deposit: { held: '0' } } })
  const detail = async () => runDetailSchema.parse(await (await fetch(`${server.url}/api/v1/runs/${run.id}`)).json())
  const until = async (done: () => Promise<boolean>) => {
    for (const deadline = performance.now() + 60_000; !(await done()) && performance.now() < deadline;) await sleep(100)
    expect(await done()).toBe(true)
  }
  await until(async () => (await detail()).payment!.deposit!.address !== null)
  const { address, wallet } = (await detail()).payment!.deposit!

  const chain = await connectChain(local.url)
  expect(chain.addressOf(wallet)).toBe(address)
  const bob = await signerFromSecret('//Bob')
  const transfers = [{ wallet, planck: 10n ** 12n }]
  const signed = await chain.sign({ transfers, root: 'ab'.repeat(32) }, bob, await chain.nextNonce(bob.wallet), 64)
  expect(await chain.submit(signed.bytes)).toEqual({ accepted: true })
  await local.build(1)
  await sleep(1000)
  expect((await detail()).state).toBe('paused')
  await local.build(2)
  await until(async () => (await detail()).state === 'waiting')
  expect((await detail()).payment!.deposit!.held).toBe(String(10n ** 12n))

  await server.close()
  server = await start()
  await until(async () => (await detail()).payment!.deposit!.address === address)
  expect(await detail()).toMatchObject({ state: 'waiting', payment: { budget, deposit: { held: String(10n ** 12n) } } })

  // Cancelled, it has earned nobody anything: all goes back, but for the fee.
  const [before] = await chain.freeBalances([bob.wallet])
  await send(`/runs/${run.id}/cancel`, 'text/plain', '')
  const refunds = async () => (await detail()).payment!.deposit!.refunds
  for (let n = 0; n < 40 && (await refunds())[0]?.state !== 'paid'; n++) {
    await local.build(1)
    await sleep(300)
  }
  expect(await refunds()).toMatchObject([{ state: 'paid', block: expect.any(Number) }])
  const [after] = await chain.freeBalances([bob.wallet])
  expect(10n ** 12n - (after! - before!)).toBeLessThan(10n ** 11n)
  expect(await chain.freeBalances([wallet])).toEqual([0n])
  await server.close()
  await chain.close()
}, 240_000)
