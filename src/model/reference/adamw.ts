/** Owns the reference AdamW (Loshchilov & Hutter 2019, with PyTorch's order of operations) and clipping by global norm. */

export interface AdamWParameters {
  readonly lr: number
  readonly beta1: number
  readonly beta2: number
  readonly eps: number
  /** Zero for tensors that take no decay. */
  readonly weightDecay: number
  /** From 1. */
  readonly step: number
}

/** One update in place of a tensor and its two moments. */
export function adamw(
  parameter: Float64Array,
  gradient: Float64Array,
  firstMoment: Float64Array,
  secondMoment: Float64Array,
  { lr, beta1, beta2, eps, weightDecay, step }: AdamWParameters,
): void {
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i]!
    const m = (firstMoment[i] = beta1 * firstMoment[i]! + (1 - beta1) * g)
    const v = (secondMoment[i] = beta2 * secondMoment[i]! + (1 - beta2) * g * g)
    const mHat = m / (1 - beta1 ** step)
    const vHat = v / (1 - beta2 ** step)
    parameter[i] = parameter[i]! * (1 - lr * weightDecay) - (lr * mHat) / (Math.sqrt(vHat) + eps)
  }
}

/** The norm of all gradients taken as one vector. */
export function globalNorm(gradients: Iterable<Float64Array>): number {
  let squares = 0
  for (const gradient of gradients) for (const g of gradient) squares += g * g
  return Math.sqrt(squares)
}

/** What to multiply gradients by so that their norm is at most `limit` (0: no limit); PyTorch's 1e-6 included. */
export function clipScale(norm: number, limit: number): number {
  return limit > 0 ? Math.min(1, limit / (norm + 1e-6)) : 1
}
