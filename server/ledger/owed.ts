/** Owns what a payout batch may pay: what each wallet's sealed and still accepted credit is worth, less what it got. */
import type { LedgerState } from '../../src/ledger/accounts.ts'
import { worthOf } from '../../src/ledger/accounts.ts'
import type { SealRow } from '../../src/protocol/ledger.ts'

export interface Owed {
  seal: SealRow
  /** By wallet id; none with nothing owed. What is frozen in a batch that is not yet paid is still in here. */
  wallets: { wallet: string; planck: bigint }[]
}

export function owedAtSeal(state: LedgerState): Owed | null {
  const seal = state.seals.at(-1)
  if (!seal) return null
  const wallets: Owed['wallets'] = []
  for (const account of state.accounts.values()) {
    const sealed = account.marks.at(-1)
    if (!account.id.startsWith('wallet:') || !sealed) continue
    const now = worthOf(account)
    const planck = (sealed.worth < now ? sealed.worth : now) - account.paid
    if (planck > 0n) wallets.push({ wallet: account.id.slice('wallet:'.length), planck })
  }
  return { seal, wallets: wallets.sort((a, b) => (a.wallet < b.wallet ? -1 : 1)) }
}
