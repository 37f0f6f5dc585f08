/** Owns what an included extrinsic means for its batch. */
import type { Inclusion, WalletId } from '../chain/port.ts'
import type { Batch } from './types.ts'

export type Verdict = { kind: 'paid' } | { kind: 'failed' | 'disputed'; reason: string }

/**
 * Paid means: the extrinsic succeeded, the batch completed, and the hot account's transfers are the batch's, to the last unit. A
 * `batchAll` that failed has moved nothing. Anything else is no case the runtime knows, and is not for a program to settle.
 */
export function verdictOf(batch: Batch, inclusion: Inclusion): Verdict {
  if (!inclusion.success && inclusion.error !== null && inclusion.transfers.length === 0)
    return {
      kind: 'failed',
      reason: `The chain refused the batch in block ${inclusion.block.number}: ${inclusion.error}.`,
    }
  if (!inclusion.success || !inclusion.completed)
    return { kind: 'disputed', reason: 'The extrinsic is in a block, and its events do not say how it ended.' }
  const sent = new Map<WalletId, bigint>()
  for (const { from, wallet, planck } of inclusion.transfers)
    if (from === batch.hot) sent.set(wallet, (sent.get(wallet) ?? 0n) + planck)
  const rest = batch.refund?.rest
  // What is left is known to the chain alone.
  if (rest !== undefined && (sent.get(rest) ?? 0n) > 0n) sent.delete(rest)
  const exact =
    sent.size === batch.transfers.length && batch.transfers.every(({ wallet, planck }) => sent.get(wallet) === planck)
  if (exact) return { kind: 'paid' }
  return { kind: 'disputed', reason: 'The extrinsic succeeded, and its transfers are not those of the batch.' }
}
