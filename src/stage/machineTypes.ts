/** Owns the words of the stage machine: what can happen to a stage and what it can ask to be done. */
import type { ExhibitKind } from '../protocol/audit.ts'
import type { Assignment, ClientMessage, ServerMessage } from '../protocol/control.ts'
import type { FrameKind } from '../protocol/frame.ts'
import type { Digest, ReceiptEntry, SignedReceipt } from '../protocol/receipt.ts'

export type TensorKind = Exclude<FrameKind, 'want'>

/** Addresses one tensor on its way between two nodes; the fields mean what `FrameHeader`'s mean. */
export interface TensorAddress {
  kind: TensorKind
  generation: number
  step: number
  index: number
  boundary: number
  attempt: number
}

/** The kernels' work on one microbatch; `forwardBackward` and `evaluate` are the last stage's. */
export type ComputeOp = 'forward' | 'backward' | 'forwardBackward' | 'forwardOnly' | 'evaluate'

export interface Loss {
  sum: number
  tokens: number
}

/** Opaque to the machine: hashing takes its time beside the work, and is waited for by who signs. */
export type TensorDigest = Digest | Promise<Digest>

/**
 * `T` is a tensor's bytes in production and a few integers in the simulation: the machine stores and forwards tensors
 * and never looks inside one.
 */
export type StageEvent<T> =
  | { type: 'server'; message: ServerMessage }
  /**
   * Kernels are compiled. `step`: after which the parameters and all moments stand; null when they come from peers.
   * `expectedMs`: what a microbatch, there and back, should take on this device; null when it cannot tell.
   */
  | { type: 'prepared'; generation: number; step: number | null; expectedMs: number | null }
  /** The answer to `measure`; milliseconds, as `expectedMs` of `prepared`. */
  | { type: 'measured'; generation: number; expectedMs: number }
  /** `digest` goes with the boundary tensors of training steps and with shares of the gradient sum. */
  | { type: 'frame'; from: string; address: TensorAddress; tensor: T; digest: TensorDigest | null }
  /** Another node asks for the tensor of this address. */
  | { type: 'want'; from: string; address: TensorAddress }
  /**
   * `output` is the boundary or the input's gradient, `digest` its digest in training; `loss` comes from the last stage, its sum in nats; `busyMs` is what
   * this operation took on the device.
   */
  | {
      type: 'computed'
      generation: number
      step: number
      op: ComputeOp
      microbatch: number
      output: T | null
      digest: TensorDigest | null
      loss: Loss | null
      busyMs: number
    }
  /** As `computed`, of another node's claim; not `genuine`: the input was not what the claim took, and nothing was computed. */
  | {
      type: 'recomputed'
      generation: number
      step: number
      audit: string
      op: ComputeOp
      microbatch: number
      output: T | null
      loss: Loss | null
      genuine: boolean
    }
  /** The answer to `testify`. */
  | { type: 'testified'; generation: number; message: Extract<ClientMessage, { type: 'recomputed' }> }
  /** The answer to `sign`; no receipts where this device cannot sign. */
  | { type: 'signed'; generation: number; step: number; version: number; receipts: readonly SignedReceipt[] }
  /** The update that ended this inner step of a lane is done; after the last, what the lane changed is part of the share. */
  | { type: 'innerUpdated'; generation: number; step: number; lane: number; inner: number }
  | { type: 'gradientRead'; generation: number; step: number; version: number; shard: number; tensor: T; digest: TensorDigest } // prettier-ignore
  /** `digest` is of what was summed, as `sumText` says; null where the action named no contributions. */
  | { type: 'reduced'; generation: number; step: number; attempt: number; shard: number; squaredNorm: number; digest: Digest | null } // prettier-ignore
  /** The answer to `tally`. */
  | { type: 'tallied'; generation: number; message: Extract<ClientMessage, { type: 'tallied' }> }
  /** The answer to `mean`. */
  | { type: 'meanMade'; generation: number; step: number; attempt: number; shard: number; tensor: T }
  /** The shard is updated in place, moments too; `tensor` is its new parameters, or with local steps the lanes' mean change. */
  | { type: 'updated'; generation: number; step: number; shard: number; tensor: T }
  /** `agrees` answers the action's `compare`. */
  | { type: 'parametersWritten'; generation: number; step: number; shard: number; agrees: boolean }
  | { type: 'momentsWritten'; generation: number; step: number; shard: number }
  /** Parameters or moments, read for another node; the machine looks once more whether they still stand after `step`. */
  | { type: 'shardRead'; generation: number; kind: 'parameterShard' | 'momentShard'; step: number; shard: number; to: string; tensor: T } // prettier-ignore
  | { type: 'saved'; generation: number; message: Extract<ClientMessage, { type: 'shardSaved' }> }
  /** The device or a download gave up; `message` goes to the server. */
  | { type: 'failed'; generation: number; message: Extract<ClientMessage, { type: 'failed' }> }
  /** The link to a node broke or could not be opened: what was sent to it may not have come. */
  | { type: 'linkLost'; node: string }
  /** Every half second or so; milliseconds of the caller's clock. */
  | { type: 'tick'; now: number }

export type StageAction<T> =
  /** Make the model and fill it as `assignment.source` says; the answer is `prepared`, for `held` too. */
  | { type: 'prepare'; assignment: Assignment }
  /** The model stays as it is and goes by the new assignment; the answer is `prepared`. */
  | { type: 'keep'; assignment: Assignment }
  /** Free the model and drop whatever runs on it. */
  | { type: 'discard' }
  /** Set the gradient sum to zero and forget stored activations. */
  | { type: 'beginStep'; step: number }
  | { type: 'compute'; op: ComputeOp; microbatch: number; step: number; input: T | null }
  /** Time one microbatch of nothing, and leave things as after `beginStep`; the answer is `measured`. */
  | { type: 'measure'; step: number }
  /** With local steps: bring a lane onto the device, from the shared weights or from where it gave way to another. */
  | { type: 'enterLane'; step: number; lane: number }
  /** Its gradient is whole: the answer is `innerUpdated`. `inner` counts from 0. */
  | { type: 'innerUpdate'; step: number; lane: number; inner: number }
  /** As `compute`, of another node's claim; only where `digest` turns out to be what was `claimed` of the input. */
  | {
      type: 'recompute'
      audit: string
      op: ComputeOp
      microbatch: number
      step: number
      input: T | null
      digest: TensorDigest | null
      claimed: Digest | null
    }
  /**
   * Sketch under `seed` what was recomputed: a shard of the gradient on the device, one microbatch's tensors, and the mean
   * losses of all, which the last stage has; the answer is `testified`.
   */
  | {
      type: 'testify'
      audit: string
      step: number
      shard: number
      seed: readonly [number, number]
      input: T | null
      activation: T | null
      inputGradient: T | null
      losses: readonly number[]
    }
  /** Give the server these bytes of this node's claim. */
  /** `taken` of another: the audit does not hang on whether it can be shown. */
  | { type: 'exhibit'; audit: string; step: number; kind: ExhibitKind; tensor: T; taken?: true }
  /** Sign what this version of the leases took and made, and its shares of the sum; the answer is `signed`. */
  | {
      type: 'sign'
      step: number
      version: number
      entries: readonly ReceiptEntry<TensorDigest>[]
      shares: readonly TensorDigest[]
    }
  | { type: 'send'; to: string; address: TensorAddress; tensor: T; again: boolean }
  | { type: 'want'; to: string; address: TensorAddress }
  | { type: 'readGradient'; step: number; version: number; shard: number }
  /** Puts this node's own gradient sum back where a sum of all was: zeros when it has none. */
  | { type: 'restoreGradient'; shard: number; tensor: T | null }
  /** Contributions in the server's order, and their digests; none when this node's own sum is the sum. */
  | { type: 'reduce'; step: number; attempt: number; shard: number; contributions: T[]; digests: TensorDigest[] }
  /** Name these digests to the server once they are known; the answer is `tallied`. */
  | { type: 'tally'; step: number; attempt: number; shard: number; digests: readonly TensorDigest[] }
  /** Encode what `update` will give of the sum of this attempt, and change nothing; the answer is `meanMade`. */
  | { type: 'mean'; step: number; attempt: number; shard: number; scale: number }
  | { type: 'update'; shard: number; step: number; lr: number; scale: number }
  /**
   * With `compare` the bytes are first held against this node's own. With `mean` they are what lanes changed in the mean, from
   * which the parameters of the step before, which stand, are to be updated.
   */
  | { type: 'writeParameters'; shard: number; step: number; tensor: T; compare: boolean; mean: boolean }
  /** First moments, then second ones. */
  | { type: 'writeMoments'; shard: number; step: number; tensor: T }
  | { type: 'readShard'; kind: 'parameterShard' | 'momentShard'; step: number; shard: number; to: string }
  | { type: 'save'; step: number; shard: number }
  | { type: 'report'; message: ClientMessage }
