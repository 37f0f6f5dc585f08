/** Owns the words of the stage machine: what can happen to a stage and what it can ask to be done. */
import type { Assignment, ClientMessage, ServerMessage } from '../protocol/control.ts'
import type { FrameKind } from '../protocol/frame.ts'

/** Addresses one tensor on its way between two nodes; the fields mean what `FrameHeader`'s mean. */
export interface TensorAddress {
  kind: FrameKind
  generation: number
  step: number
  index: number
  boundary: number
  replica: number
}

/** The kernels' work on one microbatch; `forwardBackward` and `evaluate` are the last stage's. */
export type ComputeOp = 'forward' | 'backward' | 'forwardBackward' | 'forwardOnly' | 'evaluate'

export interface Loss {
  sum: number
  tokens: number
}

/**
 * `T` is a tensor's bytes in production and a small integer in the simulation: the machine stores and forwards tensors
 * and never looks inside one.
 */
export type StageEvent<T> =
  | { type: 'server'; message: ServerMessage }
  /** Weights are loaded, pipelines compiled, channels open. */
  | { type: 'prepared'; generation: number }
  | { type: 'frame'; from: string; address: TensorAddress; tensor: T }
  /** `output` is the boundary or the input's gradient; `loss` comes from the last stage, its sum in nats. */
  | { type: 'computed'; generation: number; op: ComputeOp; microbatch: number; output: T | null; loss: Loss | null }
  | { type: 'gradientRead'; generation: number; shard: number; tensor: T }
  | { type: 'reduced'; generation: number; squaredNorm: number }
  | { type: 'updated'; generation: number; tensor: T }
  | { type: 'parametersWritten'; generation: number; shard: number }
  | { type: 'saved'; generation: number; message: Extract<ClientMessage, { type: 'shardSaved' }> }
  /** The device, a channel or a download gave up; `message` goes to the server. */
  | { type: 'failed'; generation: number; message: Extract<ClientMessage, { type: 'failed' }> }

export type StageAction<T> =
  | { type: 'prepare'; assignment: Assignment }
  /** Free the model and drop whatever runs on it. */
  | { type: 'discard' }
  | { type: 'beginStep' }
  | { type: 'compute'; op: ComputeOp; microbatch: number; step: number; input: T | null }
  | { type: 'send'; to: string; address: TensorAddress; tensor: T }
  | { type: 'readGradient'; shard: number }
  /** Contributions in replica order; none when this replica is alone and its own sum is the sum. */
  | { type: 'reduce'; shard: number; contributions: T[] }
  | { type: 'update'; shard: number; step: number; lr: number; scale: number }
  | { type: 'writeParameters'; shard: number; tensor: T }
  | { type: 'save'; step: number }
  | { type: 'report'; message: ClientMessage }
