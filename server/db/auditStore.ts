/** Owns the port of audits: what must outlive the server of what was drawn, found and decided. */
import type { AuditView, AuditVerdict, Incident } from '../../src/protocol/auditApi.ts'
import type { LedgerEntry } from '../../src/protocol/ledger.ts'
import type { Conviction, Standing } from '../audits/types.ts'

/** An audit as it is drawn. */
export type NewAudit = Pick<
  AuditView,
  | 'id'
  | 'run'
  | 'generation'
  | 'step'
  | 'stage'
  | 'claimant'
  | 'receipt'
  | 'microbatches'
  | 'shown'
  | 'credit'
  | 'openedAt'
>

export interface Closing extends Pick<AuditView, 'id' | 'reason' | 'jurors' | 'distances'> {
  readonly verdict: AuditVerdict
  /** Of everybody whose standing the audit changed, as it is from now on. */
  readonly standings: ReadonlyMap<string, Standing>
  readonly convictions: readonly Conviction[]
  /** Rows of the ledger, checked against the row `after`. */
  readonly entries: readonly LedgerEntry[]
  readonly after: number
  /** Unix milliseconds. */
  readonly at: number
}

export interface Waiving {
  /** Devices whose convictions since `since` are void, with their standings from now on. */
  readonly standings: ReadonlyMap<string, Standing>
  readonly since: number
  readonly entries: readonly LedgerEntry[]
  readonly after: number
  readonly at: number
}

export interface AuditFilter {
  readonly run: string | null
  readonly device: string | null
}

export interface AuditTotals {
  readonly audits: number
  readonly passed: number
  readonly convicted: number
  readonly open: number
  /** FLOPs that jurors recomputed. */
  readonly recomputed: bigint
}

/**
 * One interface, several databases: tests/unit/audits/auditStore.compliance runs against each. All writes are durable on return,
 * whole or not at all.
 */
export interface AuditStore {
  /** Of every device that was ever audited. */
  standings(): Promise<Map<string, Standing>>
  /** Those that were not waived, oldest first. */
  convictions(): Promise<Conviction[]>
  /** The incident that was declared and is not over. */
  incident(): Promise<Incident | null>
  open(audit: NewAudit): Promise<void>
  /**
   * Ends an audit: what was found, how devices stand, who is convicted and what the ledger says of it, together or not at all.
   * @throws SkeinError `audit.closed` for one that is not under way, `ledger.moved` when a row came after `after`
   */
  close(closing: Closing): Promise<void>
  /** What changed of standings without any audit's end. */
  keepStandings(standings: ReadonlyMap<string, Standing>): Promise<void>
  /** Ends, as open, those that were under way when the server went. @returns their claimants */
  interrupt(reason: string, at: number): Promise<string[]>
  declareIncident(incident: Incident): Promise<void>
  endIncident(at: number): Promise<void>
  /** Voids convictions; with the ledger's rows. @throws SkeinError `ledger.moved` */
  waive(waiving: Waiving): Promise<void>
  /** Newest first, of numbers before `before`. */
  audits(filter: AuditFilter, before: number | null, limit: number): Promise<AuditView[]>
  totals(filter: AuditFilter): Promise<AuditTotals>
}
