/** Runs the real bench on Dawn, small: that everything fits together, never how fast it is. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { kernelRecordSchema } from '../../bench/records.ts'

const root = path.resolve(import.meta.dirname, '..', '..', '..')
const run = promisify(execFile)

it('measures Skein’s kernels on Dawn and writes valid records', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'skein-bench-test-'))
  try {
    const json = path.join(folder, 'records.json')
    const args = ['tests/bench/bench.ts', 'kernels', '--quick', '--where', 'dawn', '--json', json]
    const { stdout } = await run(process.execPath, args, { cwd: root })
    expect(stdout).toMatch(/^matmul 256×256×256 +\d/m)
    const records = kernelRecordSchema.array().parse(JSON.parse(await readFile(json, 'utf8')))
    expect(records.map(({ where, op }) => [where, op])).toEqual([
      ['dawn', 'matmul'],
      ['dawn', 'attention'],
      ['dawn', 'attention'],
    ])
    for (const record of records) expect(record.error).toBeLessThan(1e-5)
  } finally {
    await rm(folder, { recursive: true })
  }
})
