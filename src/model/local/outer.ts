/** Owns the outer optimizer of local steps: SGD with Nesterov momentum on the lanes' mean change (DiLoCo, arXiv 2311.08105). */
import type { RunConfig } from '../../protocol/runConfig.ts'

/** Of one range of a stage, f32 each, of equal length. */
export interface OuterVectors {
  readonly parameters: Float32Array
  readonly momentum: Float32Array
}

/**
 * Moves the vectors in place by one outer step. Momentum as PyTorch's: v ← μ·v + g, θ ← θ − lr·(g + μ·v). Exact IEEE arithmetic:
 * whoever takes the step from the same mean has the same bits, momentum too, and nobody has to send it.
 * @param gradient the mean of the lanes' changes θ − θ'
 */
export function outerStep(
  { parameters, momentum }: OuterVectors,
  gradient: Float32Array,
  { lr, momentum: keep }: RunConfig['local']['outer'],
): void {
  for (let i = 0; i < parameters.length; i++) {
    momentum[i] = keep * momentum[i]! + gradient[i]!
    parameters[i]! -= lr * (gradient[i]! + keep * momentum[i]!)
  }
}
