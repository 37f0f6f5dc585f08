/**
 * Owns the border between the stage's protocol and its arithmetic: what the worker asks of the part of the model it holds.
 * The GPU model implements it; so does, in tests, the f64 reference.
 */
import type { Chunk } from '../protocol/control.ts'
import { sharesMoments } from '../protocol/lanes.ts'
import type { Shard } from '../protocol/routing.ts'
import type { RunConfig } from '../protocol/runConfig.ts'
import type { StageLayout } from '../model/layout.ts'

export type VectorKind = Chunk['kind']

/**
 * The vectors that replicas of a stage have alike between two steps, as a checkpoint holds them. With local steps `firstMoment`
 * is the outer momentum, and `secondMoment` the moments from which lanes begin, as `LaneMoments` keeps them, if they are shared.
 */
export function sharedVectors(config: Pick<RunConfig, 'sync' | 'local'>): readonly VectorKind[] {
  const all = ['parameters', 'firstMoment', 'secondMoment'] as const
  return config.sync === 'local' ? all.slice(0, sharesMoments(config) ? 3 : 2) : all
}

/**
 * What enters a stage: token ids at the first, an encoded boundary tensor (bytes as `boundaryBytes` has them) elsewhere.
 * `tokenIds` are the ids that the tensor's rows stand for; a learned boundary needs them.
 */
export type StageInput =
  { readonly tokens: Uint32Array } | { readonly boundary: Uint8Array; readonly tokenIds?: Uint32Array }

export interface UpdateParameters {
  /** This step's learning rate. */
  readonly lr: number
  /** Multiplies the summed gradient: the clipping over all stages. */
  readonly scale: number
  /** From 1; AdamW's bias correction. */
  readonly step: number
}

/**
 * One stage's forward, backward and update. Calls are made one at a time; each resolves when its result is usable.
 * Every gradient is of the mean loss over the whole batch: a microbatch adds its share, the sum over microbatches and
 * replicas is the step's gradient. Throws SkeinError `gpu.lost` from any call once the device is gone.
 */
export interface StageModel {
  readonly layout: StageLayout
  /** Sets the gradient sum to zero and forgets every stored activation. `step`, from 1, enters the rounding of gradients. */
  beginStep(step: number): void
  /** Not the last stage: returns the encoded output boundary. Keeps what backward needs, or the input to recompute from. */
  forward(microbatch: number, input: StageInput): Promise<Uint8Array<ArrayBuffer>>
  /** Not the last stage: adds to the gradient sum; returns the encoded gradient of the input, null at the first stage. */
  backward(microbatch: number, outputGradient: Uint8Array): Promise<Uint8Array<ArrayBuffer> | null>
  /** The last stage: forward, loss and backward at once. `lossSum` is the sum of token losses in nats. */
  forwardBackward(
    microbatch: number,
    input: StageInput,
    targets: Uint32Array,
  ): Promise<{ lossSum: number; inputGradient: Uint8Array<ArrayBuffer> | null }>
  /** The last stage, no gradients and nothing kept; `forwardOnly` is its counterpart elsewhere. */
  evaluate(input: StageInput, targets: Uint32Array): Promise<number>
  forwardOnly(input: StageInput): Promise<Uint8Array<ArrayBuffer>>
  /** The gradient sum of this replica over one range, f32. */
  readGradient(range: Shard): Promise<Float32Array<ArrayBuffer>>
  /**
   * Replaces the gradient sum over `range` by the sum of `contributions` taken in their order (one a replica, this one's
   * own included), so that every owner of a shard gets the same bits; without any, the gradient sum stays as it is, for a
   * replica that computed the whole step. Returns the sum's squared norm.
   */
  reduceGradient(range: Shard, contributions: readonly Float32Array[]): Promise<number>
  /** Overwrites the gradient sum over `range`, by zeros without `values`: what a reduction summed there is taken back. */
  restoreGradient(range: Shard, values: Float32Array | null): void
  /** AdamW over one range, from the reduced gradient. */
  update(range: Shard, parameters: UpdateParameters): Promise<void>
  read(kind: VectorKind, range: Shard): Promise<Float32Array<ArrayBuffer>>
  /** Overwrites parameters or moments; used for loading and for what other owners send. */
  write(kind: VectorKind, offset: number, values: Float32Array): void
  /** Frees every buffer. */
  destroy(): void
}
