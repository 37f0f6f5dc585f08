/** Owns the rules of the ledger: what each row does to the accounts, and which rows cannot follow what came before. */
import { fail } from '../protocol/errors.ts'
import type { EntryOf, LedgerEntry, LedgerRow, SealRow } from '../protocol/ledger.ts'
import { dayOf, deviceOf, merge, shareOf, walletOf } from './accounts.ts'
import type { Account, Conviction, Device, LedgerState, Lot, Progress } from './accounts.ts'
import { canonicalJson } from './canonicalJson.ts'
import { leafBodies, sealEntry } from './leaves.ts'
import type { LeafBody } from './leaves.ts'
import type { Sha256 } from './sha256.ts'

/**
 * Credit can be voided until the second seal after it was earned, or until it is paid: a volunteer knows when it is theirs, and
 * nobody has to remember every row for ever.
 */
export const VOIDABLE_SEALS = 2
/** Days, seals and payouts that an account's view goes back. */
const DAYS_KEPT = 366
const MARKS_KEPT = 8
const REMEDY = 'The rows before it are sound; whoever wrote this one broke the rules of the ledger.'

type Effect = () => void

/**
 * Checks an entry against everything before it and returns what it does; nothing has changed until that is called. The row's
 * place in the chain is not looked at.
 * @throws SkeinError `ledger.*` naming the rule that the entry breaks
 */
export function effectOf(sha256: Sha256, state: LedgerState, entry: LedgerEntry, seq: number, at: number): Effect {
  switch (entry.kind) {
    case 'work': {
      const progress = progressAfter(state, entry)
      return () => {
        state.progress.set(entry.run, progress)
        progress.claimed.add(claimOf(entry))
        earn(state, entry, seq, at)
      }
    }
    case 'standby':
    case 'audit':
      return () => earn(state, entry, seq, at)
    case 'bind':
      return () => bind(state, entry, seq)
    case 'revoke': {
      const device = state.devices.get(entry.device)
      if (!device?.wallet)
        return fail('ledger.not_bound', `Device ${entry.device} is bound to no wallet and cannot be revoked.`, REMEDY)
      return () => release(state, device)
    }
    case 'conviction': {
      const parts = partsToVoid(state, entry)
      return () => convict(state, entry, parts, seq, at)
    }
    case 'waiver':
      return () => waive(state, entry)
    case 'price':
      return () => void state.prices.set(entry.run, BigInt(entry.planckPerPflop))
    case 'seal': {
      const bodies = checkSeal(sha256, state, entry)
      return () => seal(state, entry, bodies)
    }
    case 'payout': {
      const account = checkPayout(state, entry)
      return () => pay(state, account, entry, seq, at)
    }
  }
}

/** Applies a row that continues the chain; its hash is the caller's to check. @throws SkeinError `ledger.*` */
export function applyRow(sha256: Sha256, state: LedgerState, row: LedgerRow): void {
  const { seq, at, entry, hash } = row
  effectOf(sha256, state, entry, seq, at)()
  if (entry.kind === 'seal') state.seals.push(row as SealRow)
  state.head = { seq, at, hash }
}

const claimOf = ({ stage, device }: EntryOf<'work'>) => `${stage}:${device}`

/** A step of a generation is claimed once by each device and stage; what comes later is a later step or generation. */
function progressAfter(state: LedgerState, entry: EntryOf<'work'>): Progress {
  const { run, generation, step } = entry
  const now = state.progress.get(run)
  if (!now || generation > now.generation || (generation === now.generation && step > now.step))
    return { generation, step, claimed: new Set() }
  if (generation === now.generation && step === now.step && !now.claimed.has(claimOf(entry))) return now
  const what = `step ${step} of generation ${generation} of run ${run}`
  return fail(
    'ledger.work_repeated',
    `Device ${entry.device} claims ${what} in stage ${entry.stage}, which is past or was claimed before.`,
    REMEDY,
  )
}

function earn(state: LedgerState, entry: EntryOf<'work' | 'standby' | 'audit'>, seq: number, at: number): void {
  const { run, step } = entry
  const credit = BigInt(entry.credit)
  if (credit === 0n) return
  const device = deviceOf(state, entry.device)
  const account = device.wallet ?? device.own
  const price = state.prices.get(run) ?? 0n
  const share = shareOf(account, run)
  share.earned += credit
  share.value += credit * price
  account.earned += credit
  if (entry.kind !== 'work') account[entry.kind] += credit
  device.earned += credit
  state.credit += credit
  state.earnedIn.set(run, (state.earnedIn.get(run) ?? 0n) + credit)
  const day = dayOf(at)
  const sofar = account.days.get(day)
  account.days.set(day, (sofar ?? 0n) + credit)
  // Days come in order but for those that a binding brought along, which are earlier.
  if (sofar === undefined && account.days.size > DAYS_KEPT) account.days.delete(Math.min(...account.days.keys()))
  device.lots.push({ seq, run, step, price, credit, voided: 0n, account, since: seq })
}

function bind(state: LedgerState, entry: EntryOf<'bind'>, seq: number): void {
  const device = deviceOf(state, entry.device)
  const wallet = walletOf(state, entry.wallet)
  release(state, device)
  const own = (lot: Lot) => {
    if (lot.account !== device.own) return
    lot.account = wallet
    lot.since = seq
  }
  device.lots.forEach(own)
  for (const { parts } of device.convictions) for (const { lot } of parts) own(lot)
  merge(device.own, wallet)
  device.wallet = wallet
  const devices = state.bound.get(wallet)
  if (devices) devices.add(device)
  else state.bound.set(wallet, new Set([device]))
}

function release(state: LedgerState, device: Device): void {
  if (device.wallet) state.bound.get(device.wallet)?.delete(device)
  device.wallet = null
}

/** What of the device's credit in the run from one step to another, both included, a conviction can still void. */
export function voidable(
  state: LedgerState,
  window: { device: string; run: string; fromStep: number; toStep: number },
): Lot[] {
  const { device, run, fromStep, toStep } = window
  return (state.devices.get(device)?.lots ?? []).filter(
    (lot) =>
      lot.run === run &&
      lot.step >= fromStep &&
      lot.step <= toStep &&
      lot.credit > lot.voided &&
      lot.since > lot.account.paidThrough,
  )
}

function partsToVoid(state: LedgerState, entry: EntryOf<'conviction'>): Conviction['parts'] {
  const asked = BigInt(entry.credit)
  let left = asked
  const parts: Conviction['parts'] = []
  for (const lot of voidable(state, entry)) {
    if (left === 0n) break
    const rest = lot.credit - lot.voided
    const credit = rest < left ? rest : left
    parts.push({ lot, credit })
    left -= credit
  }
  if (left === 0n) return parts
  return fail(
    'ledger.void_exceeds',
    `Of device ${entry.device} in steps ${entry.fromStep} to ${entry.toStep} of run ${entry.run} at most ${asked - left} of credit can be voided, not ${asked}.`,
    'Void only what is neither paid nor older than two seals.',
  )
}

/** Takes credit out of the accounts that hold it, or with a negative sign gives it back. */
function shift(state: LedgerState, device: Device, { lot, credit }: Conviction['parts'][number], sign: 1n | -1n): void {
  const change = credit * sign
  const share = shareOf(lot.account, lot.run)
  share.voided += change
  share.value -= change * lot.price
  lot.account.voided += change
  lot.voided += change
  device.voided += change
  state.credit -= change
}

function convict(
  state: LedgerState,
  entry: EntryOf<'conviction'>,
  parts: Conviction['parts'],
  seq: number,
  at: number,
) {
  const { kind: _, ...same } = entry
  const device = deviceOf(state, entry.device)
  for (const part of parts) shift(state, device, part, 1n)
  device.convictions.push({ ...same, seq, at, credit: BigInt(entry.credit), waived: false, parts })
}

function waive(state: LedgerState, { device: id, since: from = 0 }: EntryOf<'waiver'>): void {
  const since = id === null ? (state.seals.at(-1)?.seq ?? 0) : 0
  const devices = id === null ? state.devices.values() : [deviceOf(state, id)]
  for (const device of devices)
    for (const conviction of device.convictions) {
      if (conviction.waived || conviction.seq <= since || conviction.at < from) continue
      for (const part of conviction.parts) shift(state, device, part, -1n)
      conviction.waived = true
      conviction.parts = []
    }
}

/** A seal is a function of the rows before it but for the clock. */
function checkSeal(sha256: Sha256, state: LedgerState, entry: EntryOf<'seal'>): LeafBody[] {
  const { unit, clock } = entry
  const bodies = leafBodies(state)
  const due = sealEntry(sha256, state, bodies, { unit, clock })
  for (const field of ['epoch', 'first', 'last', 'accounts', 'credit', 'root'] as const)
    if (entry[field] !== due[field])
      fail(
        `ledger.seal_${field}`,
        `Epoch ${entry.epoch} is sealed with ${field} ${entry[field]}; the rows before it give ${due[field]}.`,
        REMEDY,
      )
  const before = state.seals.at(-1)?.entry
  if (before?.unit === unit && clock <= before.clock)
    fail(
      'ledger.seal_clock',
      `Epoch ${entry.epoch} is sealed at ${unit} ${clock}, the one before at ${before.clock}.`,
      REMEDY,
    )
  return bodies
}

function seal(state: LedgerState, { epoch }: EntryOf<'seal'>, bodies: readonly LeafBody[]): void {
  const kept = state.seals.at(-(VOIDABLE_SEALS - 1))?.entry.last ?? 0
  for (const device of state.devices.values()) {
    if (device.lots.length === 0) continue
    const first = device.lots.findIndex((lot) => lot.seq > kept)
    device.lots = first < 0 ? [] : device.lots.slice(first)
  }
  for (const account of state.accounts.values()) account.leaf = null
  for (const body of bodies) {
    const account = state.accounts.get(body.account)!
    account.leaf = canonicalJson(body)
    const mark = { epoch, credit: account.earned - account.voided, worth: BigInt(body.worth) }
    const last = account.marks.at(-1)
    if (last?.credit !== mark.credit || last.worth !== mark.worth)
      account.marks = [...account.marks, mark].slice(-MARKS_KEPT)
    if (mark.worth > account.ceiling) account.ceiling = mark.worth
  }
}

function checkPayout(state: LedgerState, entry: EntryOf<'payout'>): Account {
  const { epoch, wallet, planck, extrinsic } = entry
  if (epoch > state.seals.length)
    fail('ledger.payout_unsealed', `Wallet ${wallet} is paid for epoch ${epoch}, which is not sealed.`, REMEDY)
  const account = state.accounts.get(`wallet:${wallet}`)
  if (account?.payouts.has(extrinsic))
    fail(
      'ledger.payout_repeated',
      `What extrinsic ${extrinsic} paid wallet ${wallet} is in the ledger already.`,
      REMEDY,
    )
  const limit = account ? payable(account, epoch) : 0n
  if (account && account.paid + BigInt(planck) <= limit) return account
  const owed = limit - (account?.paid ?? 0n)
  return fail('ledger.payout_exceeds', `Wallet ${wallet} is paid ${planck} planck and is owed ${owed}.`, REMEDY)
}

/**
 * What all payouts to an account may add up to with one for `epoch`: the most that it was worth from that seal on. A batch is
 * frozen at its seal, so credit voided afterwards makes a debt; and a later epoch's batch can be in a block first.
 */
function payable({ marks, ceiling }: Account, epoch: number): bigint {
  const from = marks.findLastIndex((mark) => mark.epoch <= epoch)
  if (from < 0) return ceiling
  return marks.slice(from).reduce((most, { worth }) => (worth > most ? worth : most), 0n)
}

function pay(state: LedgerState, account: Account, entry: EntryOf<'payout'>, seq: number, at: number): void {
  const { epoch, planck, block, extrinsic } = entry
  account.paid += BigInt(planck)
  account.payouts.set(extrinsic, { epoch, planck, block, extrinsic, seq, at })
  account.paidThrough = Math.max(account.paidThrough, state.seals[epoch - 1]!.entry.last)
  const mark = account.marks.findLast((one) => one.epoch <= epoch)
  if (mark && mark.credit > account.paidCredit) account.paidCredit = mark.credit
}
