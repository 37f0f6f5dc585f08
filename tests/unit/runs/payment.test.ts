/** Owns the proof that what a run pays is durable, and that its budget holds on the live system and over a restart. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openFolderBlobs } from '../../../server/checkpoints/folderBlobs.ts'
import type { Gateway } from '../../../server/control/gateway.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { BlobStore, Store } from '../../../server/db/store.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import { serverClock } from '../../../server/ledger/sealing.ts'
import { createMetrics } from '../../../server/metrics.ts'
import { Coordinator } from '../../../server/runs/coordinator.ts'
import { stepCredit } from '../../../src/model/credit.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

const config = {
  model: { dModel: 16, layers: 2, heads: 2, kvHeads: 2, ffn: 32, blockSize: 8 },
  stages: 1,
  replicas: 1,
  batch: 2,
  microbatch: 2,
  steps: 3,
}
const device = 'ab'.repeat(32)
const adapter = {
  vendor: '',
  architecture: '',
  description: '',
  software: true,
  maxBufferSize: 1e9,
  maxStorageBufferBindingSize: 1e9,
}
/** At this price a planck is one FLOP. */
const ONE = String(10n ** 15n)
const STEP = stepCredit(runConfigSchema.parse(config))

let folder: string
let store: Store
let blobs: BlobStore
let coordinator: Coordinator
let sent: ServerMessage[]
/** By run; none where there is no chain. */
let wallets: Map<string, string> | null

async function start(): Promise<void> {
  sent = []
  const log = { info: () => {}, error: () => {} }
  const ledger = new Ledger({ store: store.ledger, clock: serverClock(), epochLength: 3_600_000, log })
  const creditOf = (runId: string) => ledger.creditOf(runId)
  const addresses = {
    walletFor: async (runId: string) => {
      wallets?.set(runId, runId.slice(1).padStart(64, '0'))
      return wallets?.get(runId) ?? null
    },
    addressOf: (wallet: string) => `SS58 ${wallet}`,
    refundsOf: async () => [],
  }
  const metrics = createMetrics({ process: false })
  coordinator = new Coordinator({
    store,
    blobs,
    metrics,
    log,
    version: 'test',
    creditOf,
    deposits: addresses,
    timing: { recoveryMs: 100 },
  })
  const gateway: Gateway = {
    send: (_, message) => void sent.push(message),
    disconnect: () => {},
    expel: () => {},
    close: () => {},
  }
  await coordinator.resume(gateway)
}

beforeEach(async () => {
  wallets = null
  folder = await mkdtemp(join(tmpdir(), 'skein-payment-'))
  store = await openSqliteStore(':memory:')
  blobs = await openFolderBlobs(join(folder, 'blobs'))
  const dataset = { id: 'd1', name: 'text', bytes: 4000, tokens: 4000, trainTokens: 3600, createdAt: 1 }
  const cut = { tokenizer: 'byte', vocabSize: 256, vocabulary: null } as const
  await store.insertDataset({ ...dataset, ...cut, tokensHash: await blobs.put(new Uint8Array(8000)) })
  await start()
})

afterEach(async () => {
  await coordinator.close()
  await store.close()
  await rm(folder, { recursive: true })
})

const restart = async () => {
  await coordinator.close()
  await start()
}
const launch = (payment?: { planckPerPflop: string; budget: string }) =>
  coordinator.launch({ name: 'run', datasetId: 'd1', config, payment })
const enter = () =>
  coordinator.nodeJoined('n1', { deviceId: device, kind: 'browser', adapter, memoryBytes: 1e10, holding: null })
const entries = async () => (await store.ledger.rows(1, 10)).map(({ entry }): unknown => JSON.parse(entry))
const earn = (run: string, credit: bigint) =>
  store.ledger.append([{ kind: 'audit', run, step: 1, stage: 0, device, credit: String(credit) }], 1)

test('what a run pays is kept, and its price is in the ledger before anything it earns', async () => {
  const payment = { planckPerPflop: '3', budget: '1000' }
  expect((await launch()).payment).toBeNull()
  const { id } = await launch(payment)
  expect(await entries()).toEqual([{ kind: 'price', run: id, planckPerPflop: '3' }])
  await earn(id, 10n ** 16n + 1n)
  // Less than a planck is owed to nobody, and is spent all the same.
  expect((await coordinator.detail(id)).payment).toEqual({ ...payment, spent: '31', deposit: null })
  await restart()
  expect((await coordinator.detail(id)).payment).toEqual({ ...payment, spent: '31', deposit: null })
  expect(await entries()).toHaveLength(2)
})

test('a budget that pays for a step to the last planck starts the run, and one planck less does not', async () => {
  enter()
  const short = await launch({ planckPerPflop: ONE, budget: String(STEP - 1n) })
  expect(short).toMatchObject({ state: 'paused', detail: expect.stringContaining('The budget is used up') })
  expect(sent.some(({ type }) => type === 'assign')).toBe(false)
  expect(await launch({ planckPerPflop: ONE, budget: String(STEP) })).toMatchObject({ state: 'preparing' })
  expect(sent.filter(({ type }) => type === 'assign')).toHaveLength(1)
})

test('what was earned before a restart counts, and a raised budget outlives it', async () => {
  const { id } = await launch({ planckPerPflop: ONE, budget: String(STEP) })
  await earn(id, 1n)
  await restart()
  enter()
  expect(await coordinator.detail(id)).toMatchObject({ state: 'paused', payment: { spent: '1' } })
  await expect(coordinator.raiseBudget(id, '0')).rejects.toMatchObject({ code: 'run.budget_lowered' })
  const budget = String(STEP + 1n)
  expect((await coordinator.raiseBudget(id, budget)).payment).toMatchObject({ budget, spent: '1' })
  expect((await coordinator.detail(id)).state).toBe('preparing')
  await restart()
  enter()
  await expect.poll(async () => (await coordinator.detail(id)).payment).toMatchObject({ budget })
  expect((await store.run(id))!.payment).toEqual({ planckPerPflop: ONE, budget, deposit: null })
})

test('where there is a chain a run spends what came to its address, within its budget, whatever leaves it later', async () => {
  wallets = new Map()
  enter()
  const { id, payment } = await launch({ planckPerPflop: ONE, budget: String(2n * STEP) })
  const wallet = wallets.get(id)!
  expect(payment!.deposit).toEqual({ wallet, address: `SS58 ${wallet}`, held: '0', refunds: [] })
  const now = () => coordinator.detail(id)
  expect(await now()).toMatchObject({ state: 'paused', detail: expect.stringContaining('deposit address') })
  expect(await coordinator.depositors()).toEqual([{ runId: id, wallet }])
  await coordinator.deposited(id, STEP - 1n)
  expect(await now()).toMatchObject({ state: 'paused', payment: { deposit: { held: String(STEP - 1n) } } })
  await coordinator.deposited(id, STEP)
  expect((await now()).state).toBe('preparing')
  await coordinator.deposited(id, 1n)
  await earn(id, 1n)
  await restart()
  enter()
  // First it looks whether somebody still holds what came after the checkpoint.
  await expect.poll(async () => (await now()).state, { timeout: 5000 }).toBe('paused')
  expect((await now()).payment).toMatchObject({ spent: '1', deposit: { held: String(STEP) } })
  // A budget that is raised pays nothing by itself.
  await coordinator.raiseBudget(id, String(9n * STEP))
  expect((await now()).state).toBe('paused')
  await coordinator.deposited(id, STEP + 1n)
  expect((await now()).state).toBe('preparing')
  await coordinator.cancel(id)
  expect(await coordinator.depositors()).toEqual([])
})

test('a deposit beyond the budget is not spent', async () => {
  wallets = new Map()
  const { id } = await launch({ planckPerPflop: ONE, budget: String(STEP - 1n) })
  await coordinator.deposited(id, 100n * STEP)
  expect((await coordinator.detail(id)).state).toBe('paused')
  enter()
  await coordinator.raiseBudget(id, String(STEP))
  expect((await coordinator.detail(id)).state).toBe('preparing')
})

test('a budget is raised only where there is one, on a run that can still use it', async () => {
  await expect(coordinator.raiseBudget('nope', '0')).rejects.toMatchObject({ code: 'run.unknown' })
  const free = await launch()
  await expect(coordinator.raiseBudget(free.id, '1')).rejects.toMatchObject({ code: 'run.unpaid' })
  const { id } = await launch({ planckPerPflop: ONE, budget: '1' })
  await coordinator.cancel(id)
  await expect(coordinator.raiseBudget(id, '2')).rejects.toMatchObject({ code: 'run.ended' })
})

test('a quote takes the devices that are there, and those that compute in software where they may', async () => {
  const ask = (more = {}) => coordinator.quote({ datasetId: 'd1', config: { ...config, ...more }, planckPerPflop: ONE })
  expect(await ask()).toMatchObject({ cost: String(3n * STEP), time: { known: false } })
  enter()
  const why = async (more = {}) => JSON.stringify((await ask(more)).time)
  expect(await why()).toContain('nothing is measured')
  expect(await why({ requireHardware: true })).toContain('No device')
  await expect(ask({ model: { heads: 3, dModel: 16 } })).rejects.toMatchObject({ code: 'run.heads_do_not_divide' })
  expect(await store.runs()).toEqual([])
})
