/** Owns who is paid next: dust and the cap leave some to wait, and nothing is planned that the hot account cannot pay. */
import type { Transfer } from '../chain/port.ts'
import type { BatchDraft, Idle, PayoutLimits } from './types.ts'

export interface PlanInput {
  epoch: number
  root: string
  owed: readonly Transfer[]
  /** Free balance of each wallet owed, in the order of `owed`. */
  balances: readonly bigint[]
  existentialDeposit: bigint
  /** Planck that batches of this epoch have paid or set aside already. */
  frozenInEpoch: bigint
  limits: Pick<PayoutLimits, 'batch' | 'epochCap' | 'least'>
}

const byAmount = (a: Transfer, b: Transfer) =>
  a.planck === b.planck ? (a.wallet < b.wallet ? -1 : 1) : a.planck > b.planck ? -1 : 1

/**
 * The next batch, the largest amounts first; null when nobody can be paid now. A wallet that does not exist yet needs the existential
 * deposit, or it would fail the whole batch.
 */
export function planBatch(input: PlanInput): { draft: BatchDraft | null; idle: Idle | null } {
  const { owed, balances, existentialDeposit, limits } = input
  const positive = owed.filter(({ planck }) => planck > 0n)
  const payable = owed
    .filter(
      ({ planck }, n) => planck > 0n && planck >= limits.least && (balances[n] ?? 0n) + planck >= existentialDeposit,
    )
    .sort(byAmount)
  let left = limits.epochCap === null ? null : limits.epochCap - input.frozenInEpoch
  const transfers: Transfer[] = []
  for (const transfer of payable) {
    if (transfers.length === limits.batch) break
    if (left !== null && transfer.planck > left) continue
    if (left !== null) left -= transfer.planck
    transfers.push(transfer)
  }
  if (transfers.length > 0)
    return { draft: { epoch: input.epoch, root: input.root, transfers, refund: null }, idle: null }
  if (payable.length > 0)
    return {
      draft: null,
      idle: {
        code: 'payout.cap',
        message: `Epoch ${input.epoch} has paid as much as one epoch may; ${payable.length} wallets wait for the next.`,
        remedy: 'Wait for the next epoch, or raise SKEIN_PAYOUT_EPOCH_CAP.',
      },
    }
  if (positive.length > 0)
    return {
      draft: null,
      idle: {
        code: 'payout.dust',
        message: `What ${positive.length} wallets are owed is too little to be sent; it is kept until it is enough.`,
        remedy: 'Nothing has to be done.',
      },
    }
  return { draft: null, idle: null }
}

/** What the hot account lacks for a batch and its fee, if it is to stay alive; null when it has enough. */
export function fundsLacking(draft: BatchDraft, fee: bigint, balance: bigint, existentialDeposit: bigint): Idle | null {
  const total = draft.transfers.reduce((sum, { planck }) => sum + planck, 0n)
  const needed = total + fee + existentialDeposit
  if (balance >= needed) return null
  return {
    code: 'payout.funds_low',
    message: `The hot account holds ${balance} planck; the next batch needs ${needed} with its fee.`,
    remedy: `Send at least ${needed - balance} planck to the hot account; payouts then go on by themselves.`,
  }
}
