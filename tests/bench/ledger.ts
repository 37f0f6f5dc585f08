/**
 * Owns the measurement of `skein ledger verify`: `node tests/bench/ledger.ts [--rows N] [--devices N] [--epoch ROWS] [--flips N]`
 * writes an export from a seed, checks it on one core, and then as often as asked with one byte flipped somewhere.
 */
import { spawnSync } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { sampleLines, seeded } from '../unit/ledger/sampleLedger.ts'

const text = (value: number) => ({ type: 'string', default: String(value) }) as const
const { values } = parseArgs({
  options: { rows: text(1_000_000), devices: text(1000), epoch: text(10_000), seed: text(1), flips: text(3) },
})
const [rows, devices, epoch, seed, flips] = [values.rows, values.devices, values.epoch, values.seed, values.flips].map(
  Number,
) as [number, number, number, number, number]
const folder = await mkdtemp(join(tmpdir(), 'skein-bench-'))
const file = join(folder, 'ledger.ndjson')
const cli = new URL('../../server/cli/skein.mjs', import.meta.url).pathname

/** Where each line begins, the header first. */
const starts: number[] = [0]

async function writeExport(): Promise<void> {
  // The head is known at the end; every hash has the same length.
  const header = (hash: string) => `{"format":"skein-ledger","head":"${hash}","rows":${rows},"version":1}\n`
  let head = '0'.repeat(64)
  async function* pieces() {
    let bytes = 0
    let piece = header(head)
    const sized = (line: string) => {
      bytes += Buffer.byteLength(line)
      starts.push(bytes)
    }
    sized(piece)
    for (const { line, row } of sampleLines(seed, { rows, devices, epoch })) {
      head = row.hash
      sized(`${line}\n`)
      piece += `${line}\n`
      if (piece.length < 1_048_576) continue
      yield piece
      piece = ''
    }
    yield piece
  }
  await pipeline(Readable.from(pieces()), createWriteStream(file))
  const handle = await open(file, 'r+')
  await handle.write(header(head), 0)
  await handle.close()
}

function verify() {
  const started = performance.now()
  const { stdout, status } = spawnSync('taskset', [
    '-c',
    '0',
    process.execPath,
    cli,
    'ledger',
    'verify',
    file,
    '--json',
  ])
  const outcome = JSON.parse(String(stdout)) as { seconds: number; rows?: number; seq?: number; code?: string }
  return { ...outcome, status, wall: (performance.now() - started) / 1000 }
}

try {
  const began = performance.now()
  await writeExport()
  const bytes = starts.at(-1)!
  console.log(`wrote ${rows} rows, ${bytes} bytes, in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  const sound = verify()
  console.log(`verified: ${JSON.stringify(sound)}`)
  if (sound.status !== 0 || sound.rows !== rows) throw new Error('A sound export was refused.')
  const random = seeded(seed)
  for (let i = 0; i < flips; i++) {
    const position = Math.floor(random() * bytes)
    const handle = await open(file, 'r+')
    const byte = Buffer.alloc(1)
    await handle.read(byte, 0, 1, position)
    const flip = async () => handle.write(Buffer.of(byte[0]! ^ 1), 0, 1, position)
    await flip()
    const line = starts.findLastIndex((start) => start <= position)
    const found = verify()
    console.log(
      `byte ${position} of row ${line} flipped: row ${found.seq} [${found.code}] after ${found.wall.toFixed(1)} s`,
    )
    if (found.status !== 1 || found.seq !== line) throw new Error('The flipped byte was not located.')
    await handle.write(byte, 0, 1, position)
    await handle.close()
  }
} finally {
  await rm(folder, { recursive: true })
}
