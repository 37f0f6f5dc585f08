/** Owns the proof that decisions reach sockets and store in order, and that a restarted server goes on where it stood. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openFolderBlobs } from '../../../server/checkpoints/folderBlobs.ts'
import type { Gateway } from '../../../server/control/gateway.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { BlobStore, Store } from '../../../server/db/store.ts'
import { createMetrics } from '../../../server/metrics.ts'
import { Coordinator } from '../../../server/runs/coordinator.ts'
import type { LiveEvent } from '../../../src/protocol/api.ts'
import type { ClientMessage, ServerMessage } from '../../../src/protocol/control.ts'

const adapter = {
  vendor: 'v',
  architecture: 'a',
  description: 'd',
  software: false,
  maxBufferSize: 1e9,
  maxStorageBufferBindingSize: 1e9,
}
const config = {
  model: { dModel: 16, layers: 2, heads: 2, kvHeads: 2, ffn: 32, blockSize: 8 },
  stages: 1,
  replicas: 1,
  batch: 2,
  microbatch: 2,
  steps: 3,
  checkpointEvery: 2,
}

let folder: string
let store: Store
let blobs: BlobStore
let coordinator: Coordinator
let sent: { nodeId: string; message: ServerMessage }[]

const gateway: Gateway = {
  send: (nodeId, message) => void sent.push({ nodeId, message }),
  disconnect: () => {},
  connections: () => 0,
  close: () => {},
}

async function start(): Promise<void> {
  sent = []
  const log = { info: () => {}, error: () => {} }
  coordinator = new Coordinator({ store, blobs, metrics: createMetrics({ process: false }), log, version: 'test' })
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

const say = (message: ClientMessage) => coordinator.nodeSaid('n1', message)
const join1 = () =>
  coordinator.nodeJoined('n1', {
    type: 'hello',
    protocol: 1,
    deviceId: 'dev',
    kind: 'browser',
    adapter,
    memoryBytes: 1e10,
  })

async function next<T extends ServerMessage['type']>(type: T): Promise<Extract<ServerMessage, { type: T }>> {
  await expect.poll(() => sent.some(({ message }) => message.type === type), { timeout: 5000 }).toBe(true)
  const at = sent.findIndex(({ message }) => message.type === type)
  return sent.splice(0, at + 1)[at]!.message as Extract<ServerMessage, { type: T }>
}

/** Plays a node through one step, as the only member of the only stage. */
async function playStep(loss: number): Promise<number> {
  const { generation, step } = await next('step')
  say({ type: 'loss', generation, step, microbatch: 0, lossSum: loss * 16, tokens: 16 })
  say({ type: 'shardReduced', generation, step, shard: 0, squaredNorm: 4 })
  const apply = await next('apply')
  expect(apply.scale).toBeCloseTo(0.5, 5)
  say({ type: 'stepApplied', generation, step })
  return generation
}

async function ready(): Promise<void> {
  const { assignment } = await next('assign')
  say({ type: 'ready', generation: assignment.generation })
}

test('a run launched without volunteers waits and says which stage does', async () => {
  const { id, state } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  expect(state).toBe('waiting')
  const detail = await coordinator.detail(id)
  expect(detail.detail).toContain('Stage 1 of 1 waits for a volunteer')
  expect(detail.grid).toEqual([[null]])
})

test('launching on an unknown dataset or with a bad config leaves nothing behind', async () => {
  await expect(coordinator.launch({ name: 'x', datasetId: 'nope', config })).rejects.toMatchObject({
    code: 'dataset.unknown',
  })
  const bad = { ...config, model: { ...config.model, heads: 3, kvHeads: 3 } }
  await expect(coordinator.launch({ name: 'x', datasetId: 'd1', config: bad })).rejects.toMatchObject({
    code: 'run.heads_do_not_divide',
  })
  expect(await coordinator.summaries()).toEqual([])
})

test('a vocabulary left out is the dataset’s; one that is too small is refused', async () => {
  const { vocabSize } = (await coordinator.launch({ name: 'bytes', datasetId: 'd1', config })).config.model
  expect(vocabSize).toBe(256)
  const dataset = { ...(await store.dataset('d1'))!, id: 'd2', tokenizer: 'character', vocabulary: 'abc' } as const
  await store.insertDataset(dataset)
  const { id } = await coordinator.launch({ name: 'characters', datasetId: 'd2', config })
  expect((await store.run(id))!.config.model.vocabSize).toBe(3)
  const small = { ...config, model: { ...config.model, vocabSize: 2 } }
  await expect(coordinator.launch({ name: 'x', datasetId: 'd2', config: small })).rejects.toMatchObject({
    code: 'run.vocabulary',
  })
})

test('a step is in the store before the next one is announced', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  await playStep(2.5)
  await next('step')
  expect(await store.metrics(id)).toMatchObject([{ step: 1, loss: 2.5, gradNorm: 2, tokens: 16 }])
})

test('a restarted server rolls back to the last checkpoint and goes on from there', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  await playStep(2.5)
  await coordinator.close()
  await start()
  const detail = await coordinator.detail(id)
  expect(detail).toMatchObject({ state: 'waiting', step: 0, rollbacks: 1 })
  expect(await store.metrics(id)).toEqual([])
  join1()
  await ready()
  expect((await next('step')).step).toBe(1)
})

test('a checkpoint whose chunks were never uploaded is refused and the run goes back', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  await playStep(2.5)
  const generation = await playStep(2.4)
  const { step } = await next('save')
  const chunk = { kind: 'parameters', offset: 0, length: 64, hash: 'a'.repeat(64) } as const
  const parametersHash = 'b'.repeat(64)
  say({ type: 'shardSaved', generation, step, shard: 0, chunks: [chunk], parametersHash })
  await expect.poll(async () => (await coordinator.detail(id)).rollbacks, { timeout: 5000 }).toBe(1)
  expect((await store.checkpoints(id)).map((checkpoint) => checkpoint.step)).toEqual([0])
  const { events } = await coordinator.detail(id)
  expect(events.map((event) => event.text).join(' ')).toContain('The checkpoint of step 2 could not be kept')
})

test('a watcher gets a snapshot, then every commit and rollback', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  const seen: LiveEvent[] = []
  const stop = await coordinator.subscribe(id, (event) => seen.push(event))
  join1()
  await ready()
  await playStep(2.5)
  coordinator.nodeLeft('n1')
  await expect.poll(() => seen.map((event) => event.type)).toContain('rollback')
  stop()
  const kinds = seen.map((event) => event.type).filter((type) => type !== 'detail')
  expect(kinds).toEqual(['snapshot', 'metric', 'rollback'])
})

test('cancelling frees the volunteers and cannot be done twice', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  expect((await coordinator.cancel(id)).state).toBe('cancelled')
  await next('release')
  expect(coordinator.fleet()).toMatchObject({ nodes: 1, working: 0, standby: 1, runsActive: 0 })
  await expect(coordinator.cancel(id)).rejects.toMatchObject({ code: 'run.ended' })
  await expect(coordinator.cancel('nope')).rejects.toMatchObject({ code: 'run.unknown' })
})
