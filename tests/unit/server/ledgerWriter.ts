/** Owns a process that commits steps with their work until it is killed: `ledgerWriter.ts DATABASE ROWS_A_STEP`. */
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { hex, work } from '../ledger/sampleLedger.ts'
import { metric } from './store.compliance.ts'

const [path, rows] = process.argv.slice(2)
const store = await openSqliteStore(path!)
for (let step = (await store.run('r1'))!.step + 1; ; step++) {
  const entries = Array.from({ length: Number(rows) }, (_, i) => work({ step, device: hex(i + 1) }))
  await store.commitStep('r1', metric(step), entries)
  process.stdout.write(`${step}\n`)
}
