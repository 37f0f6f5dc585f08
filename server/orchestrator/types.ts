/** Owns the words of the orchestrator: the state of fleet and runs, what can happen to them and what follows. */
import type { RunState, StepMetric } from '../../src/protocol/api.ts'
import type {
  AdapterDescription,
  ClientMessage,
  Members,
  NodePhase,
  NodeStats,
  ServerMessage,
  StageCheckpoint,
} from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'

/** All times are milliseconds of the caller's clock; the core has none. */
export interface Timing {
  /** Silence after which the console calls a node suspect. */
  suspectMs: number
  /** Silence after which a node is taken for dead. */
  evictMs: number
  /** Longest wait for missing replicas while every stage has at least one. */
  formationMs: number
  /** Longest time without progress for a node that loads weights, compiles or connects. */
  prepareMs: number
  /** Longest time without any progress within a step. */
  stallMs: number
  /** How long a node that failed a generation is passed over while others are there. */
  failurePenaltyMs: number
  /** Pause after a generation failed, doubled with each further failure in a row, up to 60 times this. */
  retryMs: number
}

export const DEFAULT_TIMING: Timing = {
  suspectMs: 6000,
  evictMs: 20_000,
  formationMs: 5000,
  prepareMs: 90_000,
  stallMs: 120_000,
  failurePenaltyMs: 10_000,
  retryMs: 500,
}

/** How long silence may last where nodes beat every `heartbeatMs`: never less than three beats until suspect, ten until dead. */
export function silenceTiming(heartbeatMs: number): Pick<Timing, 'suspectMs' | 'evictMs'> {
  return {
    suspectMs: Math.max(DEFAULT_TIMING.suspectMs, 3 * heartbeatMs),
    evictMs: Math.max(DEFAULT_TIMING.evictMs, 10 * heartbeatMs),
  }
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
  suspect: boolean
  /** Not chosen before this time unless nobody else is there. */
  penaltyUntil: number
  /** Generations in a row that failed with this node among the members. */
  troubles: number
  /** By run: how often its GPU failed there since it last had part in a commit. */
  readonly gpuFailures: Map<string, number>
  runId: string | null
}

export interface DatasetRef {
  readonly id: string
  readonly tokens: number
  readonly trainTokens: number
}

/** What a step has gathered so far; void when the generation ends. */
export interface StepProgress {
  readonly step: number
  readonly startedAt: number
  readonly losses: Map<number, { sum: number; tokens: number }>
  /** `stage:shard` → squared norm of the reduced gradient. */
  readonly squaredNorms: Map<string, number>
  readonly applied: Set<string>
  gradNorm: number | null
}

export interface Evaluation {
  /** Microbatches scored by rounds that ended. */
  done: number
  readonly total: number
  /** The round under way, numbered on from the last training step. */
  step: number
  readonly losses: Map<number, { sum: number; tokens: number }>
  lossSum: number
  tokens: number
  roundEnd: number
}

export interface Saving {
  readonly step: number
  readonly shards: Map<string, Extract<ClientMessage, { type: 'shardSaved' }>>
  /** What the store was asked to read back and keep; null while shards are being uploaded. */
  publishing: readonly StageCheckpoint[] | null
}

export interface Run {
  readonly id: string
  readonly name: string
  readonly config: RunConfig
  readonly dataset: DatasetRef
  /** Bytes a node needs for each stage. */
  readonly stageBytes: readonly number[]
  /** Windows of the held-out tail. */
  readonly evalWindows: number
  state: RunState
  detail: string
  generation: number
  /** Last committed step. */
  step: number
  checkpoint: { step: number; stages: readonly StageCheckpoint[] }
  /** Who holds what in this generation; empty while the run waits. */
  members: Members
  readonly ready: Set<string>
  progress: StepProgress | null
  evaluation: Evaluation | null
  saving: Saving | null
  /** When the run began to wait for volunteers. */
  waitingSince: number
  /** Since when every stage could be given somebody; null while that is not so. */
  runnableSince: number | null
  /** No generation is formed before this time. */
  retryAt: number
  lastProgress: number
  /** Generations that failed since the last commit; those that ended because somebody left do not count. */
  brokenInARow: number
  /** Where each node of the last generation sat, so that it is put there again. */
  lastSeats: Map<string, number>
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
>

export type OrchestratorEvent = { now: number } & (
  | {
      type: 'nodeJoined'
      node: Pick<FleetNode, 'id' | 'deviceId' | 'kind' | 'adapter' | 'memoryBytes'>
    }
  | { type: 'nodeLeft'; nodeId: string; reason: string }
  | { type: 'message'; nodeId: string; message: ClientMessage }
  | { type: 'runSubmitted'; run: RunSubmission }
  | { type: 'runCancelled'; runId: string }
  /** The store read the checkpoint back whole and published it. */
  | { type: 'checkpointPublished'; runId: string; checkpoint: { step: number; stages: StageCheckpoint[] } }
  | { type: 'checkpointRefused'; runId: string; step: number; error: ErrorBody }
  | { type: 'tick' }
)

export type OrchestratorCommand =
  | { type: 'send'; nodeId: string; message: ServerMessage }
  | { type: 'disconnect'; nodeId: string; error: ErrorBody }
  | { type: 'commitStep'; runId: string; metric: StepMetric }
  | { type: 'publishCheckpoint'; runId: string; step: number; stages: StageCheckpoint[] }
  | { type: 'rollBack'; runId: string; toStep: number }
  /** The run's state, detail or generation changed. */
  | { type: 'runChanged'; runId: string }
  | { type: 'runEnded'; runId: string; state: 'finished' | 'cancelled' | 'failed'; valLoss: number | null }
  /** A line of the run's story, in words. */
  | { type: 'tell'; runId: string; step: number; text: string }
