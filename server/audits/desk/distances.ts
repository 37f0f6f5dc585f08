/** Owns how far a claim was from a recomputation, as the console and the API tell it. */
import { toleranceOf, type DeviceClass } from '../../../src/audit/tolerances.ts'
import type { AuditDistance } from '../../../src/protocol/auditApi.ts'
import { compareEvidence } from '../evidence.ts'
import type { Audit } from '../types.ts'

const QUANTILES = ['median', 'upper', 'largest'] as const

/** Of each kind of tensor the quantile that is the most of what its tolerance allows, from the last recomputation. */
export function distancesFound({ claimed, jurors, accused, codec }: Audit): AuditDistance[] {
  const juror = jurors.findLast(({ evidence }) => evidence !== null)
  if (!claimed || !juror) return []
  const classes: [DeviceClass, DeviceClass] = [accused[0]!.class, juror.party.class]
  const { distances } = compareEvidence(claimed, juror.evidence!, classes, codec)
  return Object.entries(distances).map(([kind, found]) => {
    const tensor = kind as keyof typeof distances
    const tolerance = toleranceOf(tensor, codec, classes)
    const share = (quantile: (typeof QUANTILES)[number]) => found[quantile] / tolerance[quantile]
    const quantile = QUANTILES.reduce((most, next) => (share(next) > share(most) ? next : most))
    const distance = found[quantile]
    return { tensor, quantile, distance: Number.isFinite(distance) ? distance : null, tolerance: tolerance[quantile] }
  })
}
