/** Owns what a node notes of its own work in a step that the server has traced: a few numbers a microbatch, told once it is over. */
import type { ClientMessage, ServerMessage } from '../protocol/control.ts'
import { MAX_SPANS, type Span, type SpanKind } from '../protocol/timeline.ts'
import type { GpuAction } from './gpuWork.ts'
import type { StageEvent } from './machineTypes.ts'

/** More than this of one step is not noted, and the step not told: its shares would be false. */
const MOST_NOTED = 20_000

type StepMessage = Pick<Extract<ServerMessage, { type: 'step' }>, 'generation' | 'step' | 'traced'>
type Told = Extract<ClientMessage, { type: 'timeline' }>

interface Notes {
  readonly generation: number
  readonly step: number
  /** Of the caller's clock. */
  readonly heardAt: number
  readonly spans: Span[]
}

export class StepSpans {
  readonly #now: () => number
  readonly #tell: (message: Told) => void
  /** Null in a step that is not traced: then nothing is noted. */
  #notes: Notes | null = null
  /** Tensors on their way into links, and since when there are any. */
  #leaving = 0
  #leavingSince = 0

  /** `now`: milliseconds of any clock. */
  constructor(now: () => number, tell: (message: Told) => void) {
    this.#now = now
    this.#tell = tell
  }

  /** A step begins; the one before it is over, and is told of after whatever else is to be done now. */
  turn({ generation, step, traced }: StepMessage): void {
    const now = this.#now()
    const notes = this.#notes
    if (notes && this.#leaving > 0) this.#note(notes, 'send', this.#leavingSince, now, -1)
    this.#leavingSince = now
    this.#notes = traced ? { generation, step, heardAt: now, spans: [] } : null
    if (!notes || notes.spans.length >= MOST_NOTED) return
    setTimeout(() => {
      const { generation, step, heardAt, spans } = notes
      const told = condensed(spans, MAX_SPANS)
      this.#tell({ type: 'timeline', generation, step, heardAt, toldAt: this.#now(), spans: told })
    })
  }

  /** The assignment is gone, and with it what was noted. */
  drop(): void {
    this.#notes = null
  }

  /** Notes how long the device takes for an action. */
  async during<T>(action: GpuAction, work: () => Promise<StageEvent<T> | null>): Promise<StageEvent<T> | null> {
    const notes = this.#notes
    const kind = kindOf(action)
    if (!notes || kind === null) return work()
    const from = this.#now()
    const event = await work()
    const to = this.#now()
    // Tokens may have been waited for before the device began.
    const began = event?.type === 'computed' ? Math.max(from, to - event.busyMs) : from
    this.#note(notes, kind, began, to, indexOf(action))
    return event
  }

  /** Notes how long the device reads what is given away. */
  async reading<T>(work: () => Promise<T>): Promise<T> {
    const notes = this.#notes
    const from = this.#now()
    const result = await work()
    if (notes) this.#note(notes, 'send', from, this.#now(), -1)
    return result
  }

  /** Notes how long tensors are on their way into links, all of them together. */
  sending(left: Promise<void>): Promise<void> {
    if (this.#leaving++ === 0) this.#leavingSince = this.#now()
    const gone = () => {
      if (--this.#leaving === 0 && this.#notes) this.#note(this.#notes, 'send', this.#leavingSince, this.#now(), -1)
    }
    left.then(gone, gone)
    return left
  }

  #note({ heardAt, spans }: Notes, kind: SpanKind, from: number, to: number, index: number): void {
    const start = Math.max(0, from - heardAt)
    const length = to - heardAt - start
    if (length > 0 && spans.length < MOST_NOTED) spans.push([kind, start, length, index])
  }
}

/** Null where it is told with what it makes ready for. */
function kindOf(action: GpuAction): SpanKind | null {
  switch (action.type) {
    case 'beginStep':
      return null
    case 'readShard':
      return 'send'
    case 'writeParameters':
    case 'writeMoments':
      return 'takeOver'
    case 'enterLane':
    case 'innerUpdate':
      return 'lane'
    case 'measure':
      return 'forward'
    case 'recompute':
    case 'testify':
      return 'audit'
    case 'compute':
      return action.op === 'backward' || action.op === 'forwardBackward' ? action.op : 'forward'
    default:
      return 'merge'
  }
}

function indexOf(action: GpuAction): number {
  if (action.type === 'testify') return -1
  if ('microbatch' in action) return action.microbatch
  if ('lane' in action) return action.lane
  return 'shard' in action ? action.shard : -1
}

/** Rounds to tenths of a millisecond, and joins the closest spans of a kind until there are no more than `most`. */
export function condensed(spans: readonly Span[], most: number): Span[] {
  const told = joined(spans, spans.length - most)
  const tenths = (value: number) => Math.round(10 * value) / 10
  return told.map(([kind, start, length, index]) => [kind, tenths(start), tenths(length), index])
}

function joined(spans: readonly Span[], tooMany: number): readonly Span[] {
  if (tooMany <= 0) return spans
  const sorted = [...spans].sort((a, b) => a[0].localeCompare(b[0]) || a[1] - b[1])
  const gaps = sorted.map(([kind, start], i) => {
    const before = sorted[i - 1]
    return before?.[0] === kind ? start - before[1] - before[2] : Infinity
  })
  const widest = [...gaps].sort((a, b) => a - b)[tooMany - 1]!
  let left = tooMany
  const kept: Span[] = []
  sorted.forEach((span, i) => {
    if (gaps[i]! > widest || left === 0) return void kept.push(span)
    left--
    const [kind, start] = kept.pop()!
    kept.push([kind, start, span[1] + span[2] - start, -1])
  })
  return kept.sort((a, b) => a[1] - b[1])
}
