/** Proves what a node notes of its own work: only in steps that are traced, and told once they are over. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ClientMessage } from '../../../src/protocol/control.ts'
import { type Span, timeShares } from '../../../src/protocol/timeline.ts'
import type { GpuAction } from '../../../src/stage/gpuWork.ts'
import { condensed, StepSpans } from '../../../src/stage/stepSpans.ts'

let now: number
let told: Extract<ClientMessage, { type: 'timeline' }>[]
let spans: StepSpans
beforeEach(() => {
  vi.useFakeTimers()
  now = 1000
  told = []
  spans = new StepSpans(
    () => now,
    (message) => told.push(message),
  )
})
afterEach(() => {
  vi.useRealTimers()
})

const compute = (op: 'forward' | 'backward', microbatch: number): GpuAction => ({
  type: 'compute',
  op,
  microbatch,
  step: 5,
  input: null,
})
/** Work that takes so long, the device being busy for the last `busyMs` of it. */
const work = (action: GpuAction, ms: number, busyMs = ms) =>
  spans.during(action, async () => {
    now += ms
    if (action.type !== 'compute') return null
    const { op, microbatch } = action
    return { type: 'computed', generation: 1, step: 5, op, microbatch, output: null, digest: null, loss: null, busyMs }
  })
const turn = (step: number, traced?: boolean) => spans.turn({ generation: 1, step, ...(traced && { traced }) })

describe('what a node tells of a step', () => {
  it('is its own work, from when it heard of the step, once the next one has begun', async () => {
    turn(5, true)
    now += 10
    await work(compute('forward', 3), 30, 20)
    await work({ type: 'readGradient', step: 5, version: 1, shard: 2 }, 5)
    await work({ type: 'readShard', kind: 'momentShard', step: 5, shard: 1, to: 'x' }, 4)
    await work({ type: 'writeMoments', step: 5, shard: 0, tensor: new Uint8Array() }, 2)
    await work({ type: 'beginStep', step: 5 }, 3)
    vi.runAllTimers()
    expect(told).toEqual([])
    turn(6)
    now += 7
    vi.runAllTimers()
    expect(told).toEqual([
      {
        type: 'timeline',
        generation: 1,
        step: 5,
        heardAt: 1000,
        toldAt: 1061,
        spans: [
          ['forward', 20, 20, 3],
          ['merge', 40, 5, 2],
          ['send', 45, 4, 1],
          ['takeOver', 49, 2, 0],
        ],
      },
    ])
  })

  it('tells the updates of lanes and the claims of others apart from merges', async () => {
    turn(5, true)
    await work({ type: 'enterLane', step: 5, lane: 1 }, 3)
    await work({ type: 'innerUpdate', step: 5, lane: 1, inner: 0 }, 6)
    const about = { audit: 'a', step: 5, input: null } as const
    await work({ type: 'recompute', ...about, op: 'backward', microbatch: 4, digest: null, claimed: null }, 20)
    const drawn = { shard: 2, seed: [1, 2], activation: null, inputGradient: null, losses: [] } as const
    await work({ type: 'testify', ...about, ...drawn }, 2)
    turn(6)
    vi.runAllTimers()
    expect(told[0]!.spans).toEqual([
      ['lane', 0, 3, 1],
      ['lane', 3, 6, 1],
      ['audit', 9, 20, 4],
      ['audit', 29, 2, -1],
    ])
    expect(timeShares(told[0]!.spans, 31)).toEqual({ compute: 31, merge: 0, send: 0, wait: 0 })
  })

  it('is nothing where the step was not traced, or its assignment is gone', async () => {
    turn(5)
    await work(compute('forward', 0), 10)
    turn(6, true)
    await work(compute('forward', 0), 10)
    spans.drop()
    turn(7)
    vi.runAllTimers()
    expect(told).toEqual([])
  })

  it('joins what is under way into links at one time, and cuts it where the step ends', async () => {
    const left: (() => void)[] = []
    const send = () => spans.sending(new Promise((resolve) => left.push(resolve)))
    turn(5, true)
    const [one, two] = [send(), send()]
    now += 10
    left[0]!()
    await one
    now += 5
    left[1]!()
    await two
    now += 20
    const third = send()
    now += 8
    turn(6, true)
    now += 3
    left[2]!()
    await third
    turn(7)
    vi.runAllTimers()
    expect(told.map((message) => message.spans)).toEqual([
      [
        ['send', 0, 15, -1],
        ['send', 35, 8, -1],
      ],
      [['send', 0, 3, -1]],
    ])
  })
})

describe('a great many spans', () => {
  it('become fewer by joining those of a kind that lie closest together', () => {
    const many: Span[] = [
      ['forward', 0, 10, 0],
      ['backward', 10, 5, 0],
      ['forward', 15.04, 10, 1],
      ['forward', 26, 10, 2],
      ['send', 30, 1, -1],
    ]
    expect(condensed(many, 4)).toEqual([
      ['forward', 0, 10, 0],
      ['backward', 10, 5, 0],
      ['forward', 15, 21, -1],
      ['send', 30, 1, -1],
    ])
    expect(condensed(many, 3)).toEqual([
      ['forward', 0, 36, -1],
      ['backward', 10, 5, 0],
      ['send', 30, 1, -1],
    ])
    const even = Array.from({ length: 1000 }, (_, i): Span => [i % 2 ? 'forward' : 'backward', i, 1, i])
    expect(condensed(even, 400)).toHaveLength(400)
  })
})
