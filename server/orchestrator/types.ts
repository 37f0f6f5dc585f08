/** Owns the words of the orchestrator: the state of fleet and runs, what can happen to them and what follows. */
import type { RunState, StepMetric } from '../../src/protocol/api.ts'
import type {
  AdapterDescription,
  ClientMessage,
  Holding,
  NodePhase,
  NodeStats,
  ServerMessage,
  ShardOwners,
  StageCheckpoint,
} from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { EarnedCredit } from '../../src/protocol/receipt.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { Nearness } from './nearness.ts'
import type { Lanes } from './pairing.ts'
import type { Round } from './round.ts'
import type { Timing } from './timing.ts'
import type { ClaimPlace, WorkClaim } from './workClaim.ts'

export type { ClaimPlace, WorkClaim } from './workClaim.ts'

/** What a node measured on a link. */
export interface LinkTime {
  readonly rttMs: number
  /** That its end can send; null where too little went over it to tell. */
  readonly bytesPerMs: number | null
}

export interface FleetNode {
  readonly id: string
  readonly deviceId: string
  readonly kind: 'browser' | 'agent'
  readonly adapter: AdapterDescription
  /** What it offered, or less once it turned out not to have that. */
  memoryBytes: number
  phase: NodePhase
  progress: number | null
  stats: NodeStats
  lastHeard: number
  /** Changes when phase or progress does; what `prepareMs` is measured from. */
  lastProgress: number
  paused: boolean
  /** Silent for too long to be counted on: it holds no lease until it is heard again. */
  suspect: boolean
  /** When it was last heard again after it had been suspect. */
  backAt: number
  /** Its socket is closed; it may come back and go on. */
  detachedAt: number | null
  /** Not chosen before this time unless nobody else is there. */
  penaltyUntil: number
  /** Generations in a row that failed with this node among the members. */
  troubles: number
  /** By run: how often its GPU failed there since it last had part in a commit. */
  readonly gpuFailures: Map<string, number>
  /** What it said it holds when it dialled in, for a run that waits for its nodes after the server's restart. */
  holding: Holding | null
  /** Shards of what it goes on with after a restart that it may let go of as the next step begins; null once one has begun. */
  open: ReadonlySet<number> | null
  runId: string | null
  /** In its run; -1 without one. */
  stage: number
  /** The step after which its parameters stand, as far as it said; null while it prepares. */
  ready: number | null
  /**
   * It is taken to hold what it held when a step began again: since when a step has been under way in which it did not say so
   * itself, Infinity before there was one. Null once it has said so.
   */
  presumedAt: number | null
  /** The checkpoint that it was told to load, with all moments; null when it takes its weights from others. */
  loadedFrom: number | null
  /** Mean time of one microbatch there and back, in milliseconds, smoothed over steps; null until measured. */
  busyMs: number | null
  /** By partner at a neighbouring stage, as it last said. */
  links: ReadonlyMap<string, LinkTime>
  /** How far others are, as far as that is known. */
  readonly nearness: Nearness
  /** When it last said that it waits, and on whom. */
  waitingAt: number
  waitingOn: readonly string[]
  /** Since when others wait on it alone; null while they do not, or it gets on. */
  blamedSince: number | null
  /** Links to others that did not work, since it came. */
  deadLinks: number
  /** How often it said of others in this step that their bytes were no good. */
  distrusts: { step: number; count: number }
  pingedAt: number
}

export interface DatasetRef {
  readonly id: string
  readonly tokens: number
  readonly trainTokens: number
}

export interface Evaluation {
  /** Microbatches scored by rounds that ended. */
  done: number
  readonly total: number
  lossSum: number
  tokens: number
  /** The number that the last round had. */
  step: number
}

/** A checkpoint on its way; training goes on meanwhile. */
export interface Saving {
  readonly step: number
  readonly startedAt: number
  readonly shards: Map<string, Extract<ClientMessage, { type: 'shardSaved' }>>
  /** By stage and shard: who was asked. */
  readonly asked: ReadonlyMap<string, string>
  /** What the store was asked to read back and keep; null while shards are being uploaded. */
  publishing: readonly StageCheckpoint[] | null
}

/** What a run may spend, in planck and in credit. */
export interface Purse {
  readonly planckPerPflop: bigint
  budget: bigint
  /** The budget is, or is bounded by, what came to the run's deposit address. */
  readonly deposited: boolean
  /** All that was earned in the run, whether it was voided or not: a waiver may give that back. */
  credit: bigint
  /** The most that a step can earn. */
  readonly stepCredit: bigint
}

export interface Run {
  readonly id: string
  readonly name: string
  /** Its `partition` changes when the layers are cut anew. */
  config: RunConfig
  readonly dataset: DatasetRef
  /** Bytes a node needs for each stage. */
  stageBytes: readonly number[]
  /** Windows of the held-out tail. */
  readonly evalWindows: number
  state: RunState
  detail: string
  generation: number
  /** Last committed step. */
  step: number
  checkpoint: { step: number; stages: readonly StageCheckpoint[] }
  /** Everybody assigned to each stage in this generation, those that still prepare too; empty while the run waits. */
  members: string[][]
  /** `owners[stage][shard]`: primary, second, keeper. */
  owners: ShardOwners[]
  /** `holders[stage][shard]`: the step after which the moments of each node stand that has some. */
  holders: Map<string, number>[][]
  round: Round | null
  /** What the lanes of the next round start from. */
  readonly lanes: Lanes
  evaluation: Evaluation | null
  saving: Saving | null
  /** Somebody asked for a checkpoint; the next commit makes one. */
  saveSoon: boolean
  /** The run stops at the checkpoint under way and is cut anew: layers of each stage from then on. */
  recut: number[] | null
  /** What a step took lately, in milliseconds; null before the first commit. */
  usualMs: number | null
  /** What the last start took from its first assignment to its first step, in milliseconds; null before. */
  restartMs: number | null
  /** A step that was about to be applied when the server died, in which generation, its metric, and what it earns. */
  unapplied: { generation: number; lr: number; scale: number; metric: StepMetric; work: readonly EarnedCredit[] } | null
  /** After a restart: until when its nodes are waited for. */
  recoverUntil: number | null
  /** When the run began to wait for volunteers. */
  waitingSince: number
  /** Since when every stage could be given somebody; null while that is not so. */
  runnableSince: number | null
  /** No generation is formed before this time. */
  retryAt: number
  lastProgress: number
  /** Generations that failed since the last commit; those that ended because somebody left do not count. */
  brokenInARow: number
  /** `deviceId` → stage: the places of devices that were here, kept across reloads of either side. */
  readonly reservations: Map<string, number>
  /** Leases that moved from a lost or slow owner to another. */
  recovered: number
  /** Null for a run that pays nobody. */
  readonly purse: Purse | null
}

export interface OrchestratorState {
  readonly timing: Timing
  /** Generations are numbered across all runs, so that a stale frame of one run can never pass for another's. */
  lastGeneration: number
  readonly nodes: Map<string, FleetNode>
  readonly runs: Map<string, Run>
}

export type RunSubmission = Pick<
  Run,
  'id' | 'name' | 'config' | 'dataset' | 'stageBytes' | 'evalWindows' | 'generation' | 'step' | 'checkpoint'
> & {
  /** As `prepareStep` left it when the server died before `commitStep`. */
  unapplied: Run['unapplied']
  reservations: ReadonlyMap<string, number>
  recovered: number
  purse: Readonly<Purse> | null
  /** Whether nodes of this run may still be there: true when the server starts, false when a run is launched. */
  recovering: boolean
}

export type OrchestratorEvent = { now: number } & (
  | {
      type: 'nodeJoined'
      node: Pick<FleetNode, 'id' | 'deviceId' | 'kind' | 'adapter' | 'memoryBytes' | 'holding'>
    }
  /** Its socket closed; the session may be resumed. */
  | { type: 'nodeDetached'; nodeId: string }
  /** The same session is back on another socket; nothing was lost. */
  | { type: 'nodeResumed'; nodeId: string }
  /** It has left a control message unacknowledged for too long. */
  | { type: 'nodeUnresponsive'; nodeId: string }
  /** A `receipt` counts by `receiptHeard` alone. */
  | { type: 'message'; nodeId: string; message: ClientMessage }
  /** `hash`: SHA-256 of the signed receipt, in hex; `fault`: what is wrong with its signature, null when it is the device's. */
  | {
      type: 'receiptHeard'
      nodeId: string
      message: Extract<ClientMessage, { type: 'receipt' }>
      hash: string
      fault: ErrorBody | null
    }
  | { type: 'runSubmitted'; run: RunSubmission }
  | { type: 'runCancelled'; runId: string }
  /** Planck in all; durable already. */
  | { type: 'budgetRaised'; runId: string; budget: bigint }
  | { type: 'checkpointRequested'; runId: string }
  /** The answer to `prepareStep`: the record is durable. */
  | { type: 'stepPrepared'; runId: string; generation: number; step: number }
  /** The store read the checkpoint back whole and published it. */
  | { type: 'checkpointPublished'; runId: string; checkpoint: { step: number; stages: StageCheckpoint[] } }
  | { type: 'checkpointRefused'; runId: string; step: number; error: ErrorBody }
  /** The answer to `recutCheckpoint`: the checkpoint in its new cut is kept, and what follows from the cut. */
  | {
      type: 'checkpointRecut'
      runId: string
      config: RunConfig
      stageBytes: number[]
      checkpoint: { step: number; stages: StageCheckpoint[] }
    }
  | { type: 'recutRefused'; runId: string; error: ErrorBody }
  /** The answer to `claimed`, once a claim: it is not audited, or its audit is closed. Nothing waits for it any more. */
  | ({ type: 'claimSettled'; receipt: string } & ClaimPlace)
  /**
   * An audit found the device's work, or its recomputation, false: it leaves, told `error`, and its work of that step counts
   * in no sum, if that step is not yet applied.
   */
  | ({ type: 'convicted'; device: string; error: ErrorBody } & ClaimPlace)
  /** As `convicted`, but nobody is at fault: the work alone is done again by others. */
  | ({ type: 'redo'; device: string } & ClaimPlace)
  /** A recomputation was credited in the run, as far as its budget reaches (`affords`). */
  | { type: 'auditCredited'; runId: string; credit: bigint }
  | { type: 'tick' }
)

/** Why leases or owners moved. */
export type RecoveryCause = 'left' | 'silent' | 'slow' | 'failed' | 'false'

export type OrchestratorCommand =
  | { type: 'send'; nodeId: string; message: ServerMessage }
  | { type: 'disconnect'; nodeId: string; error: ErrorBody }
  /** Make durable that this step is about to be applied, then answer `stepPrepared`. */
  | {
      type: 'prepareStep'
      runId: string
      generation: number
      lr: number
      scale: number
      metric: StepMetric
      work: readonly EarnedCredit[]
    }
  /**
   * Void after `prepareStep` of the same step; both are one step in the store. `work` is credited with it, or neither is.
   * `claims`: how many tensors maker and taker named alike, only one of them named, and they named differently.
   */
  | {
      type: 'commitStep'
      runId: string
      metric: StepMetric
      work: readonly EarnedCredit[]
      claims: { attested: number; unattested: number; disputed: number }
    }
  | { type: 'publishCheckpoint'; runId: string; step: number; stages: StageCheckpoint[] }
  /** Cut the published checkpoint of this step anew, publish it in place of the other, answer `checkpointRecut`. */
  | { type: 'recutCheckpoint'; runId: string; step: number; partition: number[] }
  | { type: 'rollBack'; runId: string; toStep: number }
  /** The run's state, detail or generation changed. */
  | { type: 'runChanged'; runId: string }
  | { type: 'runEnded'; runId: string; state: 'finished' | 'cancelled' | 'failed'; valLoss: number | null }
  /** The device holds this stage from now on; durable, so that it gets it again after a reload. */
  | { type: 'reserve'; runId: string; deviceId: string; stage: number }
  /** Leases moved to other nodes: for the run's books. */
  | { type: 'recovered'; runId: string; leases: number; cause: RecoveryCause }
  /**
   * A node has finished what it signed for, and enough others of its stage are free to recompute it (`timing.auditMs` above 0).
   * Every claim is answered with one `claimSettled`; the stage's merge waits for that, for a while.
   */
  | {
      type: 'claimed'
      runId: string
      claim: WorkClaim
      replicas: readonly { nodeId: string; device: string }[]
      /** Others of the stage, who are still at work. */
      reserves: readonly { nodeId: string; device: string }[]
    }
  /** Devices that contradict each other under their signatures: their next claims deserve a look. */
  | { type: 'disputed'; runId: string; step: number; devices: readonly string[] }
  /**
   * The mean loss of each microbatch of a committed step that was audited, in nats a token, and the devices that computed it,
   * first stage first.
   */
  | { type: 'scored'; runId: string; step: number; losses: readonly { devices: readonly string[]; loss: number }[] }
  /** A line of the run's story, in words. */
  | { type: 'tell'; runId: string; step: number; text: string }

export type RunMessage = Extract<ClientMessage, { generation: number }>
