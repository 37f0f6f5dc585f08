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
/** Share of the past that a smoothed point keeps: about the last ten steps. */
const SMOOTHING = 0.9

/**
 * Points in step order. Smoothing is an exponential moving average with the start-up bias divided out (as in Kingma &
 * Ba 2015), taken over every step before thinning; thinning averages neighbouring points.
 */
export function lossSeries(metrics: readonly StepMetric[], axis: XAxis): LossSeries {
  const first = metrics[0]
  const startedAt = first ? first.at - first.durationMs : 0
  const perPoint = Math.max(1, Math.ceil(metrics.length / MAX_POINTS))
  const x: number[] = []
  const raw: number[] = []
  const smooth: number[] = []
  let tokens = 0
  let average = 0
  let weight = 0
  let sum = 0
  metrics.forEach((metric, i) => {
    tokens += metric.tokens
    average = SMOOTHING * average + (1 - SMOOTHING) * metric.loss
    weight = SMOOTHING * weight + (1 - SMOOTHING)
    sum += metric.loss
    const inPoint = (i % perPoint) + 1
    if (inPoint < perPoint && i < metrics.length - 1) return
    x.push(axis === 'step' ? metric.step : axis === 'tokens' ? tokens : (metric.at - startedAt) / 1000)
    raw.push(sum / inPoint)
    smooth.push(average / weight)
    sum = 0
  })
  return { x, raw, smooth }
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
