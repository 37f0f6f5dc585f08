/** Owns the proof that a run's page follows its stream: metrics, rollbacks, reconnects and speeds. */
import { describe, expect, test } from 'vitest'
import type { LiveEvent, RunDetail } from '../../../src/protocol/api.ts'
import { ApiError } from '../../../src/ui/api/client.ts'
import { followRun, type EventStream, type LiveStatus } from '../../../src/ui/api/live.ts'
import { RunLive } from '../../../src/ui/state/runLive.svelte.ts'
import { detailOf, metricOf, nodeOf } from './fixtures.ts'

class FakeStream implements EventStream {
  onopen = null
  onerror: EventStream['onerror'] = null
  onmessage: EventStream['onmessage'] = null
  closed = false
  close() {
    this.closed = true
  }
  send(event: unknown) {
    this.onmessage?.({ data: JSON.stringify(event) } as MessageEvent<string>)
  }
  break() {
    this.onerror?.({} as Event)
  }
}

function fakeStreams() {
  const streams: FakeStream[] = []
  const waits: number[] = []
  let pending = () => {}
  return {
    streams,
    waits,
    open: () => {
      const stream = new FakeStream()
      streams.push(stream)
      return stream
    },
    later: (work: () => void, ms: number) => {
      waits.push(ms)
      pending = work
      return () => (pending = () => {})
    },
    retry: () => pending(),
  }
}

const snapshot = (steps: number): LiveEvent => ({
  type: 'snapshot',
  detail: detailOf({ step: steps }),
  metrics: Array.from({ length: steps }, (_, i) => metricOf(i + 1)),
})

const unanswered = { run: () => Promise.reject<RunDetail>(new Error('not asked')) }

describe('the stream', () => {
  test('reconnects ever later, says so, and is live again after a snapshot', () => {
    const fake = fakeStreams()
    const statuses: LiveStatus[] = []
    const events: LiveEvent[] = []
    followRun('r1', { ...fake, onEvent: (e) => events.push(e), onStatus: (s) => statuses.push(s) })
    fake.streams[0]!.send(snapshot(2))
    fake.streams[0]!.break()
    expect(fake.streams[0]!.closed).toBe(true)
    fake.retry()
    fake.streams[1]!.break()
    fake.retry()
    fake.streams[2]!.send(snapshot(3))
    expect(statuses).toEqual(['connecting', 'live', 'reconnecting', 'reconnecting', 'live'])
    expect(fake.waits).toEqual([1000, 2000])
    expect(events).toHaveLength(2)
  })

  test('ignores what it cannot read and what an old stream still says', () => {
    const fake = fakeStreams()
    const events: LiveEvent[] = []
    const stop = followRun('r1', { ...fake, onEvent: (e) => events.push(e), onStatus: () => {} })
    fake.streams[0]!.send({ type: 'fromTheFuture' })
    fake.streams[0]!.onmessage?.({ data: 'not json' } as MessageEvent<string>)
    stop()
    fake.streams[0]!.send(snapshot(1))
    expect(events).toEqual([])
    expect(fake.streams[0]!.closed).toBe(true)
  })
})

describe('a run', () => {
  test('appends metrics, and drops those after a rollback, the best among them', () => {
    const live = new RunLive('r1', unanswered)
    live.apply(snapshot(5))
    live.apply({ type: 'metric', metric: metricOf(6, { loss: 0.1 }) })
    expect(live.best?.step).toBe(6)
    live.apply({ type: 'rollback', toStep: 3 })
    expect(live.metrics.map((m) => m.step)).toEqual([1, 2, 3])
    expect(live.best?.step).toBe(3)
    live.apply({ type: 'metric', metric: metricOf(4) })
    expect(live.last?.step).toBe(4)
  })

  test('takes a step that comes again for the one that counts', () => {
    const live = new RunLive('r1', unanswered)
    live.apply(snapshot(5))
    live.apply({ type: 'metric', metric: metricOf(4, { loss: 9 }) })
    expect(live.metrics.map((m) => m.step)).toEqual([1, 2, 3, 4])
    expect(live.last?.loss).toBe(9)
  })

  test('knows the last committed step before its detail does', () => {
    const live = new RunLive('r1', unanswered)
    live.apply(snapshot(5))
    live.apply({ type: 'metric', metric: metricOf(6) })
    expect([live.step, live.detail?.step]).toEqual([6, 5])
    live.apply({ type: 'rollback', toStep: 3 })
    expect(live.step).toBe(3)
  })

  test('measures a node’s speed from its counters, and sees it stall', () => {
    let now = 0
    const live = new RunLive('r1', unanswered, () => now)
    const seen = (tokens: number, at: number) => {
      now = at
      live.apply({ type: 'detail', detail: detailOf({ nodes: [nodeOf('n1', tokens)] }) })
    }
    const node = nodeOf('n1', 0)
    seen(0, 0)
    expect(live.rateOf(node, 0)).toBeNull()
    seen(1000, 5000)
    seen(2000, 10_000)
    expect(live.rateOf(node, 10_000)).toBe(200)
    seen(2000, 100_000)
    expect(live.rateOf(node, 100_000)!).toBeLessThan(30)
    seen(50, 101_000)
    expect(live.rateOf(node, 101_000)).toBeNull()
  })

  test('does not take a total that a restarted server hears for the first time for a burst', () => {
    let now = 0
    const live = new RunLive('r1', unanswered, () => now)
    for (const [at, tokens] of [
      [0, 5000],
      [5000, 6000],
      [10_000, 0],
      [15_000, 8000],
    ] as const) {
      now = at
      live.apply({ type: 'detail', detail: detailOf({ nodes: [nodeOf('n1', tokens)] }) })
    }
    expect(live.rateOf(nodeOf('n1', 0), now)).toBe(200)
  })

  test('an unknown run is told once and not asked for again', async () => {
    const fake = fakeStreams()
    const body = { code: 'run.unknown', message: 'There is no run r1.', remedy: 'Look it up.' }
    const live = new RunLive('r1', { run: () => Promise.reject<RunDetail>(new ApiError(404, body)) })
    live.follow(fake)
    fake.streams[0]!.break()
    await Promise.resolve()
    await Promise.resolve()
    expect(live.error?.code).toBe('run.unknown')
    fake.retry()
    expect(fake.streams).toHaveLength(1)
  })
})
