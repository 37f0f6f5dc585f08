/** Owns the chain port: what the server asks of a Substrate chain, whichever node or library answers. */

import type { RemarkPayload } from '../../src/protocol/wallet.ts'

/** Lower-case hex with `0x`, as chains write hashes and extrinsics. */
export type Hex = `0x${string}`
/** A public key (32 bytes) in lower-case hex without `0x`. */
export type WalletId = string

/** An extrinsic that is to be signed, as a wallet is given it; none of it has been checked but its shape. */
export interface ReadPayload {
  readonly signer: WalletId
  readonly genesis: Hex
  readonly specVersion: number
  readonly transactionVersion: number
  /** Such as `system.remark`. */
  readonly call: string
  /** What is remarked; null of any other call. */
  readonly remark: Uint8Array | null
  /** What the key signs. */
  readonly signed: Uint8Array
}

export interface BlockRef {
  readonly number: number
  readonly hash: Hex
}

/** What stays the same as long as a chain is the same chain. */
export interface ChainInfo {
  readonly name: string
  readonly genesis: Hex
  /** SS58 prefix of its addresses. */
  readonly prefix: number
  readonly decimals: number
  readonly symbol: string
  /** Planck below which an account cannot exist. */
  readonly existentialDeposit: bigint
  /** Milliseconds between blocks; null where it is not said. */
  readonly blockMs: number | null
}

export interface RuntimeVersion {
  readonly specName: string
  readonly specVersion: number
  readonly transactionVersion: number
}

export interface Transfer {
  readonly wallet: WalletId
  readonly planck: bigint
}

/** Transfers that happen together or not at all, and the 32 bytes anchored with them, in hex without `0x`. */
export interface TransferBatch {
  readonly transfers: readonly Transfer[]
  readonly root: string
  /** Gets, last of all, everything that is left, so that the sender's account ends; none for an account that goes on. */
  readonly rest?: WalletId | undefined
}

/** A transfer in a block, with who sent it and its place among the block's events. */
export interface Receipt extends Transfer {
  readonly from: WalletId
  readonly position: number
}

/** The key of one account; it signs here and shows itself to nobody. */
export interface Signer {
  readonly wallet: WalletId
  sign(payload: Uint8Array): Uint8Array
}

/** An extrinsic that chains accept in blocks `birth.number + 1` to `death - 1` and in no other. */
export interface SignedExtrinsic {
  readonly bytes: Hex
  /** BLAKE2b-256 of the bytes: what blocks are searched for. */
  readonly hash: Hex
  readonly nonce: number
  readonly birth: BlockRef
  readonly death: number
  readonly specVersion: number
}

/** What a finalized block says became of an extrinsic. */
export interface Inclusion {
  readonly block: BlockRef
  readonly index: number
  /** `System.ExtrinsicSuccess`. */
  readonly success: boolean
  /** `Utility.BatchCompleted`. */
  readonly completed: boolean
  /** `Balances.Transfer` out of the extrinsic, with who sent. */
  readonly transfers: readonly (Transfer & { readonly from: WalletId })[]
  /** Hashes in `System.Remarked`: BLAKE2b-256 of what was remarked. */
  readonly remarks: readonly Hex[]
  /** The module error of a failure, such as `balances.InsufficientBalance`. */
  readonly error: string | null
}

export type Submission = { readonly accepted: true } | { readonly accepted: false; readonly reason: string }

/** `unknown` where the node answers no dry runs. */
export type DryRun = { readonly outcome: 'ok' | 'unknown' } | { readonly outcome: 'fails'; readonly reason: string }

/**
 * Amounts are planck. Every method rejects with SkeinError `chain.unreachable` when the node does not answer in time, and may be
 * called again.
 */
export interface Chain {
  readonly info: ChainInfo
  finalized(): Promise<BlockRef>
  /** Hash of a finalized block; null above the finalized head. */
  blockHash(number: number): Promise<Hex | null>
  /** Calls back once for the present finalized head and at each later one; numbers may be skipped. */
  onFinalized(listener: (number: number) => void): Promise<() => void>
  runtimeVersion(): Promise<RuntimeVersion>
  /** Free balances at the finalized head, in the order asked for; 0 for accounts that do not exist. */
  freeBalances(wallets: readonly WalletId[]): Promise<bigint[]>
  /** The nonce after everything in blocks and, where the node tells, in its pool. */
  nextNonce(wallet: WalletId): Promise<number>
  estimateFee(batch: TransferBatch, from: WalletId): Promise<bigint>
  /** Signs `batchAll(transferKeepAlive…, transferAll to the rest, remarkWithEvent(root))`, mortal from the finalized head on. */
  sign(batch: TransferBatch, signer: Signer, nonce: number, eraBlocks: number): Promise<SignedExtrinsic>
  dryRun(bytes: Hex): Promise<DryRun>
  /** Hands bytes to the node's pool; bytes it has already are accepted. A refusal says nothing about other nodes' pools. */
  submit(bytes: Hex): Promise<Submission>
  /** Looks for an extrinsic in finalized blocks `from` to `to`, both included. */
  find(hash: Hex, from: number, to: number): Promise<Inclusion | null>
  /** Transfers to any of these wallets in a finalized block, in order; a node may have forgotten old blocks' events. */
  transfersTo(wallets: ReadonlySet<WalletId>, block: number): Promise<Receipt[]>
  addressOf(wallet: WalletId): string
  /** An extrinsic for a wallet that says `text` and that no block can ever include. */
  remarkOf(wallet: WalletId, text: string): Promise<RemarkPayload>
  /** Reads what a wallet signed by the runtime's own metadata, asking nobody; null where it is no extrinsic of this runtime. */
  readPayload(payload: RemarkPayload): ReadPayload | null
  close(): Promise<void>
}
