/** Owns what the HTTP routes are given, and the shape of the application they are put into. */
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AuditDesk } from './audits/desk/desk.ts'
import type { ServerConfig } from './config.ts'
import type { AuditStore } from './db/auditStore.ts'
import type { BlobStore, Store } from './db/store.ts'
import type { Registry } from './identity/registry.ts'
import type { Ledger } from './ledger/ledger.ts'
import type { Metrics } from './metrics.ts'
import type { Treasury } from './payouts/treasury.ts'
import type { NodeTokens, RunControl } from './runs/port.ts'
import type { Timelines } from './runs/timelines.ts'

export interface AppDeps {
  readonly config: ServerConfig
  readonly store: Store & { readonly audits: AuditStore }
  readonly blobs: BlobStore
  readonly runs: RunControl
  readonly timelines: Pick<Timelines, 'of'>
  readonly ledger: Ledger
  readonly tokens: NodeTokens
  readonly registry: Registry
  readonly metrics: Metrics
  readonly audits: AuditDesk
  readonly treasury: Pick<Treasury, 'chainView' | 'payoutsView'>
}

/** Fastify whose handlers take their types from zod schemas. */
export type ApiApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>

/** How often a route may be called where it is not an ordinary request: nodes fetch weights and data in many pieces. */
export const bulkRate = (config: ServerConfig) => ({ max: 20 * config.ratePerMinute, timeWindow: 60_000 })
