/** Proves that a live desk takes up what the losses of committed steps say of devices, over a real store. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { AuditDesk } from '../../../server/audits/desk/desk.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import { device } from './claimedWork.ts'

let folder: string
let store: Awaited<ReturnType<typeof openSqliteStore>>
let desk: AuditDesk

const never = () => expect.fail('Losses convict nobody, and ask nobody for anything.')

async function start(): Promise<void> {
  store = await openSqliteStore(join(folder, 'skein.db'))
  const runs = new Proxy({} as ConstructorParameters<typeof AuditDesk>[0]['runs'], { get: () => never })
  const log = { info: () => {}, error: never }
  desk = new AuditDesk({
    ...{ store: store.audits, ledger: { settle: never }, runs, log, now: () => 1_700_000_000_000 },
    ...{ walletOf: async () => null, expel: never, metrics: { audited: never } },
  })
  await desk.open()
}
async function stop(): Promise<void> {
  await desk.close()
  await store.close()
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'skein-losses-'))
  await start()
})
afterEach(async () => {
  await stop()
  await rm(folder, { recursive: true })
})

it('a device on whose routes the losses are high is looked at, also by the next server', async () => {
  const harmful = device(7)
  for (let step = 0; step < 40; step++) {
    const devices = step % 2 === 0 ? [harmful, device(8)] : [device(9), harmful]
    desk.scored('r1', [
      { devices, loss: 3 },
      ...[2, 2.1, 2.2].map((loss, i) => ({ devices: [device(20 + i), device(30 + i)], loss })),
    ])
  }
  expect((await desk.standing(harmful)).watched).toBeGreaterThan(0)
  expect((await desk.standing(device(20))).watched).toBe(0)
  await stop()
  await start()
  expect((await desk.standing(harmful)).watched).toBeGreaterThan(0)
})
