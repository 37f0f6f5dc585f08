/** Owns the promise that one server at a time uses a data folder: two would both carry on its runs. */
import Database from 'better-sqlite3'
import { join } from 'node:path'
import { fail } from '../../src/protocol/errors.ts'

/**
 * Takes the folder until the returned function is called or the process ends, however it ends: the lock is the
 * operating system's, held through an open SQLite transaction.
 * @throws SkeinError `server.data_in_use`
 */
export function lockFolder(folder: string): () => void {
  const lock = new Database(join(folder, 'lock'), { timeout: 0 })
  try {
    lock.exec('BEGIN EXCLUSIVE')
  } catch (caught) {
    lock.close()
    if (!String((caught as { code?: unknown }).code).startsWith('SQLITE_BUSY')) throw caught
    fail(
      'server.data_in_use',
      `Another server uses the data folder ${folder}.`,
      'Stop that server, or set SKEIN_DATA to another folder.',
    )
  }
  return () => lock.close()
}
