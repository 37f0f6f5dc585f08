/** Proves that the SQLite ledger complies, cannot be edited, loses and repeats nothing when killed, and is fast enough. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import { serverClock } from '../../../server/ledger/sealing.ts'
import { hex, START, work } from '../ledger/sampleLedger.ts'
import { describeLedgerStore } from './ledgerStore.compliance.ts'
import { checkpoint, dataset, metric, run } from './store.compliance.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-ledger-'))
})
afterEach(() => rm(folder, { recursive: true }))

describeLedgerStore('SQLite in memory', async () => ({
  store: await openSqliteStore(':memory:'),
  clean: () => Promise.resolve(),
}))
describeLedgerStore('SQLite in a file', async () => ({
  store: await openSqliteStore(join(folder, 'skein.db')),
  clean: () => Promise.resolve(),
}))

async function opened() {
  const path = join(folder, 'skein.db')
  const store = await openSqliteStore(path)
  await store.insertDataset(dataset())
  await store.insertRun(run(), checkpoint())
  return { path, store }
}

describe('the SQLite ledger', () => {
  it('refuses to change, remove, replace or skip a row, whoever asks', async () => {
    const { path, store } = await opened()
    await store.ledger.append([work(), work({ step: 2 })], START)
    const raw = new Database(path)
    const columns = 'seq, at, prev, entry, hash'
    for (const [statement, why] of [
      [`update ledger set entry = '{}' where seq = 1`, 'ledger rows are final'],
      [`update ledger set at = at`, 'ledger rows are final'],
      [`delete from ledger where seq = 2`, 'ledger rows are final'],
      [`insert or replace into ledger (${columns}) values (1, 0, '', '{}', '')`, 'ledger rows follow one another'],
      [`insert into ledger (${columns}) values (4, 0, '', '{}', '')`, 'ledger rows follow one another'],
    ] as const)
      expect(() => raw.exec(statement), statement).toThrow(why)
    raw.close()
    expect(await store.ledger.rows(1, 9)).toHaveLength(2)
    await store.close()
  })

  it('holds exactly the work of the committed steps after each of several kills', async () => {
    const { path, store } = await opened()
    await store.close()
    const script = new URL('./ledgerWriter.ts', import.meta.url).pathname
    let told = 0
    for (let death = 1; death <= 3; death++) {
      const child = spawn(process.execPath, [script, path, '7'], { stdio: ['ignore', 'pipe', 'inherit'] })
      const gone = once(child, 'exit')
      // Killed in the middle of some commit: a little after one was told.
      for await (const text of child.stdout) {
        told = Number(String(text).trim().split('\n').at(-1))
        if (told < death * 20) continue
        child.kill('SIGKILL')
        break
      }
      await gone
      const after = await openSqliteStore(path)
      const { step } = (await after.run('r1'))!
      expect(step).toBeGreaterThanOrEqual(told)
      const rows = await after.ledger.rows(1, 10_000)
      expect(rows.map(({ entry }) => (JSON.parse(entry) as { step: number }).step)).toEqual(
        Array.from({ length: step * 7 }, (_, i) => Math.floor(i / 7) + 1),
      )
      // The accounts take every row: the chain holds and nothing is claimed twice.
      const log = { info: () => {}, error: () => {} }
      const ledger = new Ledger({ store: after.ledger, clock: serverClock(), epochLength: 3_600_000, log })
      expect(await ledger.view()).toMatchObject({ rows: step * 7, fault: null })
      expect((await ledger.account(`device:${hex(3)}`)).credit.earned).toBe(String(BigInt(step) * 10n ** 15n))
      await after.close()
    }
  })

  it('takes thousands of rows, those of a step with its commit', async () => {
    const { store } = await opened()
    for (let step = 1; step <= 20; step++) {
      const entries = Array.from({ length: 200 }, (_, i) => work({ step, device: hex(i + 1), receipt: hex(i) }))
      await store.commitStep('r1', metric(step), entries)
    }
    expect((await store.ledger.head()).seq).toBe(4000)
    await store.close()
  })
})
