/** Owns the outer optimizer of local steps: SGD with Nesterov momentum on the lanes' mean change (DiLoCo, arXiv 2311.08105). */
import { decodeGroups, type Dither, encodeGroups, type Kept } from '../../codec/groups.ts'
import type { RunConfig } from '../../protocol/runConfig.ts'

/** Of one range of a stage, f32 each, of equal length. */
export interface OuterVectors {
  readonly parameters: Float32Array
  readonly momentum: Float32Array
  /** Those from which lanes begin, packed; null where they begin from zeros. */
  readonly laneMoments: Float32Array | null
}

/**
 * The mean of the lanes' changes θ − θ', and behind it of their moments where they are shared, encoded: what the outer
 * step takes for a gradient.
 * @param sum of all lanes @param scale one over the number of lanes
 */
export function encodeMean(
  sum: Float32Array,
  scale: number,
  { mergeCodec }: Pick<RunConfig['local'], 'mergeCodec'>,
  dither: Dither,
  kept: Kept | null = null,
): Uint8Array<ArrayBuffer> {
  return encodeGroups(
    mergeCodec,
    sum.map((value) => value * scale),
    dither,
    kept,
  )
}

/**
 * Moves the vectors in place by one outer step from an encoded mean; the lanes' moments become theirs of the mean. Momentum as
 * PyTorch's: v ← μ·v + g, θ ← θ − lr·(g + μ·v).
 * Every replica takes the step from the same bytes in exact IEEE arithmetic, so that all have the same bits, momentum too, and
 * nobody has to send it.
 * @param dither what the mean was encoded with
 */
export function outerStep(
  { parameters, momentum, laneMoments }: OuterVectors,
  mean: Uint8Array,
  { outer: { lr, momentum: keep }, mergeCodec }: RunConfig['local'],
  dither: Dither,
): void {
  const { length } = parameters
  const gradient = decodeGroups(mergeCodec, mean, laneMoments ? 2 * length : length, dither)
  laneMoments?.set(gradient.subarray(length))
  for (let i = 0; i < length; i++) {
    momentum[i] = keep * momentum[i]! + gradient[i]!
    parameters[i]! -= lr * (gradient[i]! + keep * momentum[i]!)
  }
}
