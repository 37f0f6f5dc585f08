/** Owns the words for audits: their verdicts, how far a claim was off, what they cost, and how a device stands. */
import type { AuditDistance, AuditsView, AuditView, StandingView } from '../../protocol/auditApi.ts'
import type { Mood } from './phase.ts'
import { exact, flops, moment } from './quantities.ts'

export function verdictWords({ verdict }: Pick<AuditView, 'verdict'>): { label: string; mood: Mood } {
  switch (verdict) {
    case 'passed':
      return { label: 'Passed', mood: 'working' }
    case 'convicted':
      return { label: 'False', mood: 'trouble' }
    case 'open':
      return { label: 'Open', mood: 'still' }
    case null:
      return { label: 'Under way', mood: 'busy' }
  }
}

const NBSP = '\u00a0'

const tensorNames: Record<AuditDistance['tensor'], string> = {
  activation: 'activation',
  inputGradient: 'gradient of the input',
  parameterGradient: 'gradient of the weights',
  update: 'update',
  loss: 'loss',
}

/** The tensor that is the most of what its tolerance allows; null before anything was compared. */
export function farthest(distances: readonly AuditDistance[]): AuditDistance | null {
  const share = ({ distance, tolerance }: AuditDistance) => (distance === null ? Infinity : distance / tolerance)
  return distances.reduce<AuditDistance | null>((most, of) => (most && share(most) >= share(of) ? most : of), null)
}

/** `0.3 % of what is allowed: gradient of the weights`. */
export function distanceWords(distances: readonly AuditDistance[]): string {
  const most = farthest(distances)
  if (!most) return '–'
  const name = tensorNames[most.tensor]
  if (most.distance === null) return `not finite: ${name}`
  const share = most.distance / most.tolerance
  if (share === 0) return `the same bits: ${name}`
  const amount = share <= 1 ? `${percent(share)} of what is allowed` : `${times(share)} times what is allowed`
  return `${amount}: ${name}`
}

const percent = (share: number) =>
  share < 0.001 ? `under 0.1${NBSP}%` : `${Number((100 * share).toPrecision(2))}${NBSP}%`
const times = (share: number) => exact(Math.round(share < 10 ? 10 * share : share) / (share < 10 ? 10 : 1))

/** What the audits of a run found and cost, in a sentence or two. */
export function totalsWords({ totals }: Pick<AuditsView, 'totals'>): string {
  const { audits, passed, convicted, open, recomputed, trained } = totals
  const found = [`${exact(passed)} passed`, `${exact(convicted)} found something false`, `${exact(open)} stayed open`]
  const underWay = audits - passed - convicted - open
  if (underWay > 0) found.push(`${exact(underWay)} ${underWay === 1 ? 'is' : 'are'} under way`)
  const cost =
    trained === null || trained === '0'
      ? flops(BigInt(recomputed))
      : `${percent(Number(BigInt(recomputed)) / Number(BigInt(trained)))} of what the run computed`
  return `${exact(audits)} ${audits === 1 ? 'claim was' : 'claims were'} audited: ${found.join(', ')}. Computing them again took ${cost}.`
}

/** How a device stands: its record, and what follows for its next claims. */
export function standingWords({ audited, passed, rate, watched, shutUntil, reason }: StandingView): string {
  if (shutUntil !== null) return `Shut out until ${moment(shutUntil)}, because of an audit: ${reason ?? 'false work'}.`
  const record =
    audited === 0 ? 'No claim of this device was audited yet.' : `Audited ${exact(audited)}, passed ${exact(passed)}.`
  const next =
    watched > 0
      ? `Its next ${watched === 1 ? 'claim is' : `${exact(watched)} claims are`} audited for sure.`
      : `Of its claims ${percent(rate)} are audited now; that falls as more are passed.`
  return `${record} ${next}`
}
