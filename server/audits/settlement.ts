/** Owns who may judge a claim, and what the answers say together. */
import type { TensorKind } from '../../src/audit/tolerances.ts'
import { compareEvidence } from './evidence.ts'
import type { Audit, AuditState, Juror, Party } from './types.ts'

/** The same device, or two that earn for one wallet. */
export function sameHands(a: Party, b: Party): boolean {
  return a.device === b.device || (a.wallet !== null && a.wallet === b.wallet)
}

/**
 * Everybody who may recompute, in an order that `who` in [0, 1) decides: not the accused, nobody of theirs, nobody who is
 * party to the claim, nobody shut out.
 */
export function benchOf(
  { standings }: AuditState,
  replicas: readonly Party[],
  accused: readonly Party[],
  neighbours: readonly string[],
  who: number,
  now: number,
): Party[] {
  const bench = replicas.filter(
    (party) =>
      !accused.some((one) => sameHands(one, party)) &&
      !neighbours.includes(party.device) &&
      (standings.get(party.device)?.shutUntil ?? 0) <= now,
  )
  // Fisher and Yates; the words come from a Weyl sequence through MurmurHash3's finaliser.
  let state = Math.floor(who * 2 ** 32)
  const word = () => {
    state = (state + 0x9e3779b9) >>> 0
    let h = Math.imul(state ^ (state >>> 16), 0x85ebca6b)
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
    return (h ^ (h >>> 16)) >>> 0
  }
  for (let i = bench.length - 1; i > 0; i--) {
    const j = word() % (i + 1)
    ;[bench[i], bench[j]] = [bench[j]!, bench[i]!]
  }
  return bench
}

export type Settlement =
  | { readonly type: 'passed' }
  /** Two recomputations agree: they are the truth that claim and other jurors are held against. */
  | { readonly type: 'settled'; readonly claim: Against | null; readonly falseJurors: readonly Juror[] }
  /** Another recomputation is needed. */
  | { readonly type: 'another' }
  | { readonly type: 'waiting' }

export interface Against {
  readonly kind: TensorKind
  readonly quantile: string
}

/**
 * A claim passes when the first recomputation agrees with it. Else it takes two recomputations that agree, by two hands:
 * one word against another convicts nobody, and the accused, who has an interest, is no witness against a juror.
 */
export function settle(audit: Audit): Settlement {
  const { claimed, jurors, accused, codec } = audit
  const answered = jurors.filter(({ evidence }) => evidence !== null)
  if (!claimed || answered.length === 0) return { type: 'waiting' }
  const claimant = accused[0]!.class
  const claimAgainst = (juror: Juror) =>
    compareEvidence(claimed, juror.evidence!, [claimant, juror.party.class], codec).against
  const apart = (a: Juror, b: Juror) =>
    compareEvidence(a.evidence!, b.evidence!, [a.party.class, b.party.class], codec).against
  if (answered.length === 1 && !claimAgainst(answered[0]!)) return { type: 'passed' }
  for (const [i, first] of answered.entries()) {
    const second = answered.slice(i + 1).find((juror) => !apart(first, juror))
    if (!second) continue
    const [against, alsoAgainst] = [claimAgainst(first), claimAgainst(second)]
    const falseJurors = answered.filter(
      (juror) => juror !== first && juror !== second && apart(juror, first) && apart(juror, second),
    )
    // Whoever is near one of the two is given the benefit.
    return { type: 'settled', claim: alsoAgainst && against, falseJurors }
  }
  return { type: answered.length < jurors.length ? 'waiting' : 'another' }
}
