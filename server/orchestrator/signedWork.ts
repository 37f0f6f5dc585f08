/** Owns the words of what is signed for: the receipts of a step as they come, who contradicts whom, and what it all earns. */
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { Digest, EarnedCredit, ReceiptEntry } from '../../src/protocol/receipt.ts'

/** What a node signed about one version of its leases. */
export interface ReceiptBook {
  readonly device: string
  readonly version: number
  /** Why none of it counts. */
  refused: ErrorBody | null
  /** One came that was of other work than this. */
  stale: boolean
  /** `hash` is what the ledger names a receipt by; `places` are those of its microbatches in the round. */
  readonly receipts: { readonly hash: string; readonly places: readonly number[] }[]
  readonly entries: Map<number, ReceiptEntry<Digest>>
  /** Digests of its shares of the gradient sum, by shard; empty before a receipt, and where nobody takes them. */
  shares: readonly Digest[]
}

/** Two devices that say different things of one tensor, both under their signatures. */
export interface Dispute {
  /** Between this stage and the next. */
  readonly boundary: number
  readonly direction: 'activation' | 'gradient'
  readonly microbatch: number
  readonly maker: string
  readonly taker: string
}

/** What a step's work earns, and what of it not. */
export interface Settlement {
  readonly work: EarnedCredit[]
  readonly refused: { device: string; stage: number; microbatches: number; error: ErrorBody }[]
  readonly disputes: Dispute[]
  /** Tensors that maker and taker name alike, and those that only one of them names. */
  attested: number
  unattested: number
}
