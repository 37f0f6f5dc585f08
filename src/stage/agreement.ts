/** Owns whether two owners of a shard updated it alike, to within what their GPUs may round differently. */
import type { RunConfig } from '../protocol/runConfig.ts'

/**
 * Differences are measured in learning rates, since both optimizers move a parameter by about one of them whatever the size
 * of its gradient. Both owners start from equal parameters and add up the same bytes in the same order; what is left is how
 * a GPU fuses multiply-adds, divides and takes roots (WGSL allows 2.5 ULP), summed up in moments that each keeps for itself:
 * some 1e-5 of a rate. Where moments are bf16, a difference in the last bit of f32 flips their rounding now and then, by 0.4 %
 * of a moment each. Where products are halves, Muon's iteration multiplies their rounding in directions that have little
 * gradient.
 *
 * A sum that lacks one of n contributors moves about every element by a tenth of a rate (1 - beta1) and more, divided by n at
 * the worst: the mean finds it. One element that was meddled with is found by the largest.
 */
function ratesApart({ optimizer, products }: Pick<RunConfig, 'optimizer' | 'products'>): number {
  if (products === 'f16' && optimizer.kind === 'muon') return 0.1
  return optimizer.moments === 'bf16' ? 0.02 : 0.002
}

/** For one element: AdamW may divide one moment that nearly cancels by another that is nearly zero. */
const LARGEST_RATES_APART = 0.25
/** Of a parameter: the rounding of its own f32, and some. */
const ROUNDING = 1e-6

/**
 * @param own what this node computed
 * @param theirs what the primary owner sent, of the same length
 * @param lr the rate of the update
 */
export function parametersAgree(
  own: Float32Array,
  theirs: Float32Array,
  lr: number,
  config: Pick<RunConfig, 'optimizer' | 'products'>,
): boolean {
  if (own.length !== theirs.length) return false
  const mean = ratesApart(config) * lr
  const largest = Math.max(LARGEST_RATES_APART * lr, 10 * mean)
  let [apart, size, count] = [0, 0, 0]
  for (let i = 0; i < own.length; i++) {
    const [a, b] = [own[i]!, theirs[i]!]
    // Diverged alike: infinities and NaN are no false sum.
    if (Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b))) continue
    const difference = Math.abs(a - b)
    if (!Number.isFinite(difference)) return false
    if (difference > 10 * ROUNDING * Math.abs(a) + largest) return false
    apart += difference * difference
    size += a * a
    count += 1
  }
  // Over all elements: where most are equal bits, as between two devices of one kind, a few may round otherwise.
  return count === 0 || Math.sqrt(apart / own.length) <= ROUNDING * Math.sqrt(size / count) + mean
}
