/** Owns the sentence in which the console tells what a row of the ledger says. */
import type { EntryOf, LedgerEntry } from '../../protocol/ledger.ts'
import { short } from './credit.ts'
import { exact } from './quantities.ts'

export const entryLabels: Record<LedgerEntry['kind'], string> = {
  work: 'Work',
  standby: 'Standby',
  audit: 'Audit',
  bind: 'Bound',
  revoke: 'Revoked',
  conviction: 'Conviction',
  waiver: 'Waiver',
  price: 'Price',
  seal: 'Seal',
  payout: 'Payout',
}

/** The credit that a row is about, in FLOPs; null where it is about none. */
export function entryCredit(entry: LedgerEntry): bigint | null {
  return 'credit' in entry ? BigInt(entry.credit) : null
}

/** Stages are counted from 1, as everywhere on the pages; money is in planck, which every chain has. */
export function entryWords(entry: LedgerEntry): string {
  switch (entry.kind) {
    case 'work':
      return `${exact(entry.microbatches)} ${entry.microbatches === 1 ? 'microbatch' : 'microbatches'} of ${placeOf(entry)}`
    case 'standby':
      return `through ${placeOf(entry)}`
    case 'audit':
      return `a recomputation for ${placeOf(entry)}`
    case 'bind':
      return `device ${short(entry.device)} earns for wallet ${short(entry.wallet)}`
    case 'revoke':
      return `device ${short(entry.device)} no longer earns for its wallet`
    case 'conviction':
      return `device ${short(entry.device)}, ${stepsWords(entry)} of run ${entry.run}: ${entry.reason}`
    case 'waiver':
      return entry.device === null
        ? `all that was voided since the last seal is given back: ${entry.reason}`
        : `what was voided of device ${short(entry.device)} is given back: ${entry.reason}`
    case 'price':
      return `a PFLOP of run ${entry.run} is worth ${exact(BigInt(entry.planckPerPflop))} planck from here on`
    case 'seal':
      return `epoch ${exact(entry.epoch)}: rows ${exact(entry.first)}–${exact(entry.last)}, ${exact(entry.accounts)} ${
        entry.accounts === 1 ? 'account' : 'accounts'
      }`
    case 'payout':
      return `${exact(BigInt(entry.planck))} planck to wallet ${short(entry.wallet)} for epoch ${exact(
        entry.epoch,
      )}, in block ${short(entry.block)}`
  }
}

/** `step 12`, `steps 12–15`. */
export function stepsWords({ fromStep, toStep }: Pick<EntryOf<'conviction'>, 'fromStep' | 'toStep'>): string {
  return fromStep === toStep ? `step ${exact(fromStep)}` : `steps ${exact(fromStep)}–${exact(toStep)}`
}

function placeOf({ run, step, stage, device }: EntryOf<'work' | 'standby' | 'audit'>): string {
  return `step ${exact(step)}, stage ${stage + 1} of run ${run}, device ${short(device)}`
}
