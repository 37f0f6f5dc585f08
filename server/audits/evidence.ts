/** Owns whether two parties' evidence of one piece of work agrees, to within what their kinds of devices may differ. */
import { beyond, distancesOf, rowRatios, type Distances } from '../../src/audit/compare.ts'
import { GRADIENT_WIDTH, ROW_WIDTH } from '../../src/audit/sketch.ts'
import { TENSOR_KINDS, toleranceOf, type DeviceClass, type TensorKind } from '../../src/audit/tolerances.ts'
import type { CodecName } from '../../src/protocol/runConfig.ts'
import type { Evidence } from './types.ts'

const WIDTHS: Readonly<Record<TensorKind, number>> = {
  activation: ROW_WIDTH,
  inputGradient: ROW_WIDTH,
  parameterGradient: GRADIENT_WIDTH,
  update: GRADIENT_WIDTH,
  loss: 1,
}

export interface Comparison {
  readonly distances: Partial<Record<TensorKind, Distances>>
  /** The first tensor that is too far off, and by which quantile; null where all agree. */
  readonly against: { readonly kind: TensorKind; readonly quantile: keyof Distances | 'shape' } | null
}

/** `recomputed` brings the input that activations are measured from; what it lacks is not compared. */
export function compareEvidence(
  claimed: Evidence,
  recomputed: Evidence,
  classes: readonly [DeviceClass, DeviceClass],
  codec: CodecName,
): Comparison {
  const distances: Partial<Record<TensorKind, Distances>> = {}
  let against: Comparison['against'] = null
  for (const kind of TENSOR_KINDS) {
    const [own, theirs] = [recomputed[kind], claimed[kind]]
    if (!own || own.length === 0) continue
    if (theirs?.length !== own.length) {
      against ??= { kind, quantile: 'shape' }
      continue
    }
    const base = kind === 'activation' && recomputed.input?.length === own.length ? recomputed.input : null
    const found = distancesOf(rowRatios(theirs, own, base, WIDTHS[kind]))
    distances[kind] = found
    const quantile = beyond(found, toleranceOf(kind, codec, classes))
    if (quantile) against ??= { kind, quantile }
  }
  return { distances, against }
}
