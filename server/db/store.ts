/** Owns the store port: what the server must never forget, whichever database keeps it. */
import type { z } from 'zod'
import type { DatasetView, RunEvent, RunState, StepMetric } from '../../src/protocol/api.ts'
import type { StageCheckpoint } from '../../src/protocol/control.ts'
import type { LedgerEntry } from '../../src/protocol/ledger.ts'
import type { depositSchema, Payment } from '../../src/protocol/payment.ts'
import type { EarnedCredit } from '../../src/protocol/receipt.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { IdentityStore } from './identityStore.ts'
import type { LedgerStore } from './ledgerStore.ts'

/** With the address that its money has to come to, where there is one. */
export interface RunPayment extends Payment {
  deposit: z.infer<typeof depositSchema> | null
}

export interface RunRecord {
  id: string
  name: string
  datasetId: string
  config: RunConfig
  state: RunState
  detail: string
  /** Last committed step. */
  step: number
  generation: number
  valLoss: number | null
  rollbacks: number
  boundaryBytesPerToken: number | null
  /** Unix milliseconds. */
  createdAt: number
  startedAt: number | null
  finishedAt: number | null
  /** The step after `step`, when every owner may have been told to apply it; null otherwise. */
  prepared: PreparedStep | null
  /** Leases that moved from a lost or slow owner to another. */
  recovered: number
  /** Null for a run that pays nobody. */
  payment: RunPayment | null
}

/** What owners are told to apply, the metric of the step that this makes, and what its work earns. */
export interface PreparedStep {
  generation: number
  lr: number
  scale: number
  metric: StepMetric
  work: readonly EarnedCredit[]
}

/** A device's place in a run, kept across reloads of either side. */
export interface Reservation {
  runId: string
  deviceId: string
  stage: number
  /** Unix milliseconds. */
  at: number
}

export interface DatasetRecord extends DatasetView {
  /** Of the blob of tokens. */
  tokensHash: string
  /** Every character of a character-level dataset once, in the order of their ids; null for bytes. */
  vocabulary: string | null
}

export interface CheckpointRecord {
  runId: string
  step: number
  stages: StageCheckpoint[]
  bytes: number
  createdAt: number
}

/** One interface, several databases: tests/unit/store.compliance runs against each. All writes are durable on return. */
export interface Store {
  /** Of the same database. */
  readonly identity: IdentityStore
  /** Of the same database, so that one transaction can change both. */
  readonly ledger: LedgerStore
  insertDataset(dataset: DatasetRecord): Promise<void>
  dataset(id: string): Promise<DatasetRecord | null>
  datasets(): Promise<DatasetView[]>

  /** The run, its checkpoint of step 0 and the ledger's row of its price appear together or not at all. */
  insertRun(run: RunRecord, initial: CheckpointRecord): Promise<void>
  run(id: string): Promise<RunRecord | null>
  /** Newest first. */
  runs(): Promise<RunRecord[]>
  updateRun(id: string, change: Partial<Omit<RunRecord, 'id'>>): Promise<void>
  /**
   * Writes down what is about to be applied, before anybody is told to. Only the step after the run's last one can be prepared,
   * and it may be prepared anew. @throws SkeinError `run.unknown`, `store.step_order`
   */
  prepareStep(runId: string, prepared: PreparedStep): Promise<void>
  /**
   * Commits a step: the metric, the run's `step` and the rows of the ledger that it earns together; nothing is prepared any
   * more. @throws SkeinError `run.unknown`, `store.step_order`
   */
  commitStep(runId: string, metric: StepMetric, entries?: readonly LedgerEntry[]): Promise<void>
  metrics(runId: string): Promise<StepMetric[]>
  /** Publishes a checkpoint; call it only once every chunk was read back whole. */
  insertCheckpoint(checkpoint: CheckpointRecord): Promise<void>
  latestCheckpoint(runId: string): Promise<CheckpointRecord | null>
  checkpoints(runId: string): Promise<CheckpointRecord[]>
  /**
   * Takes another cut of the layers: the run's config and its last checkpoint change together, and the generation rises, for
   * what nodes hold is cut the old way. @throws SkeinError `run.unknown`, `store.step_order` when the run is past `checkpoint`
   */
  recut(config: RunConfig, checkpoint: CheckpointRecord): Promise<void>
  /** Voids all metrics after `toStep` and what is prepared, sets the run's `step`, and adds one to `rollbacks`. */
  rollBack(runId: string, toStep: number): Promise<void>
  /** A device has one place in a run: a new one replaces it. */
  reserve(reservation: Reservation): Promise<void>
  /** The newest `limit` of them, by device. */
  reservations(runId: string, limit: number): Promise<Map<string, number>>
  /** For a run that has ended. */
  dropReservations(runId: string): Promise<void>
  addRecovered(runId: string, leases: number): Promise<void>
  appendEvent(runId: string, event: RunEvent): Promise<void>
  /** The newest `limit` events, oldest first. */
  events(runId: string, limit: number): Promise<RunEvent[]>
  eventCount(runId: string): Promise<number>
  close(): Promise<void>
}

/** Content-addressed bytes: the key is the SHA-256 of the value, in lower-case hex. */
export interface BlobStore {
  /** Stores and returns the hash; storing the same bytes twice is one blob. */
  put(bytes: Uint8Array): Promise<string>
  has(hash: string): Promise<boolean>
  /** Reads whole and checks the hash. @throws SkeinError `blob.missing` or `blob.corrupt` */
  get(hash: string): Promise<Uint8Array<ArrayBuffer>>
  /** Reads `length` bytes from `offset`, unchecked: for ranges of a dataset. */
  getRange(hash: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>
}
