/** Owns the shape of a claim: what of a step one node has finished and signed for. */
import type { Digest, ReceiptEntry } from '../../src/protocol/receipt.ts'
import type { CodecName } from '../../src/protocol/runConfig.ts'

/**
 * The finished work of one node in a step, as it signed for it: what an audit may be held of. Its digests stand before anything
 * about the audit is drawn.
 */
export interface WorkClaim {
  readonly runId: string
  readonly generation: number
  readonly step: number
  readonly stage: number
  readonly nodeId: string
  readonly device: string
  /** SHA-256 of the signed receipt. */
  readonly receipt: string
  /** What was taken from whom and made of each microbatch, ascending; nodes by their ids. */
  readonly entries: readonly ReceiptEntry<Digest>[]
  /** Digests of the node's share of the gradient sum, by shard. */
  readonly shares: readonly Digest[]
  /** Mean loss of a token in nats, in the order of `entries`; empty before the last stage. */
  readonly losses: readonly number[]
  /** Model FLOPs, forward and backward. */
  readonly credit: bigint
  /** Devices whose tensors it took, and those it made tensors for. */
  readonly neighbours: readonly string[]
  readonly codec: CodecName
}

/** Names a claim to whoever waits for it. */
export type ClaimPlace = Pick<WorkClaim, 'runId' | 'generation' | 'step' | 'stage'>
