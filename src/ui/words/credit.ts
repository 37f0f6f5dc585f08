/** Owns the words for credit: the states it goes through, what each means here and now, and how ids are shortened. */
import type { AccountView, LedgerView } from '../../protocol/ledgerApi.ts'
import { STANDBY_PERCENT } from '../../protocol/payment.ts'
import { exact, flops, span } from './quantities.ts'

export type CreditState = 'pending' | 'verified' | 'paid' | 'voided'

export const creditStateLabels: Record<CreditState, string> = {
  pending: 'Pending',
  verified: 'Verified',
  paid: 'Paid',
  voided: 'Voided',
}

/** What decides where credit goes from here. */
export interface CreditContext {
  /** The device earns for a wallet. */
  bound: boolean
  epochLength: LedgerView['epochLength'] | null
  /** Whether this server pays on a chain; null while that is not known. */
  pays: boolean | null
}

/** `every hour`, `every 600 finalized blocks`. */
export function epochWords({ unit, length }: LedgerView['epochLength']): string {
  if (unit === 'block') return length === 1 ? 'every finalized block' : `every ${exact(length)} finalized blocks`
  return length === 3_600_000 ? 'every hour' : `every ${span(length)}`
}

/** One sentence or two on a state: what has happened, and what comes next. */
export function creditSentence(state: CreditState, { bound, epochLength, pays }: CreditContext): string {
  switch (state) {
    case 'pending':
      return `Accepted in committed steps. It is verified when the epoch is sealed${
        epochLength ? `, ${epochWords(epochLength)}` : ''
      }.`
    case 'verified':
      if (pays === false)
        return 'Sealed under the root of an epoch. Nothing is paid on this server: it has no chain configured.'
      if (!bound) return 'Sealed under the root of an epoch. Connect a wallet, and it is the wallet’s.'
      return 'Sealed under the root of an epoch. Where its run has a price, it waits for the next payout.'
    case 'paid':
      return 'Transferred to the wallet, in a finalized block.'
    case 'voided':
      return 'Taken back, for the reasons given below.'
  }
}

/** What of the credit is not for microbatches of a step; empty where all is. */
export function extraWords({ standby, audit }: Pick<AccountView['credit'], 'standby' | 'audit'>): string {
  const parts: string[] = []
  if (standby !== '0')
    parts.push(`${flops(BigInt(standby))} for standing by, at ${STANDBY_PERCENT} % of a member’s credit at most`)
  if (audit !== '0') parts.push(`${flops(BigInt(audit))} for computing again what others had claimed`)
  return parts.length === 0 ? '' : `Of it, ${parts.join(', and ')}.`
}

/** The beginning and the end of a key or a hash, enough to tell it from others: `5f0c19ab…71e2`. */
export function short(id: string): string {
  return id.length <= 16 ? id : `${id.slice(0, 8)}…${id.slice(-4)}`
}
