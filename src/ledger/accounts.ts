/** Owns what the ledger's rows add up to: accounts, the devices that earn for them, and what credit is worth. */
import type { AccountId, EntryOf, SealRow } from '../protocol/ledger.ts'
import { FLOPS_PER_PFLOP } from '../protocol/payment.ts'

const DAY_MS = 86_400_000

/** An account's part in one run. */
export interface Share {
  earned: bigint
  voided: bigint
  /** Sum over the accepted credit of credit times the price it was earned at: planck times 10^15. */
  value: bigint
}

/** What an account was when an epoch was sealed. */
export interface Mark {
  epoch: number
  /** Accepted credit. */
  credit: bigint
  worth: bigint
}

export interface PayoutNote extends Omit<EntryOf<'payout'>, 'kind' | 'wallet'> {
  seq: number
  at: number
}

export interface Account {
  readonly id: AccountId
  runs: Map<string, Share>
  earned: bigint
  voided: bigint
  /** Parts of `earned`: for holding weights ready, and for computing again what others claimed. */
  standby: bigint
  audit: bigint
  /** Planck. */
  paid: bigint
  /** The most that the account was worth at any seal: what all its payouts together may not exceed. */
  ceiling: bigint
  /** Row up to which its credit is paid and can no longer be voided. */
  paidThrough: number
  /** Accepted credit at the seal of the latest epoch that was paid. */
  paidCredit: bigint
  /** By extrinsic: one pays a wallet once. */
  payouts: Map<string, PayoutNote>
  /** At the latest seals, oldest first. */
  marks: Mark[]
  /** Its leaf of the last seal without the epoch; null when it had none. */
  leaf: string | null
  /** By UTC day since 1970. */
  days: Map<number, bigint>
}

/** Credit of one row, as long as it can be voided. */
export interface Lot {
  readonly seq: number
  readonly run: string
  readonly step: number
  readonly price: bigint
  readonly credit: bigint
  voided: bigint
  account: Account
  /** Row from which `account` holds it. */
  since: number
}

export interface Conviction extends Omit<EntryOf<'conviction'>, 'kind' | 'credit'> {
  seq: number
  at: number
  credit: bigint
  waived: boolean
  parts: { lot: Lot; credit: bigint }[]
}

export interface Device {
  readonly id: string
  /** What it earned while bound to no wallet. */
  readonly own: Account
  wallet: Account | null
  earned: bigint
  voided: bigint
  lots: Lot[]
  convictions: Conviction[]
}

/** How far the work of a run has got; a row that does not go further is a repetition. */
export interface Progress {
  generation: number
  step: number
  /** `stage:device` of that step. */
  claimed: Set<string>
}

export interface LedgerState {
  /** The last row's. */
  head: { seq: number; at: number; hash: string }
  accounts: Map<AccountId, Account>
  devices: Map<string, Device>
  /** Wallet to the devices bound to it. */
  bound: Map<Account, Set<Device>>
  prices: Map<string, bigint>
  progress: Map<string, Progress>
  /** By run: all credit that was ever earned in it, voided or not. */
  earnedIn: Map<string, bigint>
  seals: SealRow[]
  /** Accepted credit of all accounts. */
  credit: bigint
}

export function emptyLedger(): LedgerState {
  return {
    head: { seq: 0, at: 0, hash: '0'.repeat(64) },
    accounts: new Map(),
    devices: new Map(),
    bound: new Map(),
    prices: new Map(),
    progress: new Map(),
    earnedIn: new Map(),
    seals: [],
    credit: 0n,
  }
}

function emptyAccount(id: AccountId): Account {
  return {
    id,
    runs: new Map(),
    earned: 0n,
    voided: 0n,
    standby: 0n,
    audit: 0n,
    paid: 0n,
    ceiling: 0n,
    paidThrough: 0,
    paidCredit: 0n,
    payouts: new Map(),
    marks: [],
    leaf: null,
    days: new Map(),
  }
}

export function walletOf(state: LedgerState, wallet: string): Account {
  const id = `wallet:${wallet}`
  let account = state.accounts.get(id)
  if (!account) state.accounts.set(id, (account = emptyAccount(id)))
  return account
}

export function deviceOf(state: LedgerState, id: string): Device {
  let device = state.devices.get(id)
  if (!device) {
    const own = emptyAccount(`device:${id}`)
    device = { id, own, wallet: null, earned: 0n, voided: 0n, lots: [], convictions: [] }
    state.accounts.set(own.id, own)
    state.devices.set(id, device)
  }
  return device
}

export function shareOf(account: Account, run: string): Share {
  let share = account.runs.get(run)
  if (!share) account.runs.set(run, (share = { earned: 0n, voided: 0n, value: 0n }))
  return share
}

/** Planck, rounded down in each run. */
export function worthOf(account: Account): bigint {
  let worth = 0n
  for (const { value } of account.runs.values()) worth += value / FLOPS_PER_PFLOP
  return worth
}

export const shareWorth = ({ value }: Share): bigint => value / FLOPS_PER_PFLOP

export function dayOf(at: number): number {
  return Math.floor(at / DAY_MS)
}

export const dayText = (day: number): string => new Date(day * DAY_MS).toISOString().slice(0, 10)

/** Moves all that `from` holds to `to`, as when a device is bound. */
export function merge(from: Account, to: Account): void {
  for (const [run, share] of from.runs) {
    const into = shareOf(to, run)
    into.earned += share.earned
    into.voided += share.voided
    into.value += share.value
  }
  for (const [day, credit] of from.days) to.days.set(day, (to.days.get(day) ?? 0n) + credit)
  to.earned += from.earned
  to.voided += from.voided
  to.standby += from.standby
  to.audit += from.audit
  from.runs = new Map()
  from.days = new Map()
  from.earned = 0n
  from.voided = 0n
  from.standby = 0n
  from.audit = 0n
}
