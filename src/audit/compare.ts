/** Owns how far a claimed tensor is from a recomputed one: a ratio for each token, and what of it a tolerance looks at. */

/**
 * The distances of the rows of two tensors. Three of their quantiles are looked at: a false matrix moves the median, half of
 * the tokens left out move `upper`, one meddled token moves `largest`.
 */
export interface Distances {
  readonly median: number
  /** The 90th percentile. */
  readonly upper: number
  readonly largest: number
}

/** Rows are at least this share of the mean row long, so that one that all but vanishes makes no ratio of rounding errors. */
const SHORTEST_ROW = 0.1

/**
 * For each row `‖claimed − recomputed‖ / ‖recomputed − base‖`: how far off, in units of what the stage changes. Cosine
 * similarity would not do: a stage that hands its input on comes out at 0.9. Without `base` (gradients, and the first
 * stage, whose input is no tensor) the unit is the recomputed row's own norm. Values that are not finite in both tensors
 * are no difference, a run that diverged does so everywhere; in one alone they make the row's ratio infinite.
 *
 * Sketches of rows (`sketchRows`) may stand for the rows, since both norms survive them.
 * @throws RangeError where the tensors differ in length or are no whole rows
 */
export function rowRatios(
  claimed: Float32Array,
  recomputed: Float32Array,
  base: Float32Array | null,
  columns: number,
): Float64Array<ArrayBuffer> {
  const { length } = recomputed
  if (claimed.length !== length || (base && base.length !== length) || length % columns !== 0)
    throw new RangeError(`Tensors of ${claimed.length} and ${length} values in rows of ${columns} cannot be compared.`)
  const rows = length / columns
  const apart = new Float64Array(rows)
  const changed = new Float64Array(rows)
  let squares = 0
  for (let row = 0; row < rows; row++) {
    let [difference, change] = [0, 0]
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const [y, expected] = [claimed[i]!, recomputed[i]!]
      if (!Number.isFinite(expected)) {
        if (Number.isFinite(y)) difference = Infinity
        continue
      }
      const moved = expected - (base ? base[i]! : 0)
      difference += Number.isFinite(y) ? (y - expected) ** 2 : Infinity
      if (Number.isFinite(moved)) change += moved ** 2
    }
    apart[row] = Math.sqrt(difference)
    changed[row] = Math.sqrt(change)
    squares += change
  }
  const shortest = SHORTEST_ROW * Math.sqrt(squares / rows)
  return apart.map((difference, row) => (difference === 0 ? 0 : difference / Math.max(changed[row]!, shortest)))
}

/** The quantiles of at least one ratio. */
export function distancesOf(ratios: Float64Array): Distances {
  const sorted = ratios.toSorted()
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]!
  return { median: at(0.5), upper: at(0.9), largest: at(1) }
}

/** Which quantile is beyond what the tolerance allows; null where none is. */
export function beyond(distances: Distances, tolerance: Distances): keyof Distances | null {
  const names = ['median', 'upper', 'largest'] as const
  return names.find((name) => !(distances[name] <= tolerance[name])) ?? null
}
