/** Owns the outer optimizer of local steps: SGD with Nesterov momentum on the lanes' mean change (DiLoCo, arXiv 2311.08105). */
import { decodeGroups, encodeGroups } from '../../codec/groups.ts'
import type { RunConfig } from '../../protocol/runConfig.ts'

/** Of one range of a stage, f32 each, of equal length. */
export interface OuterVectors {
  readonly parameters: Float32Array
  readonly momentum: Float32Array
  /** What the changes so far lacked of those that were due, since they travel in few bits; it goes into the next. */
  readonly residual: Float32Array
}

/**
 * Moves the vectors by one outer step, the parameters by exactly what the returned bytes say: whoever holds the parameters of
 * the step before and {@link takeChange}s them has the same bits. Momentum as PyTorch's: v ← μ·v + g, θ ← θ − lr·(g + μ·v).
 *
 * @param sum the lanes' changes θ − θ', summed @param scale one over the number of lanes
 */
export function outerStep(
  { parameters, momentum, residual }: OuterVectors,
  sum: Float32Array,
  { lr, scale }: { readonly lr: number; readonly scale: number },
  { outer, mergeCodec }: RunConfig['local'],
): Uint8Array<ArrayBuffer> {
  const change = new Float32Array(sum.length)
  for (let i = 0; i < sum.length; i++) {
    const gradient = sum[i]! * scale
    momentum[i] = outer.momentum * momentum[i]! + gradient
    change[i] = residual[i]! - lr * (gradient + outer.momentum * momentum[i]!)
  }
  const bytes = encodeGroups(mergeCodec, change, null)
  const sent = takeChange(parameters, bytes, { mergeCodec })
  for (let i = 0; i < sum.length; i++) residual[i] = change[i]! - sent[i]!
  return bytes
}

/** Adds an encoded change to the parameters in place; returns it. */
export function takeChange(
  parameters: Float32Array,
  bytes: Uint8Array,
  { mergeCodec }: Pick<RunConfig['local'], 'mergeCodec'>,
): Float32Array<ArrayBuffer> {
  const change = decodeGroups(mergeCodec, bytes, parameters.length)
  for (let i = 0; i < parameters.length; i++) parameters[i]! += change[i]!
  return change
}
