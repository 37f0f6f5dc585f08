/** Owns what the HTTP routes may ask of the running system; the coordinator implements it. */
import type { FleetView, LaunchRequest, LiveEvent, NodeView, RunDetail, RunSummary } from '../../src/protocol/api.ts'
import type { Quote, QuoteRequest } from '../../src/protocol/quote.ts'

export interface RunControl {
  /** Validates, writes the initial weights and queues the run. @throws SkeinError `run.*` or `dataset.*`; nothing half-made stays. */
  launch(request: LaunchRequest): Promise<RunSummary>
  /** What such a run would cost and take. @throws SkeinError as `launch` does */
  quote(request: QuoteRequest): Promise<Quote>
  /** @throws SkeinError `run.unknown`, `run.ended` */
  cancel(runId: string): Promise<RunSummary>
  /** Planck in all; durable on return. @throws SkeinError `run.unknown`, `run.ended`, `run.unpaid`, `run.budget_lowered` */
  raiseBudget(runId: string, budget: string): Promise<RunSummary>
  /** Asks for a checkpoint right after the next commit. @throws SkeinError `run.unknown`, `run.ended` */
  checkpoint(runId: string): Promise<RunSummary>
  summaries(): Promise<RunSummary[]>
  /** @throws SkeinError `run.unknown` */
  detail(runId: string): Promise<RunDetail>
  nodes(): NodeView[]
  /** The page of this node goes away: its session ends, and others get its leases at once. */
  nodeLeft(nodeId: string): void
  fleet(): FleetView
  /** Calls `listener` with a snapshot and then with every change until the returned function is called. */
  subscribe(runId: string, listener: (event: LiveEvent) => void): Promise<() => void>
}

/** Checks the bearer token a node got in `welcome`; null when it is not valid. */
export interface NodeTokens {
  nodeOf(token: string): string | null
}
