/** Owns the words of payouts: batches, attempts, what happens to them and what is to be done. */
import type { Hex, Inclusion, SignedExtrinsic, Signer, Transfer, WalletId } from '../chain/port.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import type { EndedRun } from './refund.ts'

/** What a sealed epoch leaves to pay; amounts that earlier batches paid are no longer in it. */
export interface PayoutSource {
  /** The newest sealed epoch: its number and Merkle root (32 bytes in hex without `0x`); null before the first. */
  sealed(): Promise<{ epoch: number; root: string } | null>
  owed(): Promise<Transfer[]>
}

/** A row the ledger gets for each wallet of a batch that is final. */
export interface PaidEntry {
  kind: 'payout'
  epoch: number
  wallet: WalletId
  planck: string
  /** Hash of the block and of the extrinsic, in hex without `0x`. */
  block: string
  extrinsic: string
}

/** What runs that have ended leave at their addresses. */
export interface RefundSource {
  /** The newest first. */
  ended(): Promise<readonly EndedRun[]>
  /** Who sent how much to an address in blocks after `after`, each once. */
  senders(wallet: WalletId, after: number): Promise<Transfer[]>
  /** The key of a run's address. */
  signer(runId: string): Promise<Signer>
}

export interface PayoutLimits {
  /** Transfers of one batch, at most. */
  batch: number
  /** Planck that an epoch may pay in all; null for no bound. */
  epochCap: bigint | null
  /** Planck below which a wallet waits. */
  least: bigint
  /** Blocks in which a signed batch can be included. */
  eraBlocks: number
}

/** A batch before it is frozen. */
export interface BatchDraft {
  /** 0 for a refund. */
  epoch: number
  root: string
  transfers: Transfer[]
  /** What is left at the address of a run that has ended: paid by that address, to the last unit. Null for a payout. */
  refund: { run: string; from: WalletId; rest: WalletId } | null
}

/**
 * `frozen`: the amounts are set aside, signed or not. `paid`: final on chain and in the ledger. `released`: nothing was paid and nothing
 * can be any more, the amounts are owed as before. `disputed`: the chain says something that an operator has to look at.
 */
export type BatchState = 'frozen' | 'paid' | 'released' | 'disputed'

/** Bytes that may have reached a node. */
export interface Attempt extends SignedExtrinsic {
  /** 1 for the first. */
  number: number
}

export interface Batch extends BatchDraft {
  id: number
  /** The chain it is paid on; on another one nothing would be found and all be paid again. */
  genesis: Hex
  /** Who pays. */
  hot: WalletId
  /** Attempts so far, expired ones included. */
  attempts: number
  /** The attempt that can still be included; null before signing and after expiry. */
  attempt: Attempt | null
}

/** Why nothing is frozen now, though somebody may be owed something. */
export type Idle = Pick<ErrorBody, 'code' | 'message' | 'remedy'>

export type PayoutEvent =
  /** The server starts; `disputed` is the oldest batch of that state. */
  | { kind: 'opened'; batch: Batch | null; disputed: number | null; genesis: Hex }
  | { kind: 'finalized'; number: number }
  | { kind: 'planned'; draft: BatchDraft | null; idle: Idle | null }
  | { kind: 'frozen'; batch: Batch }
  | { kind: 'signed'; attempt: Attempt }
  /** A dry run says that the batch would fail as it is. */
  | { kind: 'unpayable'; reason: string }
  | { kind: 'persisted'; attempt: Attempt }
  | { kind: 'submitted'; refused: string | null }
  | { kind: 'scanned'; to: number; found: Inclusion | null; birthHash: Hex | null }
  | { kind: 'settled' | 'expired' | 'released' | 'disputed' }
  /** A command did not come to an end; whether it had an effect is not known. */
  | { kind: 'failed'; error: ErrorBody }

export type PayoutCommand =
  | { kind: 'plan' }
  | { kind: 'freeze'; draft: BatchDraft }
  | { kind: 'sign'; batch: Batch; number: number }
  | { kind: 'persist'; batch: Batch; attempt: Attempt }
  | { kind: 'submit'; bytes: Hex }
  | { kind: 'scan'; attempt: Attempt; from: number; to: number }
  | { kind: 'settle'; batch: Batch; inclusion: Inclusion }
  | { kind: 'expire'; batch: Batch; attempt: Attempt }
  | { kind: 'release'; batch: Batch; reason: string; inclusion: Inclusion | null }
  | { kind: 'dispute'; batch: Batch; reason: string; inclusion: Inclusion | null }

export interface PayoutState {
  /** Height of the chain's finalized head; null before it was heard of. */
  finalized: number | null
  /** The one batch under way: the next begins when it is paid or released. */
  batch: Batch | null
  /** What the core asked for and has not heard the end of. */
  awaiting: PayoutCommand | null
  /** Last finalized block searched for the attempt. */
  scanned: number
  /** The height at which the attempt was last handed to a node; null when it has to be, now. */
  submittedAt: number | null
  /** Height before which nothing is planned or signed. */
  notBefore: number
  /** Batches released one after another. */
  releases: number
  idle: Idle | null
  /** Why nothing is done any more until an operator has looked. */
  halted: ErrorBody | null
  /** The trouble of the last command that failed; null after one that did not. */
  trouble: ErrorBody | null
}
