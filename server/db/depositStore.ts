/** Owns the port of deposits: who sent what to the addresses of runs, as finalized blocks have it. */
import type { Receipt, Transfer, WalletId } from '../chain/port.ts'

export type DepositRecord = Receipt

/** One interface, several databases. All writes are durable on return, whole or not at all. */
export interface DepositStore {
  /** The last finalized block whose transfers are kept; null before the first. */
  scanned(): Promise<number | null>
  /** Keeps a block's deposits, once however often, and that it was looked at. */
  record(block: number, deposits: readonly DepositRecord[]): Promise<void>
  /** Who sent how much to an address in blocks after `after`, each once, in the order of their first transfers. */
  senders(wallet: WalletId, after: number): Promise<Transfer[]>
}
