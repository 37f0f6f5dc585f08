/**
 * Owns where the time of the last steps went: it asks nodes for it, as the server's words pass by, and keeps what they tell.
 *
 * Nodes count by clocks of their own. Each step traced is an exchange of four times, from which the offset of a node's clock
 * follows as in NTP (RFC 5905, section 8): what counts is the exchange of late that was quickest.
 */
import type { ClientMessage, ServerMessage } from '../../src/protocol/control.ts'
import {
  timeShares,
  type LaneTimeline,
  type RunTimeline,
  type Span,
  type SpanKind,
  type StepTimeline,
} from '../../src/protocol/timeline.ts'
import type { Gateway } from '../control/gateway.ts'

/** Milliseconds from one traced step of a run to the next at the earliest. */
const TRACE_EVERY_MS = 2000
/** Nodes that are asked about one step, spread over the stages. */
const MOST_ASKED = 64
/** Steps kept of each run, spans kept of all, and nodes whose place is known. */
const STEPS_KEPT = 6
const SPANS_KEPT = 200_000
const PLACES_KEPT = 20_000
/** After so long a slower exchange takes the place of a quicker one, for clocks drift. */
const OFFSET_AGE_MS = 60_000

type StepMessage = Extract<ServerMessage, { type: 'step' }>
type Told = Extract<ClientMessage, { type: 'timeline' }>

interface Place {
  readonly runId: string
  readonly generation: number
  readonly stage: number
  readonly stages: number
  /** Of the node's clock against this one, by the exchange that took `delayMs`. */
  offset: { ms: number; delayMs: number; at: number } | null
}

interface Lane {
  readonly stage: number
  readonly first: number
  readonly microbatches: number
  readonly window: number
  readonly askedAt: number
  /** By this clock, from the step's start; null until it has told. */
  spans: Span[] | null
}

interface TracedStep {
  readonly runId: string
  readonly generation: number
  readonly step: number
  readonly startedAt: number
  /** When the step after it began; null while it is under way. */
  endedAt: number | null
  readonly lanes: Map<string, Lane>
}

export class Timelines {
  readonly #now: () => number
  readonly #places = new Map<string, Place>()
  /** By run: the step under way, traced or not, and when a step was last traced. */
  readonly #current = new Map<
    string,
    { generation: number; step: number; traced: TracedStep | null; tracedAt: number }
  >()
  /** Oldest first. */
  #steps: TracedStep[] = []

  /** @param now Unix milliseconds */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** The same gateway, on whose messages it looks as they leave; those of a step that is traced say so. */
  watching(gateway: Gateway): Gateway {
    return { ...gateway, send: (nodeId, message) => gateway.send(nodeId, this.#leaves(nodeId, message)) }
  }

  /** What was not asked for, or was told already, is left aside. */
  told(nodeId: string, { generation, step, heardAt, toldAt, spans }: Told): void {
    const place = this.#places.get(nodeId)
    const traced = this.#steps.find(
      (one) => one.runId === place?.runId && one.generation === generation && one.step === step,
    )
    const lane = traced?.lanes.get(nodeId)
    if (!place || !traced || !lane || lane.spans) return
    const heard = heardAt - this.#offsetOf(place, lane.askedAt, heardAt, toldAt)
    const durationMs = (traced.endedAt ?? this.#now()) - traced.startedAt
    // However ill the offset is known: nothing is heard before it is said, and no step ends before its work is done.
    const done = Math.max(0, ...spans.map(([kind, start, length]) => (isWork(kind) ? start + length : 0)))
    const shift = Math.max(lane.askedAt - traced.startedAt, Math.min(heard - traced.startedAt, durationMs - done))
    lane.spans = spans.flatMap(([kind, start, length, index]): Span[] => {
      const from = Math.max(0, start + shift)
      const to = Math.min(durationMs, start + length + shift)
      return to > from ? [[kind, from, to - from, index]] : []
    })
    this.#forget()
  }

  of(runId: string): RunTimeline {
    return { steps: this.#steps.filter((one) => one.runId === runId).flatMap(stepView) }
  }

  #leaves(nodeId: string, message: ServerMessage): ServerMessage {
    switch (message.type) {
      case 'assign': {
        const { runId, generation, stage, config } = message.assignment
        const offset = this.#places.get(nodeId)?.offset ?? null
        this.#places.delete(nodeId)
        this.#places.set(nodeId, { runId, generation, stage, stages: config.stages, offset })
        if (this.#places.size > PLACES_KEPT) this.#places.delete(this.#places.keys().next().value!)
        break
      }
      case 'step': {
        const place = this.#places.get(nodeId)
        if (place?.generation === message.generation && this.#asks(nodeId, place, message))
          return { ...message, traced: true }
      }
    }
    return message
  }

  /** Whether this node is asked how it spends the step. */
  #asks(nodeId: string, { runId, generation, stage, stages }: Place, message: StepMessage): boolean {
    const { step, leases, window } = message
    const now = this.#now()
    const before = this.#current.get(runId)
    const another = before?.generation !== generation || before.step !== step
    const current = another ? this.#begin(runId, message, now) : before
    const { traced } = current
    if (!traced || leases.length === 0) return false
    const asked = [...traced.lanes.values()].filter((lane) => lane.stage === stage).length
    if (asked >= Math.max(1, Math.floor(MOST_ASKED / stages))) return false
    const [first] = leases[0]!
    traced.lanes.set(nodeId, { stage, first, microbatches: leases.length, window, askedAt: now, spans: null })
    return true
  }

  #begin(runId: string, { generation, step, mode }: StepMessage, now: number) {
    const before = this.#current.get(runId)
    const tracedAt = before?.tracedAt ?? -Infinity
    if (before?.traced) {
      // A step that was given up is no step.
      const over = before.generation === generation && step > before.step
      if (over) before.traced.endedAt = now
      else this.#steps = this.#steps.filter((one) => one !== before.traced)
    }
    const due = mode === 'train' && now - tracedAt >= TRACE_EVERY_MS
    const traced: TracedStep | null = due
      ? { runId, generation, step, startedAt: now, endedAt: null, lanes: new Map() }
      : null
    const current = { generation, step, traced, tracedAt: due ? now : tracedAt }
    this.#current.delete(runId)
    this.#current.set(runId, current)
    if (traced) {
      this.#steps.push(traced)
      this.#forget()
    }
    return current
  }

  /** Milliseconds by which the node's clock is ahead of this one. */
  #offsetOf(place: Place, askedAt: number, heardAt: number, toldAt: number): number {
    const now = this.#now()
    const ms = (heardAt - askedAt + (toldAt - now)) / 2
    const delayMs = now - askedAt - (toldAt - heardAt)
    const known = place.offset
    if (!known || delayMs <= known.delayMs || now - known.at > OFFSET_AGE_MS) place.offset = { ms, delayMs, at: now }
    return place.offset!.ms
  }

  /** Keeps the last steps of each run, and of all together no more spans than memory is given. */
  #forget(): void {
    const counts = new Map<string, number>()
    let spans = 0
    const kept: TracedStep[] = []
    for (const one of this.#steps.toReversed()) {
      const count = (counts.get(one.runId) ?? 0) + 1
      for (const lane of one.lanes.values()) spans += 1 + (lane.spans?.length ?? 0)
      if (count > STEPS_KEPT || spans > SPANS_KEPT) continue
      counts.set(one.runId, count)
      kept.push(one)
    }
    this.#steps = kept.toReversed()
    const live = new Set(this.#steps.map(({ runId }) => runId))
    for (const runId of this.#current.keys()) if (!live.has(runId)) this.#current.delete(runId)
  }
}

/** Whether a step cannot end without it. */
const isWork = (kind: SpanKind) => kind !== 'audit' && kind !== 'takeOver' && kind !== 'send'

function stepView({ step, startedAt, endedAt, lanes }: TracedStep): StepTimeline[] {
  if (endedAt === null) return []
  const durationMs = endedAt - startedAt
  const ordered = [...lanes].sort(([, a], [, b]) => a.stage - b.stage || a.first - b.first)
  const replicas = new Map<number, number>()
  const told: LaneTimeline[] = []
  for (const [nodeId, { stage, microbatches, window, spans }] of ordered) {
    const replica = replicas.get(stage) ?? 0
    replicas.set(stage, replica + 1)
    if (spans) told.push({ nodeId, stage, replica, microbatches, window, shares: timeShares(spans, durationMs), spans })
  }
  return told.length > 0 ? [{ step, startedAt, durationMs, lanes: told, silent: lanes.size - told.length }] : []
}
