/** Owns what `/metrics` tells Prometheus, in a registry of this server's own. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { FleetView } from '../src/protocol/api.ts'

export interface Metrics {
  /** One answered request; `route` is the pattern, never the path, so that labels stay few. */
  httpRequest(route: string, method: string, status: number, seconds: number): void
  /** A step was committed: tokens of its batch, milliseconds it took. */
  stepCommitted(tokens: number, durationMs: number): void
  rolledBack(): void
  /** Leases that moved from a lost or slow owner to others. */
  recovered(leases: number, cause: string): void
  /** Boundary tensors of a committed step: what their makers' and takers' receipts say of them together. */
  claimed(claims: Readonly<Record<'attested' | 'unattested' | 'disputed', number>>): void
  /** Microbatches of a committed step whose work is credited. */
  credited(microbatches: number): void
  /** An audit was closed: `passed`, `convicted` or `open`. */
  audited(verdict: string): void
  blobBytes(direction: 'in' | 'out', bytes: number): void
  /** Sets where the gauges of nodes and runs are read at each scrape. */
  watchFleet(fleet: () => FleetView): void
  contentType: string
  /** The text a scrape gets. */
  text(): Promise<string>
}

/** @param process also report the process's memory, CPU and event loop; it keeps a timer, so tests leave it out */
export function createMetrics({ process = true }: { process?: boolean } = {}): Metrics {
  const registry = new Registry()
  if (process) collectDefaultMetrics({ register: registry })
  const registers = [registry]
  let fleet: (() => FleetView) | null = null
  const requests = new Histogram({
    name: 'skein_http_request_seconds',
    help: 'Seconds until a request was answered.',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
    registers,
  })
  const steps = new Counter({ name: 'skein_steps_committed_total', help: 'Steps committed, over all runs.', registers })
  const tokens = new Counter({ name: 'skein_tokens_total', help: 'Tokens of committed steps.', registers })
  const rollbacks = new Counter({ name: 'skein_rollbacks_total', help: 'Runs rolled back to a checkpoint.', registers })
  const recovered = new Counter({
    name: 'skein_leases_recovered_total',
    help: 'Leases that moved from a lost or slow owner to others.',
    labelNames: ['cause'],
    registers,
  })
  const claims = new Counter({
    name: 'skein_boundary_tensors_total',
    help: 'Boundary tensors of committed steps, by whether the receipts of both ends agree, one says nothing, or they differ.',
    labelNames: ['receipts'],
    registers,
  })
  const credited = new Counter({
    name: 'skein_microbatches_credited_total',
    help: 'Microbatches of committed steps, counted at each stage, whose work is credited.',
    registers,
  })
  const audits = new Counter({
    name: 'skein_audits_total',
    help: 'Audits of claimed work that were closed, by verdict.',
    labelNames: ['verdict'],
    registers,
  })
  const durations = new Histogram({
    name: 'skein_step_seconds',
    help: 'Seconds from the start of a step to its commit.',
    buckets: [0.05, 0.2, 0.5, 1, 2, 5, 15, 60, 300],
    registers,
  })
  const blobs = new Counter({
    name: 'skein_blob_bytes_total',
    help: 'Bytes of blobs and tokens received from and sent to nodes.',
    labelNames: ['direction'],
    registers,
  })
  const gauge = (name: string, help: string, read: (view: FleetView) => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        if (fleet) this.set(read(fleet()))
      },
    })
  gauge('skein_nodes', 'Nodes connected.', (view) => view.nodes)
  gauge('skein_nodes_working', 'Nodes that hold a stage.', (view) => view.working)
  gauge('skein_nodes_standby', 'Nodes that wait for work.', (view) => view.standby)
  gauge('skein_runs_active', 'Runs that have neither finished, failed nor been cancelled.', (view) => view.runsActive)
  return {
    httpRequest: (route, method, status, seconds) => requests.observe({ route, method, status }, seconds),
    stepCommitted(count, durationMs) {
      steps.inc()
      tokens.inc(count)
      durations.observe(durationMs / 1000)
    },
    rolledBack: () => rollbacks.inc(),
    recovered: (leases, cause) => recovered.inc({ cause }, leases),
    claimed(counts) {
      for (const receipts of ['attested', 'unattested', 'disputed'] as const) claims.inc({ receipts }, counts[receipts])
    },
    credited: (microbatches) => credited.inc(microbatches),
    audited: (verdict) => audits.inc({ verdict }),
    blobBytes: (direction, bytes) => blobs.inc({ direction }, bytes),
    watchFleet(read) {
      fleet = read
    },
    contentType: registry.contentType,
    text: () => registry.metrics(),
  }
}
