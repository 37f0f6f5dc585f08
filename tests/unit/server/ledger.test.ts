/** Proves that the live ledger seals each epoch once, over restarts too, appends only what the rules allow, and stops at damage. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { Store } from '../../../server/db/store.ts'
import { exportLines } from '../../../server/ledger/exportLines.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import type { LedgerOptions } from '../../../server/ledger/ledger.ts'
import { nodeSha256 } from '../../../server/ledger/nodeSha256.ts'
import { epochOver } from '../../../server/ledger/sealing.ts'
import { startSealing } from '../../../server/ledger/ticker.ts'
import { ExportVerifier } from '../../../src/ledger/verify.ts'
import type { LedgerEntry } from '../../../src/protocol/ledger.ts'
import { hex, PFLOP, work } from '../ledger/sampleLedger.ts'

const EPOCH = 1000
let folder: string
let store: Store
let clock: number
let errors: string[]
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-ledger-'))
  store = await openSqliteStore(join(folder, 'skein.db'))
  clock = 10_500
  errors = []
})
afterEach(async () => {
  await store.close()
  await rm(folder, { recursive: true })
})

const log = { info: () => {}, error: (_: object, text: string) => void errors.push(text) }
const open = (change: Partial<LedgerOptions> = {}) =>
  new Ledger({
    store: store.ledger,
    clock: { unit: 'ms', now: async () => clock },
    epochLength: EPOCH,
    log,
    now: () => clock,
    ...change,
  })
const device = hex(1)
const wallet = hex(101)
const price: LedgerEntry = { kind: 'price', run: 'r1', planckPerPflop: '10' }
const bind: LedgerEntry = { kind: 'bind', device, wallet, proof: hex(9) }
const payout = (planck: string, epoch = 1): LedgerEntry => ({
  kind: 'payout',
  epoch,
  wallet,
  planck,
  block: hex(7),
  extrinsic: hex(8),
})
/** @returns what was voided */
async function convict(ledger: Ledger, fromStep: number, toStep: number): Promise<bigint> {
  const conviction = { kind: 'conviction', device, run: 'r1', fromStep, toStep, reason: 'Zeros.' } as const
  const [row] = await ledger.settle(
    [conviction],
    async (entries, at, after) => void (await store.ledger.append(entries, at, after)),
  )
  return BigInt((row as Extract<LedgerEntry, { kind: 'conviction' }>).credit)
}
const kinds = async () =>
  (await store.ledger.rows(1, 1000)).map(({ entry }) => (JSON.parse(entry) as LedgerEntry).kind).join(' ')

async function verified() {
  const verifier = new ExportVerifier(nodeSha256)
  let text = ''
  for await (const piece of exportLines(store.ledger)) text += piece
  for (const line of text.trimEnd().split('\n')) verifier.push(line)
  return verifier.end()
}

describe('bindings and revocations', () => {
  it('are taken once, however often they are offered', async () => {
    const ledger = open()
    const revoke = { kind: 'revoke', device } as const
    if (bind.kind !== 'bind') throw new Error('It is a binding.')
    for (const entry of [revoke, bind, bind, revoke, revoke, bind]) await ledger.record(entry)
    expect(await kinds()).toBe('bind revoke bind')
    await open().record(bind)
    expect(await kinds()).toBe('bind revoke bind')
  })
})

describe('an epoch', () => {
  it('is over when its clock passes a multiple of its length, and never when a clock is set back', () => {
    expect(epochOver(10_500, 10_999, 1000)).toBe(false)
    expect(epochOver(10_500, 11_000, 1000)).toBe(true)
    expect(epochOver(11_000, 11_000, 1000)).toBe(false)
    expect(epochOver(11_000, 5000, 1000)).toBe(false)
    expect(epochOver(299, 900, 300)).toBe(true)
  })

  it('is sealed once, with what the accounts hold, and not when nothing happened', async () => {
    const ledger = open()
    await ledger.append([price])
    await ledger.append([work(), bind])
    expect(await ledger.sealWhenDue()).toBeNull()
    clock = 11_003
    expect((await ledger.sealWhenDue())!.entry).toMatchObject({
      epoch: 1,
      first: 1,
      last: 3,
      accounts: 1,
      credit: String(PFLOP),
      unit: 'ms',
      clock: 11_003,
    })
    expect(await ledger.sealWhenDue()).toBeNull()
    clock = 12_500
    expect(await ledger.sealWhenDue()).toBeNull()
    // What comes after an idle epoch waits for the end of its own.
    await ledger.append([work({ step: 2 })])
    expect(await ledger.sealWhenDue()).toBeNull()
    clock = 13_000
    expect((await ledger.sealWhenDue())!.entry).toMatchObject({ epoch: 2, first: 4, last: 5 })
    expect(await kinds()).toBe('price work bind seal work seal')
    expect(await verified()).toMatchObject({ rows: 6, epochs: 2, credit: 2n * PFLOP })
  })

  it('that ended while no server ran is sealed by the next, and nothing is sealed again', async () => {
    await open().append([work()])
    clock = 15_200
    expect((await open().sealWhenDue())!.entry.epoch).toBe(1)
    expect(await open().sealWhenDue()).toBeNull()
    await open().append([work({ step: 2 })])
    clock = 16_000
    const [one, other] = [open(), open()]
    const seals = await Promise.all([one.sealWhenDue(), other.sealWhenDue()])
    expect(seals.filter(Boolean)).toHaveLength(1)
    expect(await kinds()).toBe('work seal work seal')
  })

  it('goes by finalized blocks once a chain is configured, and waits while no node answers', async () => {
    await open().append([work()])
    clock = 11_000
    await open().sealWhenDue()
    let height: number | null = 599
    const now = async () => height ?? Promise.reject(new Error('no node'))
    const ledger = open({ clock: { unit: 'block', now }, epochLength: 300 })
    await ledger.append([work({ step: 2 })])
    expect(await ledger.sealWhenDue()).toBeNull()
    height = null
    await expect(ledger.sealWhenDue()).rejects.toThrow('no node')
    height = 600
    expect((await ledger.sealWhenDue())!.entry).toMatchObject({ epoch: 2, unit: 'block', clock: 600 })
    await open({ clock: { unit: 'block', now }, epochLength: 300 }).append([work({ step: 3 })])
    height = 899
    expect(await open({ clock: { unit: 'block', now }, epochLength: 300 }).sealWhenDue()).toBeNull()
    height = 901
    const later = await open({ clock: { unit: 'block', now }, epochLength: 300 }).sealWhenDue()
    expect(later!.entry).toMatchObject({ epoch: 3, clock: 901 })
    expect(await verified()).toMatchObject({ epochs: 3 })
  })

  it('is sealed by the ticker, which goes on after a failure', async () => {
    const ledger = open({
      clock: { unit: 'ms', now: async () => (errors.length === 0 ? Promise.reject(new Error('once')) : clock) },
    })
    await ledger.append([work()])
    clock = 11_000
    const stop = startSealing(ledger, log, 5)
    await expect.poll(kinds).toBe('work seal')
    await stop()
    expect(errors).toEqual(['the epoch could not be sealed'])
  })
})

describe('an entry', () => {
  it('that breaks a rule is refused and leaves nothing', async () => {
    const ledger = open()
    await expect(ledger.append([{ kind: 'revoke', device }])).rejects.toMatchObject({ code: 'ledger.not_bound' })
    await expect(ledger.append([bind, payout('1')])).rejects.toMatchObject({ code: 'ledger.payout_unsealed' })
    await expect(ledger.append([bind, bind])).rejects.toMatchObject({ code: 'ledger.batch' })
    await expect(ledger.append([{ ...work(), credit: '1.5' }])).rejects.toMatchObject({ code: 'ledger.entry' })
    expect(await kinds()).toBe('')
    await ledger.append([bind])
    expect(await kinds()).toBe('bind')
  })

  it('is checked against what others appended meanwhile', async () => {
    const [one, other] = [open(), open()]
    await one.append([bind])
    const revoke: LedgerEntry = { kind: 'revoke', device }
    const both = await Promise.allSettled([one.append([revoke]), other.append([revoke])])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(await kinds()).toBe('bind revoke')
  })

  it('of a binding is taken once, however often it is offered', async () => {
    const ledger = open()
    const revoke = { kind: 'revoke', device } as const
    const binding = { kind: 'bind', device, wallet, proof: hex(9) } as const
    for (const entry of [binding, binding, revoke, revoke, binding]) await ledger.record(entry)
    expect(await kinds()).toBe('bind revoke bind')
    await ledger.record({ ...binding, wallet: hex(102) })
    expect(await kinds()).toBe('bind revoke bind bind')
    await expect(ledger.record({ ...binding, wallet: 'x' })).rejects.toMatchObject({ code: 'ledger.entry' })
  })

  it('of a conviction voids all that it can', async () => {
    const ledger = open()
    await ledger.append([price])
    for (const step of [1, 2, 9]) await ledger.append([work({ step })])
    expect(await convict(ledger, 1, 5)).toBe(2n * PFLOP)
    expect(await convict(ledger, 1, 5)).toBe(0n)
    expect((await ledger.account(`device:${device}`)).credit).toMatchObject({ voided: String(2n * PFLOP) })
  })

  it('of payouts never exceeds what the seal owes', async () => {
    const ledger = open()
    expect(await ledger.owed()).toBeNull()
    await ledger.append([price])
    await ledger.append([bind, work()])
    clock = 11_000
    await ledger.sealWhenDue()
    await ledger.append([work({ step: 2 })])
    expect(await ledger.owed()).toMatchObject({ seal: { entry: { epoch: 1 } }, wallets: [{ wallet, planck: 10n }] })
    await expect(ledger.append([payout('11')])).rejects.toMatchObject({ code: 'ledger.payout_exceeds' })
    await ledger.append([payout('10')])
    expect((await ledger.owed())!.wallets).toEqual([])
    // Voided before it is frozen: not paid, although the seal counts it.
    clock = 12_000
    await ledger.sealWhenDue()
    await convict(ledger, 2, 2)
    expect((await ledger.owed())!.wallets).toEqual([])
  })
})

it('a long ledger is read without keeping everybody else waiting', async () => {
  const entries = Array.from({ length: 5500 }, (_, i) => work({ step: i + 1 }))
  await store.ledger.append(entries, clock)
  let turns = 0
  const timer = setInterval(() => (turns += 1), 0)
  expect(await open().view()).toMatchObject({ rows: 5500, fault: null })
  clearInterval(timer)
  expect(turns).toBeGreaterThanOrEqual(4)
})

it('a damaged row stops sealing and paying, and is named', async () => {
  const before = open()
  await before.append([bind, work()])
  const raw = new Database(join(folder, 'skein.db'))
  raw.exec('drop trigger ledger_no_update')
  raw.exec(`update ledger set entry = replace(entry, '"credit":"1', '"credit":"9') where seq = 2`)
  raw.close()
  const ledger = open()
  expect(await ledger.view()).toMatchObject({ rows: 2, fault: { seq: 2, code: 'ledger.chain' } })
  clock = 99_000
  expect(await ledger.sealWhenDue()).toBeNull()
  await expect(ledger.append([price])).rejects.toMatchObject({ code: 'ledger.fault' })
  await expect(ledger.owed()).rejects.toMatchObject({ code: 'ledger.fault' })
  expect(await verified()).toMatchObject({ seq: 2, code: 'export.row_hash' })
  expect(errors).toHaveLength(1)
})
