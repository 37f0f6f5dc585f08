/** Owns how a step's timeline is drawn and put into words: a row a node, one outline for each kind of work in it. */
import { shareOf, type LaneTimeline, type Span, type SpanKind, type StepTimeline, type TimeShares } from '../../protocol/timeline.ts' // prettier-ignore
import { duration, exact } from '../words/quantities.ts'

/** Units of a row's drawing across; the page stretches it to its width. */
export const ACROSS = 1000
export const HIGH = 10

export const shareWords: readonly (readonly [keyof TimeShares, string])[] = [
  ['compute', 'Compute'],
  ['merge', 'Merge'],
  ['send', 'Send'],
  ['wait', 'Wait'],
]

export const kindWords: Record<SpanKind, string> = {
  forward: 'forward',
  backward: 'backward',
  forwardBackward: 'forward and backward',
  lane: 'weights',
  audit: 'audit',
  merge: 'merge',
  takeOver: 'new weights',
  send: 'send',
}

/** Drawn in this order: what is sent lies behind what the device does meanwhile. */
const ORDER: readonly SpanKind[] = [
  'send',
  'takeOver',
  'merge',
  'audit',
  'lane',
  'forward',
  'backward',
  'forwardBackward',
]

/** Narrower than this is not seen. */
const LEAST = 0.8

export interface Outline {
  kind: SpanKind
  /** An SVG path in a box of {@link ACROSS} by {@link HIGH}. */
  path: string
}

export function outlines({ spans }: Pick<LaneTimeline, 'spans'>, durationMs: number): Outline[] {
  const scale = ACROSS / durationMs
  return ORDER.flatMap((kind) => {
    const path = spans
      .filter(([one]) => one === kind)
      .map(([, start, length]) => {
        const x = (start * scale).toFixed(2)
        const width = Math.max(LEAST, length * scale).toFixed(2)
        return `M${x} 0h${width}v${HIGH}h-${width}z`
      })
      .join('')
    return path ? [{ kind, path }] : []
  })
}

/** What is drawn on top at this moment of the step; null where the node waits. */
export function spanAt(spans: readonly Span[], ms: number): Span | null {
  const there = spans.filter(([, start, length]) => start <= ms && ms < start + length)
  return there.toSorted(([a], [b]) => ORDER.indexOf(b) - ORDER.indexOf(a))[0] ?? null
}

export function spanWords(span: Span | null): string {
  if (!span) return 'waits'
  const [kind, , length, index] = span
  const what = shareOf(kind) === 'merge' ? 'shard' : kind === 'lane' ? 'lane' : 'microbatch'
  const of = index < 0 || kind === 'send' ? '' : ` of ${what} ${index + 1}`
  return `${kindWords[kind]}${of}, ${duration(length)}`
}

/** `12.3 %`: shares of a row are to add up to a hundred. */
export function sharePercent(ms: number, durationMs: number): string {
  return `${((100 * ms) / durationMs).toFixed(1)}\u00a0%`
}

/** Mean shares of all nodes of the step. */
export function meanShares({ lanes }: Pick<StepTimeline, 'lanes'>): TimeShares {
  const mean = (of: keyof TimeShares) => lanes.reduce((sum, { shares }) => sum + shares[of], 0) / lanes.length
  return { compute: mean('compute'), merge: mean('merge'), send: mean('send'), wait: mean('wait') }
}

export function timelineSummary(step: StepTimeline): string {
  const mean = meanShares(step)
  const parts = shareWords.map(([share, word]) => `${word.toLowerCase()} ${sharePercent(mean[share], step.durationMs)}`)
  const nodes = step.lanes.length === 1 ? 'one device' : `${step.lanes.length} devices`
  const silent = step.silent > 0 ? ` ${step.silent} more did not tell.` : ''
  return `Step ${exact(step.step)} took ${duration(step.durationMs)}. Of that ${nodes} spent on average: ${parts.join(', ')}.${silent}`
}
