/** Owns what the loss chart draws: metrics turned into points, smoothed, thinned and put into one sentence. */
import type { StepMetric } from '../../protocol/api.ts'
import { exact, loss } from '../words/quantities.ts'

export type XAxis = 'step' | 'tokens' | 'time'

export interface LossSeries {
  /** Steps, cumulative tokens, or seconds since the first step began. */
  readonly x: number[]
  readonly raw: number[]
  readonly smooth: number[]
}

/** More points than pixels only cost time. */
export const MAX_POINTS = 3000
/** Steps to either side that a smoothed point averages. */
const REACH = 5

/**
 * Points in step order. A smoothed point is the mean over as many steps before it as after it, so that the curve does
 * not lag; towards the ends the window shrinks. Smoothing sees every step; thinning then averages neighbours.
 */
export function lossSeries(metrics: readonly StepMetric[], axis: XAxis): LossSeries {
  const startedAt = metrics[0] ? metrics[0].at - metrics[0].durationMs : 0
  const sums = runningSums(metrics)
  const mean = (from: number, to: number) => (sums[to]! - sums[from]!) / (to - from)
  const perPoint = Math.max(1, Math.ceil(metrics.length / MAX_POINTS))
  const x: number[] = []
  const raw: number[] = []
  const smooth: number[] = []
  let tokens = 0
  metrics.forEach((metric, i) => {
    tokens += metric.tokens
    const last = i === metrics.length - 1
    const inPoint = (i % perPoint) + 1
    if (inPoint < perPoint && !last) return
    x.push(axis === 'step' ? metric.step : axis === 'tokens' ? tokens : (metric.at - startedAt) / 1000)
    raw.push(mean(i + 1 - inPoint, i + 1))
    const reach = Math.min(REACH, i, metrics.length - 1 - i)
    smooth.push(mean(i - reach, i + reach + 1))
  })
  return { x, raw, smooth }
}

/** `sums[i]` is the sum of the first i losses. */
function runningSums(metrics: readonly StepMetric[]): Float64Array {
  const sums = new Float64Array(metrics.length + 1)
  metrics.forEach((metric, i) => (sums[i + 1] = sums[i]! + metric.loss))
  return sums
}

/** The curve in a sentence, for those who cannot see it. */
export function lossSummary(metrics: readonly StepMetric[], best: StepMetric | null): string {
  const first = metrics[0]
  const last = metrics.at(-1)
  if (!first || !last || !best) return 'No step has been committed yet.'
  if (first === last) return `Loss ${loss(last.loss)} nats after step ${exact(last.step)}.`
  return (
    `Loss went from ${loss(first.loss)} at step ${exact(first.step)} to ${loss(last.loss)} nats at step ` +
    `${exact(last.step)}; the lowest was ${loss(best.loss)} at step ${exact(best.step)}.`
  )
}

/** At most `rows` metrics spread evenly, always with the first and the last: the chart as a table. */
export function tableRows(metrics: readonly StepMetric[], rows: number): StepMetric[] {
  if (metrics.length <= rows) return [...metrics]
  const every = (metrics.length - 1) / (rows - 1)
  return Array.from({ length: rows }, (_, i) => metrics[Math.round(i * every)]!)
}
