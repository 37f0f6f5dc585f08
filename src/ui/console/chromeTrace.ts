/**
 * Owns how timelines leave the page: in the Trace Event Format, which chrome://tracing and Perfetto open.
 *
 * A stage is a process, a node of it two threads: what its device did, and what its links did meanwhile. Times are
 * microseconds (Trace Event Format, Google 2016).
 */
import { shareOf, type Span, type StepTimeline } from '../../protocol/timeline.ts'

interface CompleteEvent {
  ph: 'X'
  name: string
  cat: string
  ts: number
  dur: number
  pid: number
  tid: number
  args: Record<string, number | string>
}

interface MetadataEvent {
  ph: 'M'
  name: 'process_name' | 'thread_name' | 'process_sort_index' | 'thread_sort_index'
  pid: number
  tid: number
  args: { name: string } | { sort_index: number }
}

export interface ChromeTrace {
  traceEvents: (CompleteEvent | MetadataEvent)[]
  displayTimeUnit: 'ms'
  otherData: { run: string; startedAt: string }
}

const STEPS_PID = 0
const MICROSECONDS = 1000

const words: Record<Span[0], string> = {
  forward: 'forward',
  backward: 'backward',
  forwardBackward: 'forward and backward',
  lane: 'weights of lane',
  audit: 'audit',
  merge: 'merge',
  takeOver: 'new weights of shard',
  send: 'send',
}

/** @param steps oldest first; time counts from the start of the first */
export function chromeTrace(run: string, steps: readonly StepTimeline[]): ChromeTrace {
  const origin = steps[0]?.startedAt ?? 0
  const named: MetadataEvent[] = processNames(STEPS_PID, 'Steps')
  const events: CompleteEvent[] = []
  const threads = new Map<string, number>()
  const stages = new Set<number>()
  for (const { step, startedAt, durationMs, lanes } of steps) {
    const since = MICROSECONDS * (startedAt - origin)
    const about = { ph: 'X', pid: STEPS_PID, tid: 0, cat: 'step' } as const
    events.push({ ...about, name: `step ${step}`, ts: since, dur: MICROSECONDS * durationMs, args: { step } })
    for (const { nodeId, stage, replica, spans } of lanes) {
      const pid = stage + 1
      if (!stages.has(stage)) named.push(...processNames(pid, `Stage ${pid}`))
      stages.add(stage)
      const key = `${stage} ${nodeId}`
      const tid = threads.get(key) ?? 2 * threads.size + 1
      if (!threads.has(key)) {
        threads.set(key, tid)
        named.push(...threadNames(pid, tid, `replica ${replica + 1} (${nodeId})`))
      }
      for (const [kind, start, length, index] of spans) {
        const name = index < 0 ? words[kind] : `${words[kind]} ${index}`
        const cat = shareOf(kind)
        const on = kind === 'send' ? tid + 1 : tid
        const ts = since + MICROSECONDS * start
        const what = cat === 'merge' ? 'shard' : kind === 'lane' ? 'lane' : 'microbatch'
        const args = index < 0 ? { step } : { step, [what]: index }
        events.push({ ph: 'X', name, cat, ts, dur: MICROSECONDS * length, pid, tid: on, args })
      }
    }
  }
  const startedAt = new Date(origin).toISOString()
  return { traceEvents: [...named, ...events], displayTimeUnit: 'ms', otherData: { run, startedAt } }
}

function processNames(pid: number, name: string): MetadataEvent[] {
  return [
    { ph: 'M', name: 'process_name', pid, tid: 0, args: { name } },
    { ph: 'M', name: 'process_sort_index', pid, tid: 0, args: { sort_index: pid } },
  ]
}

function threadNames(pid: number, tid: number, name: string): MetadataEvent[] {
  return [`${name}: device`, `${name}: links`].flatMap((thread, i): MetadataEvent[] => [
    { ph: 'M', name: 'thread_name', pid, tid: tid + i, args: { name: thread } },
    { ph: 'M', name: 'thread_sort_index', pid, tid: tid + i, args: { sort_index: tid + i } },
  ])
}
