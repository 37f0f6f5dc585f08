/** Owns how a step's time is told: as spans of each node's own work, and as shares of what it did and waited for. */
import { z } from 'zod'

/** What one node tells of one step at most; what lies closest together is told as one span. */
export const MAX_SPANS = 400

/**
 * `lane`: weights of a lane, brought onto the device or updated there; `audit`: another node's claim, computed again; `merge`:
 * reading, summing and updating shards, without which the step does not end; `takeOver`: shards that others updated.
 */
export const spanKindSchema = z.enum([
  'forward',
  'backward',
  'forwardBackward',
  'lane',
  'audit',
  'merge',
  'takeOver',
  'send',
])
export type SpanKind = z.infer<typeof spanKindSchema>

const ms = z.number().min(0).max(1e9)

/** `[kind, start, length, index]` in milliseconds; `index` is a microbatch's, a lane's or a shard's, -1 where there is no single one. */
export const spanSchema = z.tuple([spanKindSchema, ms, ms, z.int().min(-1).max(0xffff_ffff)])
export type Span = z.infer<typeof spanSchema>

/** Milliseconds of a step by what a node did; they add up to the step. */
export const timeSharesSchema = z.object({
  /** Forward and backward of microbatches, also for audits, and the updates of lanes between merges. */
  compute: z.number(),
  /** Reading, summing, updating and taking over shards. */
  merge: z.number(),
  /** Tensors were on their way into links, and the device did nothing else. */
  send: z.number(),
  /** For others. */
  wait: z.number(),
})
export type TimeShares = z.infer<typeof timeSharesSchema>

export const laneTimelineSchema = z.object({
  nodeId: z.string(),
  stage: z.number(),
  /** Place among the replicas of the stage that had part in the step. */
  replica: z.number(),
  /** Microbatches that it had, and that it was let have in flight. */
  microbatches: z.number(),
  window: z.number(),
  shares: timeSharesSchema,
  /** From the step's start, by the server's clock. */
  spans: z.array(spanSchema),
})
export type LaneTimeline = z.infer<typeof laneTimelineSchema>

export const stepTimelineSchema = z.object({
  step: z.number(),
  /** Unix milliseconds. */
  startedAt: z.number(),
  /** Milliseconds until the step after it began. */
  durationMs: z.number(),
  /** By stage, then by replica: of those who told. */
  lanes: z.array(laneTimelineSchema),
  /** Who had part in the step and was asked, and has not told. */
  silent: z.number(),
})
export type StepTimeline = z.infer<typeof stepTimelineSchema>

/** The last steps of a run that were traced, oldest first. */
export const runTimelineSchema = z.object({ steps: z.array(stepTimelineSchema) })
export type RunTimeline = z.infer<typeof runTimelineSchema>

/** Whoever does two things at once is said to do the first of these. */
const PRECEDENCE = ['compute', 'merge', 'send'] as const

export function shareOf(kind: SpanKind): 'compute' | 'merge' | 'send' {
  if (kind === 'takeOver') return 'merge'
  return kind === 'merge' || kind === 'send' ? kind : 'compute'
}

/** Parts `durationMs` by what the spans say; what of them lies outside is left out. */
export function timeShares(spans: readonly Span[], durationMs: number): TimeShares {
  const edges: [at: number, share: (typeof PRECEDENCE)[number], step: 1 | -1][] = []
  for (const [kind, start, length] of spans) {
    const end = Math.min(durationMs, start + length)
    if (end > start) edges.push([start, shareOf(kind), 1], [end, shareOf(kind), -1])
  }
  edges.sort(([a], [b]) => a - b)
  const open = { compute: 0, merge: 0, send: 0 }
  const shares: TimeShares = { compute: 0, merge: 0, send: 0, wait: 0 }
  let before = 0
  for (const [at, share, step] of edges) {
    shares[PRECEDENCE.find((one) => open[one] > 0) ?? 'wait'] += at - before
    open[share] += step
    before = at
  }
  shares.wait += durationMs - before
  return shares
}
