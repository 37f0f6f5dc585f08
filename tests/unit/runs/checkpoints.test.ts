/** Owns the proof that a run’s checkpoints are made when asked for, and published only whole. */
import { expect, test } from 'vitest'
import { blobs, config, coordinator, errors, join1, next, playStep, ready, say, store } from './coordinatorFixture.ts'

/** A run whose one node is asked to save its shard after two steps. */
async function untilAsked() {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  await playStep(2.5)
  const generation = await playStep(2.4)
  const { step } = await next('save')
  return { id, generation, step }
}

test('a checkpoint can be asked for, and comes after the next step', async () => {
  const { id } = await coordinator.launch({ name: 'run', datasetId: 'd1', config })
  join1()
  await ready()
  expect((await coordinator.checkpoint(id)).id).toBe(id)
  await playStep(2.5)
  expect(await next('save')).toMatchObject({ step: 1, shards: [0] })
  await coordinator.cancel(id)
  await expect(coordinator.checkpoint(id)).rejects.toMatchObject({ code: 'run.ended' })
  await expect(coordinator.checkpoint('nope')).rejects.toMatchObject({ code: 'run.unknown' })
})

test('a checkpoint whose chunks were never uploaded is refused, and training goes on', async () => {
  const { id, generation, step } = await untilAsked()
  const chunk = { kind: 'parameters', offset: 0, length: 64, hash: 'a'.repeat(64) } as const
  say({ type: 'shardSaved', generation, step, shard: 0, chunks: [chunk] })
  const events = async () => (await coordinator.detail(id)).events.map((event) => event.text).join(' ')
  await expect.poll(events).toContain('The checkpoint of step 2 could not be kept')
  expect((await store.checkpoints(id)).map((checkpoint) => checkpoint.step)).toEqual([0])
  expect(await coordinator.detail(id)).toMatchObject({ step: 2, rollbacks: 0 })
})

test('a checkpoint that is being read back when the server closes is kept before the store may close', async () => {
  const { id, generation, step } = await untilAsked()
  const { chunks } = (await store.latestCheckpoint(id))!.stages[0]!
  const reading = Promise.withResolvers<void>()
  const disk = Promise.withResolvers<void>()
  const get = blobs.get.bind(blobs)
  blobs.get = async (hash) => {
    reading.resolve()
    await disk.promise
    return get(hash)
  }
  say({ type: 'shardSaved', generation, step, shard: 0, chunks })
  await reading.promise
  let closed = false
  const closing = coordinator.close().then(() => (closed = true))
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(closed).toBe(false)
  disk.resolve()
  await closing
  expect((await store.latestCheckpoint(id))!.step).toBe(2)
  expect(errors).toEqual([])
})
