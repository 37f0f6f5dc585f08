/** Owns what every store must do, whichever database keeps it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { CheckpointRecord, PreparedStep, RunRecord, Store } from '../../../server/db/store.ts'
import type { TokenizerKind } from '../../../src/protocol/api.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

export const dataset = (id = 'd1') => ({
  id,
  name: 'Stories',
  bytes: 3000,
  tokens: 3000,
  trainTokens: 2700,
  tokenizer: 'byte' as TokenizerKind,
  vocabSize: 256,
  vocabulary: null as string | null,
  tokensHash: 'ab'.repeat(32),
  createdAt: 1_700_000_000_000,
})

export const run = (id = 'r1', change: Partial<RunRecord> = {}): RunRecord => ({
  id,
  name: 'First run',
  datasetId: 'd1',
  config: runConfigSchema.parse({ seed: 0xffff_ffff }),
  state: 'waiting',
  detail: 'Waits for 4 nodes.',
  step: 0,
  generation: 0,
  valLoss: null,
  rollbacks: 0,
  boundaryBytesPerToken: null,
  createdAt: 1_700_000_000_001,
  startedAt: null,
  finishedAt: null,
  prepared: null,
  recovered: 0,
  payment: null,
  ...change,
})

export const checkpoint = (runId = 'r1', step = 0): CheckpointRecord => ({
  runId,
  step,
  stages: [{ stage: 0, chunks: [{ kind: 'parameters', offset: 0, length: 64, hash: 'cd'.repeat(32) }] }],
  bytes: 256,
  createdAt: 1_700_000_000_002 + step,
})

export const metric = (step: number) => ({
  step,
  loss: 5.5 - step / 3,
  gradNorm: 1.25,
  lr: 1e-3,
  tokens: 768,
  durationMs: 12.5,
  at: 1_700_000_000_100 + step,
})

const prepared = (step: number): PreparedStep => ({
  generation: 3,
  lr: 1e-3,
  scale: 0.25,
  metric: metric(step),
  work: [
    {
      kind: 'work',
      run: 'r1',
      generation: 3,
      step,
      stage: 1,
      device: 'd'.repeat(64),
      microbatches: 4,
      credit: '170141183460469231731687303715884105727',
      receipt: 'e'.repeat(64),
    },
  ],
})

export function describeStore(name: string, open: () => Promise<{ store: Store; clean(): Promise<void> }>): void {
  describe(`store: ${name}`, () => {
    let store: Store
    let clean: () => Promise<void>
    beforeEach(async () => {
      ;({ store, clean } = await open())
      await store.insertDataset(dataset())
    })
    afterEach(async () => {
      await store.close()
      await clean()
    })

    it('keeps datasets, and lists them newest first without their hashes', async () => {
      await store.insertDataset({ ...dataset('d2'), createdAt: 1_800_000_000_000 })
      expect(await store.dataset('d1')).toEqual(dataset())
      expect(await store.dataset('nope')).toBeNull()
      const listed = await store.datasets()
      expect(listed.map((d) => d.id)).toEqual(['d2', 'd1'])
      expect(listed[1]).not.toHaveProperty('tokensHash')
    })

    it('keeps every field of a run, and its first checkpoint', async () => {
      await store.insertRun(run(), checkpoint())
      expect(await store.run('r1')).toEqual(run())
      expect(await store.latestCheckpoint('r1')).toEqual(checkpoint())
      expect(await store.run('nope')).toBeNull()
      expect(await store.latestCheckpoint('nope')).toBeNull()
    })

    it('inserts run and checkpoint together or not at all', async () => {
      await store.insertRun(run(), checkpoint())
      await expect(store.insertRun(run('r2'), checkpoint('r1'))).rejects.toThrow()
      expect(await store.run('r2')).toBeNull()
      await expect(store.insertRun(run('r3', { datasetId: 'gone' }), checkpoint('r3'))).rejects.toThrow()
      expect((await store.runs()).map((r) => r.id)).toEqual(['r1'])
      expect(await store.checkpoints('r3')).toEqual([])
    })

    it('inserts what a run pays with its price in the ledger, once', async () => {
      const payment = { planckPerPflop: '250', budget: '9'.repeat(30) }
      await store.insertRun(run('r1', { payment }), checkpoint())
      await store.insertRun(run('free'), checkpoint('free'))
      expect((await store.run('r1'))!.payment).toEqual(payment)
      await expect(store.insertRun(run('r1', { payment }), checkpoint())).rejects.toThrow()
      await expect(store.insertRun(run('r4', { payment, datasetId: 'gone' }), checkpoint('r4'))).rejects.toThrow()
      const rows = await store.ledger.rows(1, 10)
      expect(rows.map(({ entry }) => JSON.parse(entry))).toEqual([{ kind: 'price', run: 'r1', planckPerPflop: '250' }])
      await store.updateRun('r1', { payment: { ...payment, budget: '0' } })
      expect((await store.run('r1'))!.payment).toEqual({ ...payment, budget: '0' })
    })

    it('lists runs newest first', async () => {
      await store.insertRun(run('old', { createdAt: 1 }), checkpoint('old'))
      await store.insertRun(run('new', { createdAt: 3 }), checkpoint('new'))
      await store.insertRun(run('middle', { createdAt: 2 }), checkpoint('middle'))
      expect((await store.runs()).map((r) => r.id)).toEqual(['new', 'middle', 'old'])
    })

    it('changes the given fields only, to null as well', async () => {
      await store.insertRun(run(), checkpoint())
      await store.updateRun('r1', { state: 'finished', valLoss: 2.125, finishedAt: 9, boundaryBytesPerToken: 256.5 })
      expect(await store.run('r1')).toEqual(
        run('r1', { state: 'finished', valLoss: 2.125, finishedAt: 9, boundaryBytesPerToken: 256.5 }),
      )
      await store.updateRun('r1', { valLoss: null, finishedAt: undefined })
      expect(await store.run('r1')).toMatchObject({ valLoss: null, finishedAt: 9 })
      await store.updateRun('r1', {})
      await expect(store.updateRun('nope', { detail: 'x' })).rejects.toMatchObject({ code: 'run.unknown' })
    })

    it('commits each step once, in order, the run with it', async () => {
      await store.insertRun(run(), checkpoint())
      await store.commitStep('r1', metric(1))
      await store.commitStep('r1', metric(2))
      expect((await store.run('r1'))!.step).toBe(2)
      expect(await store.metrics('r1')).toEqual([metric(1), metric(2)])
      await expect(store.commitStep('r1', metric(2))).rejects.toMatchObject({ code: 'store.step_order' })
      await expect(store.commitStep('r1', metric(4))).rejects.toMatchObject({ code: 'store.step_order' })
      await expect(store.commitStep('nope', metric(1))).rejects.toMatchObject({ code: 'run.unknown' })
      expect((await store.metrics('r1')).length).toBe(2)
    })

    it('keeps what is about to be applied until its step is committed or rolled back', async () => {
      await store.insertRun(run(), checkpoint())
      await store.prepareStep('r1', prepared(1))
      expect((await store.run('r1'))!).toMatchObject({ step: 0, prepared: prepared(1) })
      // After a recovery the same step may come out otherwise.
      await store.prepareStep('r1', { ...prepared(1), scale: 0.5 })
      expect((await store.run('r1'))!.prepared!.scale).toBe(0.5)
      await expect(store.prepareStep('r1', prepared(2))).rejects.toMatchObject({ code: 'store.step_order' })
      await expect(store.prepareStep('nope', prepared(1))).rejects.toMatchObject({ code: 'run.unknown' })
      expect((await store.run('r1'))!.prepared!.metric.step).toBe(1)
      await store.commitStep('r1', metric(1))
      expect((await store.run('r1'))!).toMatchObject({ step: 1, prepared: null })
      await store.prepareStep('r1', prepared(2))
      await store.rollBack('r1', 0)
      expect((await store.run('r1'))!).toMatchObject({ step: 0, prepared: null })
    })

    it('does not prepare a step whose figures cannot be kept', async () => {
      await store.insertRun(run(), checkpoint())
      await expect(store.prepareStep('r1', { ...prepared(1), scale: NaN })).rejects.toThrow()
      expect((await store.run('r1'))!.prepared).toBeNull()
    })

    it('keeps one place a device and run, the newest ones first when there are too many', async () => {
      await store.insertRun(run(), checkpoint())
      await store.insertRun(run('r2'), checkpoint('r2'))
      for (const [at, deviceId] of ['a', 'b', 'c'].entries())
        await store.reserve({ runId: 'r1', deviceId, stage: at, at })
      await store.reserve({ runId: 'r2', deviceId: 'a', stage: 7, at: 9 })
      await store.reserve({ runId: 'r1', deviceId: 'a', stage: 5, at: 10 })
      expect([...(await store.reservations('r1', 2))]).toEqual([
        ['a', 5],
        ['c', 2],
      ])
      expect((await store.reservations('r1', 100)).get('b')).toBe(1)
      await store.dropReservations('r1')
      expect((await store.reservations('r1', 100)).size).toBe(0)
      expect((await store.reservations('r2', 100)).get('a')).toBe(7)
      await expect(store.reserve({ runId: 'nope', deviceId: 'a', stage: 0, at: 0 })).rejects.toThrow()
    })

    it('takes a new cut with its checkpoint, and only where the run stands at it', async () => {
      await store.insertRun(run('r1', { generation: 4 }), checkpoint())
      await store.commitStep('r1', metric(1))
      await store.insertCheckpoint(checkpoint('r1', 1))
      await store.prepareStep('r1', prepared(2))
      const config = { ...run().config, stages: 2, partition: [1, 3] }
      const cut = { ...checkpoint('r1', 1), bytes: 512 }
      await store.recut(config, cut)
      expect(await store.run('r1')).toMatchObject({ config, step: 1, generation: 5, prepared: null })
      expect(await store.latestCheckpoint('r1')).toEqual(cut)
      await store.commitStep('r1', metric(2))
      await expect(store.recut(run().config, checkpoint('r1', 1))).rejects.toMatchObject({ code: 'store.step_order' })
      await expect(store.recut(config, checkpoint('nope', 1))).rejects.toMatchObject({ code: 'run.unknown' })
      expect((await store.run('r1'))!.config).toEqual(config)
      expect((await store.latestCheckpoint('r1'))!.bytes).toBe(512)
    })

    it('adds up recovered leases', async () => {
      await store.insertRun(run(), checkpoint())
      await store.addRecovered('r1', 3)
      await store.addRecovered('r1', 4)
      expect((await store.run('r1'))!.recovered).toBe(7)
      await expect(store.addRecovered('nope', 1)).rejects.toMatchObject({ code: 'run.unknown' })
    })

    it('rolls back to a step: later metrics and checkpoints are void, and the steps can be committed anew', async () => {
      await store.insertRun(run(), checkpoint())
      for (const step of [1, 2, 3, 4]) await store.commitStep('r1', metric(step))
      await store.insertCheckpoint(checkpoint('r1', 2))
      await store.insertCheckpoint(checkpoint('r1', 4))
      await store.rollBack('r1', 2)
      expect(await store.run('r1')).toMatchObject({ step: 2, rollbacks: 1 })
      expect((await store.metrics('r1')).map((m) => m.step)).toEqual([1, 2])
      expect((await store.latestCheckpoint('r1'))!.step).toBe(2)
      await store.commitStep('r1', { ...metric(3), loss: 1 })
      expect((await store.metrics('r1')).at(-1)!.loss).toBe(1)
      await expect(store.rollBack('nope', 0)).rejects.toMatchObject({ code: 'run.unknown' })
    })

    it('keeps checkpoints in order; the latest has the highest step', async () => {
      await store.insertRun(run(), checkpoint())
      await store.insertCheckpoint(checkpoint('r1', 50))
      await store.insertCheckpoint(checkpoint('r1', 25))
      await store.insertCheckpoint({ ...checkpoint('r1', 25), bytes: 512 })
      expect((await store.checkpoints('r1')).map((c) => [c.step, c.bytes])).toEqual([
        [0, 256],
        [25, 512],
        [50, 256],
      ])
      expect((await store.latestCheckpoint('r1'))!.step).toBe(50)
      await expect(store.insertCheckpoint(checkpoint('nope'))).rejects.toThrow()
    })

    it('tells the newest events, oldest first', async () => {
      await store.insertRun(run(), checkpoint())
      for (let i = 0; i < 5; i++) await store.appendEvent('r1', { at: 7, step: i, text: `event ${i}` })
      expect(await store.events('r1', 2)).toEqual([
        { at: 7, step: 3, text: 'event 3' },
        { at: 7, step: 4, text: 'event 4' },
      ])
      expect(await store.events('r1', 100)).toHaveLength(5)
      expect(await store.eventCount('r1')).toBe(5)
      expect(await store.eventCount('nope')).toBe(0)
      expect(await store.events('nope', 100)).toEqual([])
    })

    it('serves many writers at once without losing one', async () => {
      await store.insertRun(run(), checkpoint())
      await Promise.all([
        ...Array.from({ length: 20 }, (_, i) => store.appendEvent('r1', { at: i, step: 0, text: 'x' })),
        store.commitStep('r1', metric(1)).then(() => store.commitStep('r1', metric(2))),
        store.updateRun('r1', { detail: 'changed' }),
      ])
      expect(await store.events('r1', 100)).toHaveLength(20)
      expect(await store.run('r1')).toMatchObject({ step: 2, detail: 'changed' })
    })
  })
}
