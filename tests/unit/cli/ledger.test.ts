/** Proves `npx skein ledger`: what it says of sound and damaged files, of a server's export and proofs, and how it exits. */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { canonicalJson } from '../../../src/ledger/canonicalJson.ts'
import { ExportVerifier } from '../../../src/ledger/verify.ts'
import type { LedgerRow } from '../../../src/protocol/ledger.ts'
import { hex, sampleLines, work } from '../ledger/sampleLedger.ts'
import { openFixture } from '../server/appFixture.ts'

const cli = new URL('../../../server/cli/skein.mjs', import.meta.url).pathname
let folder: string
let file: string
let rows: LedgerRow[]
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-cli-'))
  file = join(folder, 'ledger.ndjson')
  const lines = [...sampleLines(5, { rows: 2000, devices: 30, epoch: 200 })].map(({ line }) => line)
  rows = lines.map((line) => JSON.parse(line) as LedgerRow)
  const header = canonicalJson({ format: 'skein-ledger', version: 1, rows: 2000, head: rows.at(-1)!.hash })
  await writeFile(file, `${[header, ...lines].join('\n')}\n`)
})
afterAll(() => rm(folder, { recursive: true }))

async function skein(args: string[], input?: Buffer): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [cli, ...args], { cwd: folder })
  const said = { out: '', err: '' }
  child.stdout.on('data', (text) => (said.out += text))
  child.stderr.on('data', (text) => (said.err += text))
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const code = await new Promise<number>((resolve) => child.on('close', (status) => resolve(status ?? -1)))
  return { code, ...said }
}
const verify = (...args: string[]) => skein(['ledger', 'verify', ...args])

it('says that a sound file is sound, and what an account in it holds', async () => {
  const wallet = rows.map(({ entry }) => entry).find((entry) => entry.kind === 'payout')!.wallet
  const { code, out } = await verify(file, '--account', `wallet:${wallet}`)
  expect(code).toBe(0)
  expect(out).toContain('The ledger is sound: 2,000 rows,')
  expect(JSON.parse(out.slice(out.indexOf('{')))).toMatchObject({
    account: `wallet:${wallet}`,
    epoch: expect.any(Number),
  })
  const piped = await skein(['ledger', 'verify', '-', '--json'], await readFile(file))
  expect(JSON.parse(piped.out)).toMatchObject({ sound: true, rows: 2000, head: rows.at(-1)!.hash })
})

it('names the row of a flipped byte and exits with 1', async () => {
  const bytes = await readFile(file)
  const at = bytes.indexOf(rows[1233]!.hash) + 7
  bytes[at]! ^= 1
  const damaged = join(folder, 'damaged.ndjson')
  await writeFile(damaged, bytes)
  const { code, out } = await verify(damaged)
  expect(code).toBe(1)
  expect(out).toMatch(/not sound at row 1,234, line 1,235: .*\[export\.row_/)
  expect(out).toContain('Rows 1 to 1,233 are sound.')
  // A file without line feeds is not read to its end.
  await writeFile(
    damaged,
    bytes.map((byte) => (byte === 10 ? 32 : byte)),
  )
  expect(await verify(damaged, '--json')).toMatchObject({ code: 1, out: expect.stringContaining('export.header') })
})

it('compares with roots of the chain and with a known row', async () => {
  const seal = rows.find(({ entry }) => entry.kind === 'seal' && entry.epoch === 3)!
  const root = (seal.entry as { root: string }).root
  expect((await verify(file, '--root', `3=0x${root}`, '--head', rows[9]!.hash)).code).toBe(0)
  const faults = await Promise.all([
    verify(file, '--root', `4=${root}`),
    verify(file, '--root', `400=${root}`),
    verify(file, '--head', hex(3)),
  ])
  for (const [i, words] of ['export.anchor', 'export.epoch_missing', 'export.other_ledger'].entries())
    expect(faults[i]).toMatchObject({ code: 1, out: expect.stringContaining(words) })
})

it.each([
  [['ledger', 'verify'], 'Which file?'],
  [['ledger', 'verify', 'nowhere.ndjson'], 'ledger.file'],
  [['ledger', 'verify', 'a', 'b'], 'too many'],
  [['ledger', 'verify', 'a', '--root', 'x'], 'no epoch'],
  [['ledger', 'burn'], 'ledger burn'],
  [['ledger', 'proof', 'x', '--server', 'http://127.0.0.1:9'], 'ledger.option'],
  [['ledger', 'export', '--server', 'http://127.0.0.1:9'], 'api.unreachable'],
  [['burn'], 'no command'],
])('%j is refused with 2', async (args, words) => {
  expect(await skein(args)).toMatchObject({ code: 2, err: expect.stringContaining(words) })
})

it('downloads an export that is sound, and checks a proof', async () => {
  let clock = 10_500
  const fixture = await openFixture({ epochMs: 1000 }, { now: () => clock })
  try {
    const origin = await fixture.app.listen({ host: '127.0.0.1', port: 0 })
    const none = await skein(['ledger', 'proof', `device:${hex(1)}`, '--server', origin])
    expect(none).toMatchObject({ code: 2, err: expect.stringContaining('No epoch is sealed yet') })
    for (const step of [1, 2, 3]) await fixture.ledger.append([work({ step })])
    clock = 11_000
    const { entry } = (await fixture.ledger.sealWhenDue())!
    expect((await skein(['ledger', 'export', '--server', origin, '--out', 'got.ndjson'])).code).toBe(0)
    const verifier = new ExportVerifier(nodeSha256)
    const text = await readFile(join(folder, 'got.ndjson'), 'utf8')
    for (const line of text.trimEnd().split('\n')) verifier.push(line)
    expect(verifier.end()).toMatchObject({ rows: 4, epochs: 1 })
    const proof = ['ledger', 'proof', `device:${hex(1)}`, '--server', origin]
    expect(await skein([...proof, '--root', entry.root])).toMatchObject({
      code: 0,
      out: expect.stringContaining('earned 3000000000000000 FLOPs'),
    })
    expect(await skein([...proof, '--root', hex(1)])).toMatchObject({
      code: 1,
      out: expect.stringContaining('proof.anchor'),
    })
  } finally {
    await fixture.close()
  }
})
