/** Owns an application over an in-memory store and a folder that is removed afterwards. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AuditDesk } from '../../../server/audits/desk/desk.ts'
import type { AuditedRuns } from '../../../server/audits/desk/port.ts'
import { buildApp } from '../../../server/app.ts'
import type { ApiApp } from '../../../server/appDeps.ts'
import { openFolderBlobs } from '../../../server/checkpoints/folderBlobs.ts'
import { configFromEnvironment } from '../../../server/config.ts'
import type { ServerConfig } from '../../../server/config.ts'
import { openSqliteStore } from '../../../server/db/sqlite.ts'
import type { BlobStore, Store } from '../../../server/db/store.ts'
import { Registry, type RegistryOptions } from '../../../server/identity/registry.ts'
import { Ledger } from '../../../server/ledger/ledger.ts'
import { serverClock } from '../../../server/ledger/sealing.ts'
import type { AuditStore } from '../../../server/db/auditStore.ts'
import type { DepositStore } from '../../../server/db/depositStore.ts'
import type { PayoutStore } from '../../../server/db/payoutStore.ts'
import { createMetrics } from '../../../server/metrics.ts'
import { Treasury } from '../../../server/payouts/treasury.ts'
import { Timelines } from '../../../server/runs/timelines.ts'
import { FakeRuns } from './fakeRuns.ts'

export interface Fixture {
  app: ApiApp
  store: Store & { readonly payouts: PayoutStore; readonly audits: AuditStore; readonly deposits: DepositStore }
  audits: AuditDesk
  blobs: BlobStore
  runs: FakeRuns
  ledger: Ledger
  close(): Promise<void>
}

const noAuditedRuns: AuditedRuns = {
  configOf: () => null,
  isCurrent: () => false,
  classOf: () => null,
  isHere: () => false,
  isUnderWay: () => false,
  takersOf: () => [],
  holderOf: () => null,
  send: () => {},
  creditAudit: () => false,
  claimSettled: () => {},
  convicted: () => {},
  redo: () => {},
}

export async function openFixture(
  change: Partial<ServerConfig> = {},
  { now = Date.now, ...identity }: Partial<RegistryOptions> = {},
): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), 'skein-app-'))
  const staticFolder = join(folder, 'dist')
  await mkdir(join(staticFolder, 'assets'), { recursive: true })
  await writeFile(join(staticFolder, 'index.html'), '<!doctype html><title>Skein</title>')
  await writeFile(join(staticFolder, 'assets', 'index-abc123.js'), 'export {}')
  await writeFile(join(staticFolder, 'robots.txt'), 'User-agent: *')
  const config = { ...configFromEnvironment({ SKEIN_LOG: 'silent' }), dataFolder: folder, staticFolder, ...change }
  const store = await openSqliteStore(':memory:')
  const blobs = await openFolderBlobs(join(folder, 'blobs'))
  const runs = new FakeRuns(store)
  const tokens = { nodeOf: (token: string) => (token === 'node-token' ? 'n1' : null) }
  const registry = new Registry({
    store: store.identity,
    ss58Prefix: () => config.ss58Prefix,
    remarks: () => null,
    recorded: null,
    revoked: () => {},
    failed: (error) => {
      throw error
    },
    now,
    ...identity,
  })
  const log = { info: () => {}, error: () => {} }
  const ledger = new Ledger({ store: store.ledger, clock: serverClock(now), epochLength: config.epochMs, log, now })
  const deposits = { store: store.deposits, open: async () => [], ended: async () => [], held: async () => {} }
  const treasury = new Treasury({ config, store: store.payouts, source: null, log, deposits })
  const metrics = createMetrics({ process: false })
  const timelines = new Timelines(now)
  const audits = new AuditDesk({
    store: store.audits,
    ledger,
    runs: noAuditedRuns,
    walletOf: async () => null,
    expel: () => {},
    metrics,
    log,
    now,
  })
  const rooms = { config, store, blobs, timelines, ledger, tokens, registry, metrics, treasury, audits }
  const app = await buildApp({ ...rooms, runs })
  return {
    app,
    store,
    blobs,
    runs,
    ledger,
    audits,
    async close() {
      await app.close()
      await store.close()
      await rm(folder, { recursive: true })
    },
  }
}

export const local = { host: '127.0.0.1:8080' }
