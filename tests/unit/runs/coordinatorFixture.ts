/** Owns a live coordinator over a slow store and a gateway that keeps what is sent: new for each test, and closed after it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect } from 'vitest'
import { openFolderBlobs } from '../../../server/checkpoints/folderBlobs.ts'
import type { Gateway } from '../../../server/control/gateway.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { BlobStore, Store } from '../../../server/db/store.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import { serverClock } from '../../../server/ledger/sealing.ts'
import { createMetrics } from '../../../server/metrics.ts'
import { Coordinator } from '../../../server/runs/coordinator.ts'
import type { ClientMessage, Holding, ServerMessage } from '../../../src/protocol/control.ts'

const adapter = {
  vendor: 'v',
  architecture: 'a',
  description: 'd',
  software: false,
  maxBufferSize: 1e9,
  maxStorageBufferBindingSize: 1e9,
}
export const config = {
  model: { dModel: 16, layers: 2, heads: 2, kvHeads: 2, ffn: 32, blockSize: 8 },
  stages: 1,
  replicas: 1,
  batch: 2,
  microbatch: 2,
  steps: 3,
  checkpointEvery: 2,
}

let folder: string
export let store: Store
export let blobs: BlobStore
export let coordinator: Coordinator
/** What the store was asked to write and what was sent, in their order. */
export let order: string[]
export let sent: { nodeId: string; message: ServerMessage }[]
/** What the coordinator complained about. */
export let errors: string[]

/** After a restart nobody is waited for longer than this. */
const timing = { recoveryMs: 1000 }

/** A store that takes its time over every write and says when it is done, so that nothing can overtake it by luck. */
function slow(real: Store): Store {
  return new Proxy(real, {
    get(target, name: keyof Store) {
      const member = target[name]
      if (typeof member !== 'function') return member
      const method = member.bind(target) as (...values: unknown[]) => Promise<unknown>
      if (!/^(commit|prepare|update|roll|reserve|append|add)/.test(name)) return method
      return async (...values: unknown[]) => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        const result = await method(...values)
        order.push(name)
        return result
      }
    },
  })
}

const gateway: Gateway = {
  send: (nodeId, message) => {
    order.push(message.type)
    sent.push({ nodeId, message })
  },
  disconnect: () => {},
  expel: () => {},
  close: () => {},
}

export async function start(): Promise<void> {
  sent = []
  order = []
  errors = []
  const log = { info: () => {}, error: (_: object, text: string) => void errors.push(text) }
  const options = { blobs, metrics: createMetrics({ process: false }), log, version: 'test', timing }
  const ledger = new Ledger({ store: store.ledger, clock: serverClock(), epochLength: 3_600_000, log })
  const deposits = { walletFor: async () => null, addressOf: () => null, refundsOf: async () => [] }
  const creditOf = (runId: string) => ledger.creditOf(runId)
  coordinator = new Coordinator({ ...options, store: slow(store), creditOf, deposits })
  await coordinator.resume(gateway)
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-coordinator-'))
  store = await openSqliteStore(join(folder, 'skein.sqlite'))
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

export const say = (message: ClientMessage, nodeId = 'n1') => coordinator.nodeSaid(nodeId, message)
export const hello = (holding: Holding | null = null, deviceId = 'dev') => ({
  deviceId,
  kind: 'browser' as const,
  adapter,
  memoryBytes: 1e10,
  holding,
})
export const join1 = (holding: Holding | null = null) => coordinator.nodeJoined('n1', hello(holding))

export async function next<T extends ServerMessage['type']>(type: T): Promise<Extract<ServerMessage, { type: T }>> {
  await expect.poll(() => sent.some(({ message }) => message.type === type), { timeout: 5000 }).toBe(true)
  const at = sent.findIndex(({ message }) => message.type === type)
  return sent.splice(0, at + 1)[at]!.message as Extract<ServerMessage, { type: T }>
}

/** Plays a node through a step up to `apply`, as the only member of the only stage. */
export async function playToApply(loss: number): Promise<Extract<ServerMessage, { type: 'apply' }>> {
  const { generation, step, version } = await next('step')
  say({ type: 'finished', generation, step, version, losses: [[0, loss * 16, 16]], busyMs: 5 })
  const { attempt } = await next('reduce')
  say({ type: 'reduced', generation, step, attempt, shard: 0, squaredNorm: 4, digest: null })
  const apply = await next('apply')
  expect(apply.scale).toBeCloseTo(0.5, 5)
  return apply
}

export async function playStep(loss: number): Promise<number> {
  const { generation, step } = await playToApply(loss)
  say({ type: 'updated', generation, step, shard: 0 })
  return generation
}

export async function ready(): Promise<number> {
  const { assignment } = await next('assign')
  const { generation, checkpoint } = assignment
  say({ type: 'ready', generation, step: checkpoint.step, expectedMs: null })
  return generation
}
