/** Owns the words for a step under way: whose work it is, how far each stage is, and what is to be applied. */
import type { StepMetric } from '../../src/protocol/api.ts'
import type { Digest } from '../../src/protocol/receipt.ts'
import type { ReceiptBook, Settlement } from './signedWork.ts'

/** One node's leases of the round under way. */
export interface Work {
  readonly device: string
  /** Of the set of leases. */
  version: number
  readonly microbatches: Set<number>
  /** Microbatches that it may have in flight. */
  window: number
  /** The version it has finished; 0 before. */
  finished: number
  losses: readonly (readonly [number, number, number])[]
  /** When its last leases came, and how many they were. */
  since: number
  added: number
}

/** One stage's way through a step. */
export interface StageProgress {
  /** The owner of each microbatch, by its place in the round; empty while it has none. */
  readonly owner: string[]
  readonly work: Map<string, Work>
  /** Who lost its leases and takes no part until the next step, with the places that it had. */
  readonly revoked: Map<string, ReadonlySet<number>>
  /** By node: what it signed, whether its work still counts or not. */
  readonly receipts: Map<string, ReceiptBook>
  /** Who went and came back while its work was kept: it may have made a tensor twice, and not alike. */
  readonly rejoined: Set<string>
  /** Nodes with leases that they have not finished. */
  readonly pending: Set<string>
  /** The one node that owned every shard when the step began, whose shares nobody takes; null where there were more. */
  readonly solo: string | null
  /** Who has finished, and whose claim nobody was free to look at yet. */
  readonly unoffered: Set<string>
  /** Claims that were handed out and not answered yet, by receipt. */
  readonly audits: Map<string, { readonly nodeId: string; readonly version: number }>
  /** Since when no lease is open and audits alone are waited for; null while that is not so. */
  wholeAt: number | null
  /** `shard owner`: a sum that is not of what was signed for, and whom its owner names for that; null before it does. */
  readonly tallies: Map<string, { readonly digest: Digest | null; named: ReadonlySet<string> | null }>
  /** Places of microbatches that nobody there can take yet. */
  orphans: number[]
  /** When half of the nodes with leases had finished; null before. */
  halfAt: number | null
  /** How many lost their leases for being slow. */
  slow: number
  /** Contributors of the sum that was asked for last, with the versions of their leases; null while leases are open. */
  contributors: [string, number][] | null
  /** With local steps: by lane where it is, and how many updates it has taken there. */
  readonly advanced: Map<number, { readonly id: string; readonly inner: number }>
  /** Shards whose sums were asked for ahead of the others, with the leases as they are; null where there are none. */
  ahead: number | null
  /** Contributors that were lost since the sum was asked for; owners who have their share need them no more. */
  readonly lost: Set<string>
  /** By lost contributor: the owners that have not its share of a shard, as `owner shard`. */
  readonly missing: Map<string, Set<string>>
  /** By shard: since when nobody is left who updated it, and those who may have taken its bytes are asked. */
  readonly bereft: Map<number, number>
  /** By shard: nobody waits for the second owner any more in this step; it may still follow. */
  readonly waived: boolean[]
  /** When the sum, the update, or what is asked for last moved. */
  movedAt: number
  /** Counts the sums asked for. */
  attempt: number
  /** By shard and owner: squared norm of the reduced gradient in this attempt. */
  norms: Map<string, number>[]
  /** By shard: whether the primary has updated, and whether the second owner agrees or there is none. */
  readonly updated: boolean[]
  readonly compared: boolean[]
}

/** A training step or a round of scoring from its start to its commit. */
export interface Round {
  readonly step: number
  readonly mode: 'train' | 'evaluate'
  readonly startedAt: number
  readonly first: number
  readonly microbatches: number
  readonly stages: StageProgress[]
  /** What every owner was told to apply; null until all norms are in. */
  apply: { lr: number; scale: number; metric: StepMetric; settlement: Settlement } | null
  /** When its work last got on; what `stallMs` is measured from. */
  movedAt: number
  /** Set once the write-ahead record of the step is durable; only then is `apply` sent. */
  prepared: boolean
}
