/** Owns who gets what is left at the address of a run that has ended: the account that pays what was earned, senders the rest. */
import type { Transfer, WalletId } from '../chain/port.ts'

/** A run that has ended, and what was earned in it, in planck. */
export interface EndedRun {
  readonly runId: string
  readonly wallet: WalletId
  readonly spent: bigint
}

export interface RefundInput {
  /** Free balance of the address. */
  readonly balance: bigint
  /** Planck of what was earned that are still at the address: the account that pays has paid, or will pay, them. */
  readonly due: bigint
  readonly fee: bigint
  readonly hot: WalletId
  /** Who sent how much, each once. */
  readonly senders: readonly Transfer[]
  /** Free balance of each sender, in their order. */
  readonly balances: readonly bigint[]
  readonly existentialDeposit: bigint
}

/** Transfers of exact amounts, and who gets all that these and the fee leave, so that nothing stays at the address. */
export interface RefundPlan {
  readonly transfers: Transfer[]
  readonly rest: WalletId
}

/**
 * What was not earned goes back to its senders in proportion to what each sent, rounded down; the one that sent most gets the
 * rest, and bears the fee. A part below the existential deposit cannot be sent to an account that is not there: it goes with the
 * rest. Where all that could go back is below it, nothing does, and everything goes to the account that pays.
 * @returns null where there is nothing that the fee would leave, or where nobody is known to have sent what should go back
 */
export function planRefund(input: RefundInput): RefundPlan | null {
  const { balance, due, fee, hot, senders, balances, existentialDeposit } = input
  if (balance <= fee + existentialDeposit) return null
  const back = balance - due - fee
  if (back < existentialDeposit) return { transfers: [], rest: hot }
  const sent = senders.reduce((sum, { planck }) => sum + planck, 0n)
  if (sent === 0n) return null
  const most = senders.reduce((largest, sender) => (sender.planck > largest.planck ? sender : largest))
  const amounts = new Map<WalletId, bigint>()
  if (due > 0n) amounts.set(hot, due)
  let left = back
  for (const [i, { wallet, planck }] of senders.entries()) {
    const part = (back * planck) / sent
    if (wallet === most.wallet || part === 0n) continue
    if (balances[i]! === 0n && part < existentialDeposit) continue
    amounts.set(wallet, (amounts.get(wallet) ?? 0n) + part)
    left -= part
  }
  // The transfers before the last one must leave the address alive.
  if (left < existentialDeposit) return { transfers: [], rest: hot }
  amounts.delete(most.wallet)
  return { transfers: [...amounts].map(([wallet, planck]) => ({ wallet, planck })), rest: most.wallet }
}
