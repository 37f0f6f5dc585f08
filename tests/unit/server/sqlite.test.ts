/** Owns the proof that the SQLite store complies, survives reopening and refuses what it cannot read. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { Chunk } from '../../../src/protocol/control.ts'
import { checkpoint, dataset, describeStore, run } from './store.compliance.ts'

describeStore('SQLite in memory', async () => ({
  store: await openSqliteStore(':memory:'),
  clean: () => Promise.resolve(),
}))

describeStore('SQLite in a file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skein-store-'))
  return {
    store: await openSqliteStore(join(folder, 'skein.db')),
    clean: () => rm(folder, { recursive: true }),
  }
})

const oldTables = ['datasets', 'runs', 'metrics', 'checkpoints', 'events', 'reservations', 'kysely_migration']

/** Leaves the file as the version before migration 0003 did. */
function undoElastic(raw: Database.Database): void {
  const tables = raw.prepare(`select name from sqlite_master where type = 'table'`).pluck().all() as string[]
  for (const name of tables)
    if (!/^sqlite_|_lock$/.test(name) && !oldTables.includes(name)) raw.exec(`drop table ${name}`)
  raw.exec(`delete from kysely_migration where name > '0003_elastic'`)
  raw.exec(`alter table runs drop column prepared; alter table runs drop column recovered; drop table reservations`)
  raw.exec('alter table runs drop column payment')
  raw.exec(`delete from kysely_migration where name = '0003_elastic'`)
}

describe('SQLite file', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'skein-store-'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  it('holds after reopening what was written, and was synced at every commit', async () => {
    const path = join(folder, 'again.db')
    const store = await openSqliteStore(path)
    await store.insertDataset(dataset())
    await store.insertRun(run(), checkpoint())
    // A second process may look while the first one writes.
    const other = await openSqliteStore(path)
    expect(await other.run('r1')).toEqual(run())
    await other.close()
    await store.close()
    const again = await openSqliteStore(path)
    expect(await again.run('r1')).toEqual(run())
    await again.close()
    const raw = new Database(path)
    expect(raw.pragma('journal_mode', { simple: true })).toBe('wal')
    raw.close()
  })

  it('takes up runs from before steps were prepared', async () => {
    const path = join(folder, 'rigid.db')
    const before = await openSqliteStore(path)
    await before.insertDataset(dataset())
    await before.insertRun(run(), checkpoint())
    await before.close()
    const raw = new Database(path)
    undoElastic(raw)
    raw.close()
    const store = await openSqliteStore(path)
    expect(await store.run('r1')).toEqual(run())
    await store.addRecovered('r1', 2)
    await store.reserve({ runId: 'r1', deviceId: 'a', stage: 1, at: 5 })
    expect((await store.run('r1'))!.recovered).toBe(2)
    await store.close()
  })

  it('reads datasets from before there were tokenizers as bytes, and others with their vocabulary', async () => {
    const path = join(folder, 'older.db')
    await (await openSqliteStore(path)).close()
    const raw = new Database(path)
    undoElastic(raw)
    raw.exec(`alter table datasets drop column tokenizer; alter table datasets drop column vocabulary`)
    raw.exec(`delete from kysely_migration where name = '0002_tokenizers'`)
    raw.exec(`insert into datasets values ('d0', 'Old', 3000, 3000, 2700, 'ab', 1)`)
    raw.close()
    const store = await openSqliteStore(path)
    expect(await store.dataset('d0')).toMatchObject({ tokenizer: 'byte', vocabSize: 256, vocabulary: null })
    const characters = { ...dataset('d1'), tokenizer: 'character', vocabulary: '\n a🌲', vocabSize: 4 } as const
    await store.insertDataset(characters)
    expect(await store.dataset('d1')).toEqual(characters)
    await store.close()
  })

  it('leaves out moments that lanes began from before they shared both of AdamW’s, and nothing else', async () => {
    const path = join(folder, 'lanes.db')
    const before = await openSqliteStore(path)
    await before.insertDataset(dataset())
    const local = {
      ...run('local').config,
      sync: 'local',
      optimizer: { ...run().config.optimizer, kind: 'muon' },
    } as const
    const chunkOf = (kind: Chunk['kind']) => ({ kind, offset: 0, length: 8, hash: 'ab'.repeat(32) })
    const chunks = (['parameters', 'firstMoment', 'secondMoment'] as const).map(chunkOf)
    const stages = [{ stage: 0, chunks }]
    await before.insertRun({ ...run('local'), config: local }, { ...checkpoint('local'), stages })
    await before.insertRun(run('exact'), { ...checkpoint('exact'), stages })
    await before.close()
    const raw = new Database(path)
    raw.exec(`delete from kysely_migration where name >= '0011_lane_moments'`)
    raw.close()
    const store = await openSqliteStore(path)
    expect((await store.latestCheckpoint('local'))!.stages).toEqual([{ stage: 0, chunks: chunks.slice(0, 2) }])
    expect((await store.latestCheckpoint('exact'))!.stages).toEqual(stages)
    await store.close()
  })

  it('names a JSON column that another hand damaged', async () => {
    const path = join(folder, 'damaged.db')
    const store = await openSqliteStore(path)
    await store.insertDataset(dataset())
    await store.insertRun(run(), checkpoint())
    const raw = new Database(path)
    raw.prepare(`update runs set config = '{"stages":0}'`).run()
    raw.prepare(`update checkpoints set stages = '[{"stage":0}]'`).run()
    raw.close()
    await expect(store.run('r1')).rejects.toMatchObject({ code: 'store.corrupt' })
    await expect(store.latestCheckpoint('r1')).rejects.toMatchObject({ code: 'store.corrupt' })
    await store.close()
  })

  it('refuses a file that is no database', async () => {
    const path = join(folder, 'text.db')
    await writeFile(path, 'This is a letter, not a database. '.repeat(100))
    await expect(openSqliteStore(path)).rejects.toMatchObject({ code: 'store.open', remedy: expect.any(String) })
    await expect(openSqliteStore(join(folder, 'no', 'folder', 'x.db'))).rejects.toMatchObject({ code: 'store.open' })
  })
})
