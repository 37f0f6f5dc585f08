/** Owns one assignment's belongings on this node, from its `prepare` to its `discard`. */
import type { Assignment } from '../protocol/control.ts'
import type { FrameShape } from './frames.ts'
import type { StageModel } from './model.ts'
import { LocalStage } from '../model/local/localStage.ts'
import { LaneWork } from './laneWork.ts'
import { type MergeWork, ShardWork } from './shardWork.ts'
import type { TokenSource } from './tokenSource.ts'

export class Tenure {
  /** The present one: a new generation may go on with what is here. */
  assignment: Assignment
  readonly shape: FrameShape
  readonly tokens: TokenSource
  readonly abort: AbortController
  model: StageModel | null = null
  shardWork: MergeWork | null = null
  /** Where replicas merge after local steps. */
  laneWork: LaneWork | null = null
  /** What a microbatch should take on this device; null until it was tried. */
  expectedMs: number | null = null
  /** All parameters have come. */
  complete = false
  /** Whether the operation computed last was one of training. */
  training = false
  /** The training step that this node finished and that is not committed yet. */
  finishedStep: number | null = null
  /** Whether an update is read back, since others take it; so it is until an `apply` says that this node is alone. */
  sharesParameters = true
  readonly #written = new Set<number>()

  constructor(assignment: Assignment, shape: FrameShape, tokens: TokenSource, abort: AbortController) {
    this.assignment = assignment
    this.shape = shape
    this.tokens = tokens
    this.abort = abort
  }

  furnish(model: StageModel): void {
    const { shards, config } = this.shape
    this.model = model
    this.laneWork = model instanceof LocalStage ? new LaneWork(model, this.shape) : null
    this.shardWork = this.laneWork ?? new ShardWork(model, shards, config)
  }

  /** Notes that a shard's parameters came, and returns the share of shards that have. */
  loaded(shard: number): number {
    this.#written.add(shard)
    return this.#written.size / this.shape.shards.length
  }
}
