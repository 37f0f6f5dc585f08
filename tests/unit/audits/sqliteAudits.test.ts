/** Owns the proof that the SQLite store of audits complies. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { describeAuditStore } from './auditStore.compliance.ts'

describeAuditStore('the SQLite store of audits', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'skein-audits-'))
  const open = () => openSqliteStore(join(folder, 'skein.db'))
  let store = await open()
  return {
    store,
    async reopen() {
      await store.close()
      return (store = await open())
    },
    async clean() {
      await store.close()
      await rm(folder, { recursive: true })
    },
  }
})
