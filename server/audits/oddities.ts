/** Owns the cheap checks on all traffic and the attribution of losses: they raise the rate of audits and convict nobody. */
import type { AuditState, Attribution, Bound, Claim, RouteLoss } from './types.ts'

/** Tensors of a stage that are seen before one of them can be odd. */
const FEWEST_SEEN = 16
/** Norms drift as a run learns: older ones count for less. */
const MEMORY = 64
/** Spread of a norm's logarithm that is never odd, a quarter up or down being nothing: 6 of them. */
const LEAST_SPREAD = 0.04
/** Routes before a device's mean loss says anything. */
const FEWEST_ROUTES = 24

/**
 * What is odd about the claim: a tensor that is not finite, a norm outside the stage's running bounds, bytes that were sent
 * before. Takes the claim into the bounds where nothing is.
 */
export function oddityOf(state: AuditState, claim: Claim): string | null {
  const where = `${claim.run} ${claim.stage}`
  const glances = claim.glances
  const odd =
    glances.find(({ finite }) => !finite) !== undefined
      ? 'not finite'
      : (glances.map((glance) => normOddity(state, `${where} ${glance.kind}`, glance.rms)).find((found) => found) ??
        null)
  const replayed = glances.filter(({ digest }) => seenBefore(state, where, digest, claim.step)).length > 0
  if (odd || replayed) return odd ?? 'sent before'
  for (const { kind, rms } of glances) if (rms !== null) learn(state, `${where} ${kind}`, Math.log(rms))
  return null
}

function normOddity({ bounds, policy }: AuditState, key: string, rms: number | null): string | null {
  if (rms === null) return null
  if (!(rms > 0)) return 'all zero'
  const bound = bounds.get(key)
  if (!bound || bound.count < FEWEST_SEEN) return null
  const spread = Math.max(LEAST_SPREAD, Math.sqrt(bound.variance))
  return Math.abs(Math.log(rms) - bound.mean) > policy.oddNorm * spread ? 'norm out of bounds' : null
}

function learn({ bounds }: AuditState, key: string, value: number): void {
  const bound: Bound = bounds.get(key) ?? { count: 0, mean: 0, variance: 0 }
  bound.count++
  const weight = 1 / Math.min(bound.count, MEMORY)
  const apart = value - bound.mean
  bound.mean += weight * apart
  bound.variance += weight * ((1 - weight) * apart * apart - bound.variance)
  bounds.set(key, bound)
}

/** Two claims of one step may hold the same bytes: a lease that moved. Those of two steps may not. */
function seenBefore({ digests, policy }: AuditState, where: string, digest: string, step: number): boolean {
  let seen = digests.get(where)
  if (!seen) digests.set(where, (seen = new Map()))
  const before = seen.get(digest)
  if (before !== undefined) return before !== step
  seen.set(digest, step)
  if (seen.size > policy.digestMemory) seen.delete(seen.keys().next().value!)
  return false
}

/**
 * Attributes the losses of one step's microbatches to the devices on their routes, which are drawn anew each step: whoever
 * does harm has worse company everywhere (after CLASP, contribution-weighted loss attribution by sampled pathways). Returns
 * the devices whose mean excess became odd; what was attributed to them begins anew.
 */
export function attribute(state: AuditState, routes: readonly RouteLoss[]): string[] {
  const finite = routes.filter(({ loss }) => Number.isFinite(loss))
  if (finite.length < 2) return []
  const mean = finite.reduce((sum, { loss }) => sum + loss, 0) / finite.length
  const deviation = Math.sqrt(finite.reduce((sum, { loss }) => sum + (loss - mean) ** 2, 0) / (finite.length - 1))
  if (deviation === 0) return []
  const touched = new Set<string>()
  for (const { devices, loss } of finite) {
    for (const device of devices) {
      const entry: Attribution = state.attributions.get(device) ?? { sum: 0, count: 0 }
      entry.sum += (loss - mean) / deviation
      entry.count++
      state.attributions.set(device, entry)
      touched.add(device)
    }
  }
  return [...touched].filter((device) => {
    const { sum, count } = state.attributions.get(device)!
    if (count < FEWEST_ROUTES || sum / Math.sqrt(count) < state.policy.oddLoss) return false
    state.attributions.delete(device)
    return true
  })
}
