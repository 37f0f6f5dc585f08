/** Proves how a step's timeline is drawn, put into words, chosen and saved as a Chrome trace. */
import { describe, expect, it } from 'vitest'
import type { Span, StepTimeline } from '../../../src/protocol/timeline.ts'
import { chromeTrace } from '../../../src/ui/console/chromeTrace.ts'
import { outlines, spanAt, spanWords, timelineSummary } from '../../../src/ui/console/timelineRows.ts'

const plain = (text: string) => text.replaceAll('\u00a0', ' ')

const spans: Span[] = [
  ['forward', 0, 100, 0],
  ['send', 90, 60, -1],
  ['backward', 200, 150, 0],
  ['merge', 360, 20, 1],
]

function stepOf(step: number, startedAt: number): StepTimeline {
  const shares = { compute: 250, merge: 20, send: 50, wait: 80 }
  const lane = { microbatches: 1, window: 3, shares, spans }
  const lanes = [
    { nodeId: 'first', stage: 0, replica: 0, ...lane },
    { nodeId: 'second', stage: 0, replica: 1, ...lane },
    { nodeId: 'third', stage: 1, replica: 0, ...lane },
  ]
  return { step, startedAt, durationMs: 400, lanes, silent: 0 }
}

describe('a timeline', () => {
  it('is drawn to scale, one outline a kind, nothing too narrow to be seen', () => {
    const drawn = outlines({ spans: [...spans, ['merge', 399, 0.01, 0]] }, 400)
    expect(drawn.map(({ kind }) => kind)).toEqual(['send', 'merge', 'forward', 'backward'])
    expect(drawn[2]!.path).toBe('M0.00 0h250.00v10h-250.00z')
    expect(drawn[1]!.path).toContain('M997.50 0h0.80v10h-0.80z')
  })

  it('says what a device did at a moment, what it computed before what it sent', () => {
    const at = (ms: number) => plain(spanWords(spanAt(spans, ms)))
    expect([95, 120, 180, 250, 370].map(at)).toEqual([
      'forward of microbatch 1, 100 ms',
      'send, 60 ms',
      'waits',
      'backward of microbatch 1, 150 ms',
      'merge of shard 2, 20 ms',
    ])
    const lane = spanWords(['lane', 0, 30, 2])
    expect([lane, spanWords(['audit', 0, 40, 4])].map(plain)).toEqual(['weights of lane 3, 30 ms', 'audit of microbatch 5, 40 ms']) // prettier-ignore
  })

  it('is put into one sentence whose shares add up', () => {
    expect(plain(timelineSummary(stepOf(7, 0)))).toBe(
      'Step 7 took 400 ms. Of that 3 devices spent on average: compute 62.5 %, merge 5.0 %, send 12.5 %, wait 20.0 %.',
    )
    expect(timelineSummary({ ...stepOf(7, 0), silent: 2 })).toMatch(/ 2 more did not tell\.$/)
  })
})

describe('a Chrome trace', () => {
  const trace = chromeTrace('my run', [stepOf(7, 5_000), stepOf(9, 7_500)])
  const complete = trace.traceEvents.filter((event) => event.ph === 'X')

  it('is a JSON object of events that the format knows', () => {
    const read = JSON.parse(JSON.stringify(trace)) as typeof trace
    expect(read).toMatchObject({ displayTimeUnit: 'ms', otherData: { run: 'my run' } })
    for (const event of read.traceEvents) {
      expect(['X', 'M']).toContain(event.ph)
      expect(Number.isInteger(event.pid) && Number.isInteger(event.tid)).toBe(true)
      if (event.ph === 'X') expect(Math.min(event.ts, event.dur)).toBeGreaterThanOrEqual(0)
    }
  })

  it('names a process for each stage and two threads for each device', () => {
    const names = trace.traceEvents.flatMap(({ name, args }) => ('name' in args ? [`${name} ${args.name}`] : []))
    expect(names).toEqual([
      'process_name Steps',
      'process_name Stage 1',
      'thread_name replica 1 (first): device',
      'thread_name replica 1 (first): links',
      'thread_name replica 2 (second): device',
      'thread_name replica 2 (second): links',
      'process_name Stage 2',
      'thread_name replica 1 (third): device',
      'thread_name replica 1 (third): links',
    ])
  })

  it('counts microseconds from the first step, and gives each thread spans that do not overlap', () => {
    const steps = complete.filter(({ cat }) => cat === 'step')
    expect(steps.map(({ name, ts, dur }) => [name, ts, dur])).toEqual([
      ['step 7', 0, 400_000],
      ['step 9', 2_500_000, 400_000],
    ])
    expect(complete).toContainEqual({
      ph: 'X',
      name: 'backward 0',
      cat: 'compute',
      ts: 2_700_000,
      dur: 150_000,
      pid: 2,
      tid: 5,
      args: { step: 9, microbatch: 0 },
    })
    const threads = Map.groupBy(complete, ({ pid, tid }) => `${pid} ${tid}`)
    expect(threads.size).toBe(7)
    for (const events of threads.values())
      events.forEach(({ ts }, i) => expect(ts).toBeGreaterThanOrEqual(i === 0 ? 0 : events[i - 1]!.ts + events[i - 1]!.dur)) // prettier-ignore
  })

  it('is empty and whole without a step', () => {
    expect(chromeTrace('none', []).traceEvents.every(({ ph }) => ph === 'M')).toBe(true)
  })
})
