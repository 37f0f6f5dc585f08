/** Owns the words of the audits: claims and answers, what is known of a device, what can happen and what follows. */
import type { SketchSeed } from '../../src/audit/sketch.ts'
import type { DeviceClass, TensorKind } from '../../src/audit/tolerances.ts'
import type { CodecName } from '../../src/protocol/runConfig.ts'
import type { AuditPolicy } from './policy.ts'

export interface Place {
  readonly run: string
  readonly generation: number
  readonly step: number
  readonly stage: number
}

/** Somebody who computes a stage. */
export interface Party {
  /** Its Ed25519 key in hex. */
  readonly device: string
  /** Whom it earns for; null while it is bound to nobody. */
  readonly wallet: string | null
  readonly class: DeviceClass
}

/** What everybody can see of a tensor that was sent, without recomputing it. */
export interface Glance {
  readonly kind: TensorKind
  readonly finite: boolean
  /** Root mean square of its values; null where nobody has looked at them. */
  readonly rms: number | null
  /** The committed digest of its bytes. */
  readonly digest: string
}

/** One receipt, committed to: its digests stand before anything about its audit is drawn. */
export interface Claim extends Place {
  /** SHA-256 of the signed receipt. */
  readonly receipt: string
  readonly claimant: Party
  /** Devices it took tensors from and gave them to: they may testify to its claim, but never judge it. */
  readonly neighbours: readonly string[]
  readonly microbatches: readonly number[]
  readonly codec: CodecName
  /** Model FLOPs, forward and backward. */
  readonly credit: bigint
  readonly glances: readonly Glance[]
}

/**
 * Two owners' update of a shard. Both agree, or they do not: a third contributor sums the committed contributions again,
 * since agreeing proves nothing of two who are one.
 */
export interface MergeClaim extends Place {
  readonly shard: number
  readonly owners: readonly Party[]
  /** The owners' own comparison. */
  readonly agreed: boolean
}

/** Randomness for one draw, made after the claim was committed to: each in [0, 1), and a seed nobody could know before. */
export interface AuditDraw {
  readonly whether: number
  readonly who: number
  readonly seed: SketchSeed
}

/** Sketches of one party's tensors under the audit's seed, all microbatches of a receipt behind each other. */
export type Evidence = { readonly [K in TensorKind]?: Float32Array } & {
  /** The decoded input, from who computed the recomputation; none at the first stage. */
  readonly input?: Float32Array
}

export interface Juror {
  readonly party: Party
  readonly askedAt: number
  /** Null until it answers. */
  evidence: Evidence | null
  /** It took so long that another was asked beside it; what it says first still counts. */
  late: boolean
}

interface AuditBase extends Place {
  readonly id: string
  readonly seed: SketchSeed
  readonly codec: CodecName
  readonly credit: bigint
  readonly openedAt: number
  /** Of the claim: what was really sent, by who received it (see `testified`); null until it is known. */
  claimed: Evidence | null
  readonly jurors: Juror[]
  /** Who may recompute, in the order drawn, and was not asked yet. */
  readonly bench: Party[]
}

export interface WorkAudit extends AuditBase {
  readonly of: 'work'
  readonly accused: readonly [Party]
  readonly microbatches: readonly number[]
}

export interface MergeAudit extends AuditBase {
  readonly of: 'merge'
  readonly accused: readonly Party[]
  readonly shard: number
}

export type Audit = WorkAudit | MergeAudit

/** What is known of a device. */
export interface Standing {
  /** Audits passed since the last conviction, as claimant. */
  passed: number
  convictions: number
  /** Shut out until this time; 0 when not. */
  shutUntil: number
  /** Receipts that are still audited for sure, because of something odd. */
  watched: number
  /** Audits since the last conviction for which it did not show what it had signed for. */
  unshown: number
  /** By run: the last step whose claim passed an audit. */
  readonly cleared: Map<string, number>
}

/** Mean and spread of the logarithm of a tensor's rms at one stage of a run. */
export interface Bound {
  count: number
  mean: number
  variance: number
}

export interface Attribution {
  /** Mean excess of the loss of the routes it was on, in standard deviations, and how many they were. */
  sum: number
  count: number
}

export interface Conviction {
  readonly device: string
  readonly run: string
  readonly fromStep: number
  readonly toStep: number
  readonly at: number
  readonly reason: string
}

export interface AuditState {
  readonly policy: AuditPolicy
  readonly standings: Map<string, Standing>
  readonly audits: Map<string, Audit>
  readonly bounds: Map<string, Bound>
  /** Digests claimed lately, by run and stage, the oldest first. */
  readonly digests: Map<string, Map<string, number>>
  readonly attributions: Map<string, Attribution>
  /** What can still be waived. */
  readonly convictions: Conviction[]
  /** Set by the operator: something of ours is broken, and nobody is punished for it. */
  incident: { readonly reason: string; readonly since: number } | null
}

export type AuditEvent = { readonly now: number } & (
  | {
      readonly type: 'claimed'
      readonly claim: Claim
      readonly draw: AuditDraw
      /** Who is free to recompute it, and who will be: they are asked after all of those. */
      readonly replicas: readonly Party[]
      readonly reserves?: readonly Party[]
    }
  | {
      readonly type: 'merged'
      readonly claim: MergeClaim
      readonly draw: AuditDraw
      readonly replicas: readonly Party[]
    }
  /**
   * What the claim's tensors really were. Claimant and receiver sketched them alike; or they did not, and the bytes were
   * fetched, held against the committed digests, and sketched by the server.
   */
  | { readonly type: 'testified'; readonly audit: string; readonly evidence: Evidence }
  /** The claimant showed bytes that it had not signed for, or said that it cannot show any. */
  | { readonly type: 'unshown'; readonly audit: string }
  /** The claim is void: its leases or its generation are others by now. */
  | { readonly type: 'withdrawn'; readonly audit: string }
  | { readonly type: 'answered'; readonly audit: string; readonly device: string; readonly evidence: Evidence }
  /** It cannot answer: gone, or its stage is. */
  | { readonly type: 'excused'; readonly audit: string; readonly device: string }
  /** The step is over, and nobody can recompute it any more. */
  | { readonly type: 'outlived'; readonly audit: string }
  /** Receipts contradict each other: one of them is false, and nobody knows which. */
  | { readonly type: 'disputed'; readonly devices: readonly string[] }
  /** The mean loss of one microbatch, and the devices that computed it. */
  | { readonly type: 'scored'; readonly run: string; readonly losses: readonly RouteLoss[] }
  | { readonly type: 'incident'; readonly reason: string; readonly since: number }
  | { readonly type: 'incidentOver' }
  | { readonly type: 'tick' }
)

export interface RouteLoss {
  readonly devices: readonly string[]
  readonly loss: number
}

export type Verdict =
  /** The claim agrees with a recomputation. */
  | { readonly verdict: 'passed' }
  | { readonly verdict: 'convicted'; readonly reason: string }
  /** Nobody was there to settle it: nobody is punished, and the claimant is watched. */
  | { readonly verdict: 'open' }

export type AuditCommand =
  /** Its next claims are audited for sure: the losses of its routes are odd. */
  | { readonly type: 'watched'; readonly device: string }
  /** Ask who received the claim's tensors, and the claimant, for sketches under the seed. */
  | { readonly type: 'testify'; readonly audit: Audit }
  | { readonly type: 'recompute'; readonly audit: Audit; readonly juror: Party }
  /** A ledger row `audit`. */
  | { readonly type: 'credit'; readonly place: Place; readonly device: string; readonly credit: bigint }
  /** A ledger row `conviction`: unpaid credit of these steps is void. */
  | { readonly type: 'convict'; readonly conviction: Conviction; readonly shutUntil: number }
  /** A ledger row `waiver`. */
  | { readonly type: 'waive'; readonly device: string; readonly reason: string }
  /** Its microbatches are to be computed by others, if the step has not committed. */
  | { readonly type: 'redo'; readonly place: Place; readonly device: string; readonly microbatches: readonly number[] }
  | { readonly type: 'redoMerge'; readonly place: Place; readonly shard: number }
  | { readonly type: 'closed'; readonly audit: Audit; readonly outcome: Verdict }
