/** Owns what an account's page is told: pending, verified and paid, by run and by day, and why credit was voided. */
import type { AccountId } from '../protocol/ledger.ts'
import type { AccountView } from '../protocol/ledgerApi.ts'
import type { Account, Device, LedgerState } from './accounts.ts'
import { dayText, shareWorth, worthOf } from './accounts.ts'

/** Entries of each list at most. */
const LISTED = 500

const notBelowZero = (value: bigint): string => String(value > 0n ? value : 0n)

function moneyOf(account: Account | undefined): Pick<AccountView, 'credit' | 'planck'> {
  const earned = account?.earned ?? 0n
  const voided = account?.voided ?? 0n
  const accepted = earned - voided
  const worth = account ? worthOf(account) : 0n
  const paid = account?.paid ?? 0n
  const sealed = account?.marks.at(-1) ?? { credit: 0n, worth: 0n }
  // What was voided since the seal is gone, although the seal still counts it.
  const sealedCredit = sealed.credit < accepted ? sealed.credit : accepted
  const sealedWorth = sealed.worth < worth ? sealed.worth : worth
  const paidCredit = account?.paidCredit ?? 0n
  return {
    credit: {
      earned: String(earned),
      standby: String(account?.standby ?? 0n),
      audit: String(account?.audit ?? 0n),
      voided: String(voided),
      pending: String(accepted - sealedCredit),
      verified: notBelowZero(sealedCredit - paidCredit),
      paid: String(paidCredit),
    },
    planck: {
      worth: String(worth),
      pending: String(worth - sealedWorth),
      verified: notBelowZero(sealedWorth - paid),
      paid: String(paid),
    },
  }
}

/** An account that no row names yet has earned nothing: that is an answer. */
export function accountView(state: LedgerState, id: AccountId): AccountView {
  const account = state.accounts.get(id)
  const device = id.startsWith('device:') ? state.devices.get(id.slice('device:'.length)) : undefined
  const devices: Device[] = device ? [device] : account ? [...(state.bound.get(account) ?? [])] : []
  const wallet = device?.wallet?.id.slice('wallet:'.length) ?? null
  const bigger = (a: bigint, b: bigint) => (a < b ? 1 : a > b ? -1 : 0)
  return {
    account: id,
    wallet,
    epoch: account && account.leaf !== null ? state.seals.at(-1)!.entry.epoch : null,
    ...moneyOf(account),
    runs: [...(account?.runs ?? [])]
      .sort(([, a], [, b]) => bigger(a.earned, b.earned))
      .slice(0, LISTED)
      .map(([run, share]) => ({
        run,
        earned: String(share.earned),
        voided: String(share.voided),
        worth: String(shareWorth(share)),
      })),
    days: [...(account?.days ?? [])]
      .sort(([a], [b]) => b - a)
      .slice(0, LISTED)
      .map(([day, earned]) => ({ day: dayText(day), earned: String(earned) })),
    convictions: devices
      .flatMap(({ convictions }) => convictions)
      .sort((a, b) => b.seq - a.seq)
      .slice(0, LISTED)
      .map(({ parts: _, credit, ...same }) => ({ ...same, credit: String(credit) })),
    payouts: [...(account?.payouts.values() ?? [])].sort((a, b) => b.seq - a.seq).slice(0, LISTED),
    devices: devices
      .sort((a, b) => bigger(a.earned, b.earned))
      .slice(0, LISTED)
      .map(({ id: hex, earned, voided }) => ({ device: hex, earned: String(earned), voided: String(voided) })),
  }
}
