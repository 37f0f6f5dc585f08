/** Proves how timelines are asked for and put together: rarely, of a few, by one clock, and within bounds. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Gateway } from '../../../server/control/gateway.ts'
import { Timelines } from '../../../server/runs/timelines.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'
import type { Span } from '../../../src/protocol/timeline.ts'

const START = 1_700_000_000_000
let now: number
let timelines: Timelines
let sent: [string, ServerMessage][]
let gateway: Gateway
beforeEach(() => {
  now = START
  sent = []
  timelines = new Timelines(() => now)
  const send = (nodeId: string, message: ServerMessage) => void sent.push([nodeId, message])
  gateway = timelines.watching({ send, disconnect: () => {}, expel: () => {}, close: () => {} })
})

function assign(nodeId: string, stage: number, runId = 'run', stages = 2) {
  const assignment = {
    runId,
    runName: runId,
    generation: 1,
    stage,
    config: runConfigSchema.parse({ stages }),
    dataset: { id: 'd', tokens: 10, trainTokens: 9 },
    source: 'checkpoint' as const,
    checkpoint: { step: 0, stage: { stage, chunks: [] } },
    finish: null,
  }
  gateway.send(nodeId, { type: 'assign', assignment })
}
/** Whether the node was asked. */
function step(nodeId: string, step: number, leases: number[] = [0], mode: 'train' | 'evaluate' = 'train'): boolean {
  const table = { peers: [], leases: leases.map((m): [number, number, number] => [m, -1, -1]) }
  const about = { generation: 1, step, mode, version: 1, owners: [], committed: step - 1, window: 3 }
  gateway.send(nodeId, { type: 'step', ...about, ...table })
  const [, message] = sent.at(-1)!
  return message.type === 'step' && message.traced === true
}
/** A node whose clock is `ahead` hears what was sent `wayMs` ago, and its word takes `backMs`. */
function tell(
  nodeId: string,
  step: number,
  sentAt: number,
  ahead: number,
  wayMs: number,
  backMs: number,
  spans: Span[],
) {
  const [heardAt, toldAt] = [sentAt + wayMs + ahead, now + ahead]
  now += backMs
  timelines.told(nodeId, { type: 'timeline', generation: 1, step, heardAt, toldAt, spans })
}

describe('timelines', () => {
  it('are put on the server’s clock, and their shares add up to the step', () => {
    assign('a', 0)
    assign('b', 1)
    expect([step('a', 1, [0, 1]), step('b', 1, [0, 1])]).toEqual([true, true])
    now += 400
    step('a', 2)
    step('b', 2)
    tell('a', 1, START, 123_456, 50, 50, [['forward', 0, 100, 0], ['backward', 150, 100, 0]]) // prettier-ignore
    expect(timelines.of('run').steps[0]).toMatchObject({ silent: 1 })
    tell('b', 1, START, -9_999, 20, 20, [['forwardBackward', 100, 200, 0], ['takeOver', 310, 900, 0]]) // prettier-ignore
    const [traced] = timelines.of('run').steps
    expect(traced).toMatchObject({ step: 1, startedAt: START, durationMs: 400, silent: 0 })
    expect(traced!.lanes.map(({ spans }) => spans)).toEqual([
      [['forward', 50, 100, 0], ['backward', 200, 100, 0]], // prettier-ignore
      // What lies beyond the step is cut off.
      [['forwardBackward', 120, 200, 0], ['takeOver', 330, 70, 0]], // prettier-ignore
    ])
    expect(traced!.lanes.map(({ nodeId, stage, replica, microbatches, window, shares }) => ({ nodeId, stage, replica, microbatches, window, shares }))).toEqual([
      { nodeId: 'a', stage: 0, replica: 0, microbatches: 2, window: 3, shares: { compute: 200, merge: 0, send: 0, wait: 200 } },
      { nodeId: 'b', stage: 1, replica: 0, microbatches: 2, window: 3, shares: { compute: 200, merge: 70, send: 0, wait: 130 } },
    ]) // prettier-ignore
  })

  it('go by the exchange that was quickest, until that is old', () => {
    assign('a', 0)
    const round = (at: number, wayMs: number, backMs: number) => {
      step('a', at)
      const sentAt = now
      now += 1000
      step('a', at + 1)
      tell('a', at, sentAt, 5000, wayMs, backMs, [['forward', 0, 10, 0]])
      now += 2000
      return timelines.of('run').steps.at(-1)!.lanes[0]!.spans[0]![1]
    }
    expect(round(1, 20, 20)).toBe(20)
    // A way back that takes long makes the way there look long.
    expect(round(3, 30, 700)).toBe(30)
    now += 60_000
    expect(round(5, 30, 90)).toBe(60)
  })

  it.each([5, 300, 5000])('lie within their step, however badly the clocks are told apart: %i ms back', (backMs) => {
    assign('a', 0)
    step('a', 1)
    now += 400
    step('a', 2)
    tell('a', 1, START, 5000, 5, backMs, [['forward', 0, 90, 0], ['backward', 300, 80, 0], ['merge', 385, 5, 0]]) // prettier-ignore
    const { durationMs, lanes } = timelines.of('run').steps[0]!
    const { spans, shares } = lanes[0]!
    const whole = [['forward', 90], ['backward', 80], ['merge', 5]] // prettier-ignore
    expect(spans.map(([kind, , length]) => [kind, length])).toEqual(whole)
    expect(spans[0]![1]).toBeGreaterThanOrEqual(0)
    expect(spans[2]![1] + 5).toBeLessThanOrEqual(durationMs)
    expect(shares.compute).toBe(170)
  })

  it('are asked for every two seconds at most, in training, of those with leases', () => {
    assign('a', 0)
    assign('standby', 0)
    expect(step('a', 1)).toBe(true)
    expect(step('standby', 1, [])).toBe(false)
    now += 1900
    expect(step('a', 2)).toBe(false)
    now += 200
    expect(step('a', 3)).toBe(true)
    now += 2000
    expect(step('a', 4, [0], 'evaluate')).toBe(false)
  })

  it('are asked of 64 nodes at most, spread over the stages', () => {
    const asked = Array.from({ length: 200 }, (_, i) => {
      assign(`n${i}`, i % 4, 'run', 4)
      return step(`n${i}`, 1, [i]) ? i % 4 : -1
    }).filter((stage) => stage >= 0)
    expect(asked).toHaveLength(64)
    expect(new Set(asked).size).toBe(4)
  })

  it('do not hold what nobody asked for, was told twice, or belongs to a step that was given up', () => {
    assign('a', 0)
    step('a', 1)
    now += 100
    const spans: Span[] = [['forward', 0, 10, 0]]
    tell('stranger', 1, START, 0, 1, 1, spans)
    tell('a', 7, START, 0, 1, 1, spans)
    step('a', 2)
    tell('a', 1, START, 0, 1, 1, spans)
    tell('a', 1, START, 0, 1, 1, [['merge', 0, 90, 0]])
    expect(timelines.of('run').steps.flatMap(({ lanes }) => lanes.flatMap((lane) => lane.spans[0]![0]))).toEqual([
      'forward',
    ])
    expect(timelines.of('other')).toEqual({ steps: [] })
    now += 3000
    step('a', 3)
    // Back to the step before: the run was set back.
    step('a', 2)
    tell('a', 3, now, 0, 1, 1, spans)
    expect(timelines.of('run').steps.map((one) => one.step)).toEqual([1])
  })

  it('are kept of the last six steps of a run, the one under way among them, and of no more spans than memory is given', () => {
    const spans = Array.from({ length: 400 }, (_, i): Span => ['forward', i, 1, i])
    for (let run = 0; run < 120; run++) {
      assign('a', 0, `run ${run}`, 1)
      for (let at = 1; at <= 9; at++) {
        step('a', at)
        const sentAt = now
        now += 3000
        if (at < 9) step('a', at + 1)
        tell('a', at, sentAt, 0, 1, 1, spans)
      }
    }
    expect(timelines.of('run 119').steps.map((one) => one.step)).toEqual([4, 5, 6, 7, 8])
    expect(timelines.of('run 0').steps).toEqual([])
    const kept = Array.from({ length: 120 }, (_, run) => timelines.of(`run ${run}`).steps).flat()
    expect(kept.length * 400).toBeLessThanOrEqual(200_000)
    expect(kept.length * 400).toBeGreaterThan(150_000)
  })
})
