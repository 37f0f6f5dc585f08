/** Owns the proof that the SQLite identity store complies. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { describeIdentityStore } from './identityStore.compliance.ts'

describeIdentityStore('SQLite in memory', async () => ({
  store: await openSqliteStore(':memory:'),
  clean: () => Promise.resolve(),
}))

describeIdentityStore('SQLite in a file', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skein-identity-'))
  return { store: await openSqliteStore(join(folder, 'skein.db')), clean: () => rm(folder, { recursive: true }) }
})
