/** Proves what the routes of the ledger and of accounts answer, and that the answers can be checked without trusting them. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { checkProof } from '../../../src/ledger/checkProof.ts'
import { ExportVerifier } from '../../../src/ledger/verify.ts'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import {
  accountViewSchema,
  epochsAnswerSchema,
  ledgerViewSchema,
  rowsAnswerSchema,
} from '../../../src/protocol/ledgerApi.ts'
import { hex, PFLOP, work } from '../ledger/sampleLedger.ts'
import { openFixture } from './appFixture.ts'
import type { Fixture } from './appFixture.ts'

let fixture: Fixture
let clock: number
beforeEach(async () => {
  clock = 10_500
  fixture = await openFixture({ epochMs: 1000 }, { now: () => clock })
})
afterEach(() => fixture.close())

const get = (path: string) => fixture.app.inject(`/api/v1${path}`)
const add = (...entries: LedgerEntry[]) => fixture.ledger.append(entries)
const device = hex(1)
const wallet = hex(101)

/** A price, two devices of which one is bound, a seal, later work, and a payout. */
async function fill() {
  await add({ kind: 'price', run: 'r1', planckPerPflop: '10' })
  await add({ kind: 'bind', device, wallet, proof: hex(9) }, work(), work({ device: hex(2) }))
  clock = 11_000
  await fixture.ledger.sealWhenDue()
  await add(work({ step: 2 }), work({ step: 2, device: hex(2) }))
  await add({ kind: 'payout', epoch: 1, wallet, planck: '10', block: hex(7), extrinsic: hex(8) })
}

it('an empty ledger says so', async () => {
  expect(ledgerViewSchema.parse((await get('/ledger')).json())).toEqual({
    rows: 0,
    head: hex(0),
    lastSeal: null,
    epochLength: { unit: 'ms', length: 1000 },
    fault: null,
  })
  expect((await get('/ledger/rows')).json()).toEqual({ rows: [], head: 0 })
  expect((await get('/ledger/epochs')).json()).toEqual([])
  const unknown = accountViewSchema.parse((await get(`/accounts/device:${device}`)).json())
  expect(unknown).toMatchObject({ epoch: null, wallet: null, credit: { earned: '0' }, runs: [], devices: [] })
})

it('rows come in order, and a page has a bounded length', async () => {
  await fill()
  const { rows, head } = rowsAnswerSchema.parse((await get('/ledger/rows?from=4&limit=3')).json())
  expect(head).toBe(8)
  expect(rows.map(({ seq, entry }) => [seq, entry.kind])).toEqual([
    [4, 'work'],
    [5, 'seal'],
    [6, 'work'],
  ])
  for (const query of ['from=0', 'from=x', 'limit=1001', 'limit=0'])
    expect((await get(`/ledger/rows?${query}`)).statusCode, query).toBe(400)
})

it('epochs come newest first, with proofs that a page can check', async () => {
  await fill()
  clock = 12_000
  await fixture.ledger.sealWhenDue()
  const epochs = epochsAnswerSchema.parse((await get('/ledger/epochs')).json())
  expect(epochs.map(({ entry }) => entry.epoch)).toEqual([2, 1])
  expect((await get('/ledger/epochs?before=2&limit=5')).json()).toEqual([epochs[1]])
  for (const epoch of [1, 2])
    for (const account of [`wallet:${wallet}`, `device:${hex(2)}`]) {
      const answer = (await get(`/ledger/epochs/${epoch}/proof/${account}`)).json()
      const { leaf } = checkProof(answer, { account, epoch }, epochs[2 - epoch]!.entry.root)
      expect(leaf.earned).toBe(String(BigInt(epoch) * PFLOP))
      expect(leaf.paid).toBe(epoch === 2 && account.startsWith('wallet') ? '10' : '0')
    }
  const refusals = await Promise.all(
    [`/ledger/epochs/3/proof/wallet:${wallet}`, `/ledger/epochs/1/proof/device:${device}`, '/accounts/device:ab'].map(
      get,
    ),
  )
  expect(refusals.map((answer) => [answer.statusCode, answer.json().code])).toEqual([
    [404, 'ledger.unknown_epoch'],
    [404, 'ledger.no_leaf'],
    [400, 'request.invalid'],
  ])
})

it('an account says what is pending, verified and paid', async () => {
  await fill()
  const view = accountViewSchema.parse((await get(`/accounts/wallet:${wallet}`)).json())
  expect(view).toMatchObject({
    epoch: 1,
    credit: { earned: String(2n * PFLOP), pending: String(PFLOP), verified: '0', paid: String(PFLOP) },
    planck: { worth: '20', pending: '10', verified: '0', paid: '10' },
    payouts: [{ epoch: 1, planck: '10', block: hex(7) }],
    devices: [{ device, earned: String(2n * PFLOP) }],
    runs: [{ run: 'r1', worth: '20' }],
  })
  expect(view.days).toEqual([{ day: '1970-01-01', earned: String(2n * PFLOP) }])
  const unbound = accountViewSchema.parse((await get(`/accounts/device:${hex(2)}`)).json())
  expect(unbound).toMatchObject({
    wallet: null,
    credit: { pending: String(PFLOP), verified: String(PFLOP), paid: '0' },
  })
})

it('the export is whole and sound, and does not include what comes after it was asked for', async () => {
  await fill()
  const response = await get('/ledger/export')
  expect(response.headers['content-type']).toContain('application/x-ndjson')
  const verifier = new ExportVerifier(nodeSha256)
  for (const line of response.body.trimEnd().split('\n')) expect(verifier.push(line)).toBeNull()
  expect(verifier.end()).toMatchObject({ rows: 8, epochs: 1, accounts: 2, credit: 4n * PFLOP, paid: 10n })
})

it('exports are limited in number', async () => {
  const codes: number[] = []
  for (let i = 0; i < 25; i++) codes.push((await get('/ledger/export')).statusCode)
  expect(codes.slice(0, 20)).toEqual(Array(20).fill(200))
  expect(codes.at(-1)).toBe(429)
})
