/** Owns the proof that decisions reach sockets and store in order, and that a restarted server goes on where it stood. */
import { expect, test } from 'vitest'
import { checkReceipt } from '../../../server/runs/receiptCheck.ts'
import { microbatchCredit } from '../../../src/model/credit.ts'
import type { LiveEvent } from '../../../src/protocol/api.ts'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import { signReceipts } from '../../../src/stage/receiptWork.ts'
import { testDevice } from '../deviceKeys.ts'
import {
  config,
  coordinator,
  hello,
  join1,
  next,
  order,
  playStep,
  playToApply,
  ready,
  say,
  sent,
  start,
  store,
} from './coordinatorFixture.ts'

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

test('what is to be applied, a step and the number of a generation are in the store before anybody hears of them', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  await playStep(2.5)
  await next('step')
  expect(await store.metrics(id)).toMatchObject([{ step: 1, loss: 2.5, gradNorm: 2, tokens: 16 }])
  const after = (first: string, then: string) => {
    const done = order.indexOf(first)
    expect(done).toBeGreaterThanOrEqual(0)
    expect(order.indexOf(then, done)).toBeGreaterThan(done)
    return order.slice(0, done).filter((name) => name === then).length
  }
  expect(after('updateRun', 'assign')).toBe(0)
  expect(after('prepareStep', 'apply')).toBe(0)
  // The first `step` is the one that is committed.
  expect(after('commitStep', 'step')).toBe(1)
})

test('a step whose receipt its device signed is in the ledger with the commit, and the device is told after it', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  const device = testDevice(7)
  coordinator.nodeJoined('n1', hello(null, device.id))
  await ready()
  for (const signs of [device, testDevice(8)]) {
    const { generation, step, version, leases } = await next('step')
    const none = { activationTaken: null, activationMade: null, gradientTaken: null, gradientMade: null }
    const entries = leases.map(([microbatch]) => ({ microbatch, up: null, down: null, ...none }))
    const about = { run: id, generation, step, leases: version, stage: 0 }
    const [signed] = await signReceipts(about, entries, [], { id: device.id, sign: signs.sign })
    say({ type: 'receipt', generation, ...signed! })
    say({ type: 'finished', generation, step, version, losses: [[0, 40, 16]], busyMs: 5 })
    const { attempt } = await next('reduce')
    say({ type: 'reduced', generation, step, attempt, shard: 0, squaredNorm: 4, digest: null })
    await next('apply')
    order.length = 0
    say({ type: 'updated', generation, step, shard: 0 })
    const { work, refused } = await next('credited')
    expect(order.indexOf('commitStep')).toBeLessThan(order.indexOf('credited'))
    const rows = (await store.ledger.rows(1, 10)).map(({ entry }) => JSON.parse(entry) as LedgerEntry)
    if (signs === device) {
      const { hash } = checkReceipt(signed!, device.id)
      const { credit } = work[0]!
      expect(BigInt(credit)).toBe(microbatchCredit((await store.run(id))!.config, 0))
      const row = { kind: 'work', run: id, generation, step, stage: 0, device: device.id, microbatches: 1 }
      expect(work).toEqual([{ ...row, credit, receipt: hash }])
      expect(rows).toEqual(work)
    } else {
      expect(work).toEqual([])
      expect(refused).toMatchObject([{ microbatches: 1, error: { code: 'receipt.signature' } }])
      expect(rows).toHaveLength(1)
    }
  }
})

test('no message waits for a write that need not come before it', async () => {
  await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  const { generation, step, version } = await next('step')
  order.length = 0
  // A run that is being written to holds up neither another node nor this one.
  const launching = coordinator.launch({ name: 'other', datasetId: 'd1', config })
  say({ type: 'finished', generation, step, version, losses: [[0, 40, 16]], busyMs: 5 })
  expect(order).toEqual(['reduce'])
  coordinator.nodeJoined('n2', hello(null, 'dev2'))
  expect(sent.at(-1)).toMatchObject({ nodeId: 'n2' })
  await launching
})

test('a step that the store will not take is heard of by nobody, and ends the run', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  const { generation, step } = await playToApply(2.5)
  await store.rollBack(id, 7)
  say({ type: 'updated', generation, step, shard: 0 })
  await next('release')
  expect(order.filter((name) => name === 'step')).toHaveLength(1)
  await expect.poll(async () => (await coordinator.detail(id)).state).toBe('cancelled')
})

test('a restarted server rolls back to the last checkpoint when nobody who holds more comes back', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  await playStep(2.5)
  await next('step')
  await coordinator.close()
  await start()
  expect(await coordinator.detail(id)).toMatchObject({ state: 'waiting', step: 1, rollbacks: 0 })
  join1()
  await ready()
  expect(await coordinator.detail(id)).toMatchObject({ step: 0, rollbacks: 1 })
  expect(await store.metrics(id)).toEqual([])
  expect((await next('step')).step).toBe(1)
})

test('a restarted server goes on after the last commit with the nodes that hold it', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  const generation = await playStep(2.5)
  await next('step')
  await coordinator.close()
  await start()
  join1({ runId: id, generation, stage: 0, step: 1, moments: [[0, 1]], reduced: [], open: [] })
  const { assignment } = await next('assign')
  expect(assignment).toMatchObject({ source: 'held', finish: null })
  expect(assignment.generation).toBeGreaterThan(generation)
  say({ type: 'ready', generation: assignment.generation, step: 1, expectedMs: null })
  expect(await next('step')).toMatchObject({ step: 2, committed: 1 })
  expect(await coordinator.detail(id)).toMatchObject({ step: 1, rollbacks: 0 })
})

test('a server that died amid an apply finishes it, and the step counts once', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  const { generation, lr, scale } = await playToApply(2.5)
  await coordinator.close()
  expect(await store.run(id)).toMatchObject({ step: 0, prepared: { generation, lr, scale } })
  await start()
  join1({ runId: id, generation, stage: 0, step: 0, moments: [[0, 0]], reduced: [0], open: [] })
  expect((await next('assign')).assignment).toMatchObject({ source: 'held', finish: { step: 1, lr, scale } })
  expect(await store.run(id)).toMatchObject({ step: 1, prepared: null, rollbacks: 0 })
  expect(await store.metrics(id)).toMatchObject([{ step: 1, loss: 2.5 }])
})

test('a device has its place again after a restart', async () => {
  const wide = { ...config, stages: 2 }
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config: wide })
  for (const n of ['1', '2']) coordinator.nodeJoined(`n${n}`, hello(null, `dev${n}`))
  await expect.poll(() => order.filter((name) => name === 'reserve')).toHaveLength(2)
  const before = await store.reservations(id, 10)
  expect([...before.values()].sort()).toEqual([0, 1])
  await coordinator.close()
  await start()
  // They come in the other order.
  for (const n of ['2', '1']) coordinator.nodeJoined(`m${n}`, hello(null, `dev${n}`))
  const assigned = () => sent.filter(({ message }) => message.type === 'assign')
  await expect.poll(assigned, { timeout: 5000 }).toHaveLength(2)
  for (const { nodeId, message } of sent)
    if (message.type === 'assign') expect(message.assignment.stage).toBe(before.get(`dev${nodeId.slice(1)}`))
  await coordinator.cancel(id)
  expect((await store.reservations(id, 10)).size).toBe(0)
})

test('leases that move are counted, and a standby and a silent node are shown as such', async () => {
  const paired = { ...config, replicas: 2, batch: 4 }
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config: paired })
  for (const n of ['1', '2', '3']) coordinator.nodeJoined(`n${n}`, hello(null, `dev${n}`))
  await expect.poll(() => sent.filter(({ message }) => message.type === 'assign')).toHaveLength(3)
  const { generation } = (await coordinator.detail(id)) as { generation: number }
  for (const n of ['1', '2', '3']) say({ type: 'ready', generation, step: 0, expectedMs: null }, `n${n}`)
  await next('step')
  const before = await coordinator.detail(id)
  expect(before.grid).toEqual([['n1', 'n2', 'n3']])
  const working = before.nodes.filter(({ standby }) => !standby).map(({ nodeId }) => nodeId)
  expect(working).toHaveLength(2)
  coordinator.nodeUnresponsive(working[0]!)
  await expect.poll(async () => (await coordinator.detail(id)).recovered).toBe(1)
  const { nodes } = await coordinator.detail(id)
  expect(nodes.filter(({ suspect }) => suspect).map(({ nodeId }) => nodeId)).toEqual([working[0]])
  const story = async () => (await coordinator.detail(id)).events.map(({ text }) => text).join(' ')
  await expect.poll(story).toContain('does not answer')
  expect((await store.run(id))!.recovered).toBe(1)
})

test('a watcher gets a snapshot, then every commit and rollback', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  const seen: LiveEvent[] = []
  const stop = await coordinator.subscribe(id, (event) => seen.push(event))
  join1()
  await ready()
  await playStep(2.5)
  say({ type: 'leaving' })
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
