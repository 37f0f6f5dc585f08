import { describe, expect, it } from 'vitest'
import { eventData } from '../../../server/cli/apiClient.ts'
import { RunRecorder } from '../../../server/cli/demo/follow.ts'
import { demoSummary, lossFell } from '../../../server/cli/demo/summary.ts'
import type { NodeView, RunDetail, StepMetric } from '../../../src/protocol/api.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

const metric = (step: number, loss = 5 - step / 10): StepMetric => ({
  step,
  loss,
  gradNorm: 1,
  lr: 1e-3,
  tokens: 768,
  durationMs: 1000,
  at: 1_000_000 + 1000 * step,
})

function detail(change: Partial<RunDetail>): RunDetail {
  const config = runConfigSchema.parse({})
  return {
    id: 'r1',
    name: 'run',
    state: 'training',
    detail: '',
    datasetId: 'd1',
    config,
    parameters: 1,
    step: 0,
    loss: null,
    valLoss: null,
    tokensPerSecond: null,
    boundaryBytesPerToken: 256,
    rollbacks: 0,
    recovered: 0,
    payment: null,
    createdAt: 0,
    startedAt: 0,
    finishedAt: null,
    generation: 1,
    grid: [['a'], ['b']],
    nodes: [],
    stageMemoryBytes: [],
    checkpoints: [],
    events: [],
    olderEvents: 0,
    error: null,
    ...change,
  }
}

const node = (upBytes: number) => ({ phase: 'training', progress: null, stats: { upBytes, downBytes: 0 } }) as NodeView

describe('RunRecorder', () => {
  it('voids what a rollback voids and keeps each step once', () => {
    const recorder = new RunRecorder()
    recorder.take({ type: 'snapshot', detail: detail({}), metrics: [metric(1), metric(2), metric(3)] })
    recorder.take({ type: 'rollback', toStep: 1 })
    recorder.take({ type: 'metric', metric: metric(2, 4) })
    recorder.take({ type: 'metric', metric: metric(2, 4) })
    expect(recorder.metrics.map(({ step, loss }) => [step, loss])).toEqual([
      [1, 4.9],
      [2, 4],
    ])
  })

  it('sees movement in commits while it trains, in bytes while it prepares', () => {
    const recorder = new RunRecorder()
    const take = (change: Partial<RunDetail>) => recorder.take({ type: 'detail', detail: detail(change) })
    expect(take({ nodes: [node(1)] })).toBe(true)
    expect(take({ nodes: [node(2)] })).toBe(false)
    expect(recorder.take({ type: 'metric', metric: metric(1) })).toBe(true)
    expect(take({ state: 'preparing', nodes: [node(2)] })).toBe(true)
    expect(take({ state: 'preparing', nodes: [node(2)] })).toBe(false)
    expect(take({ state: 'preparing', nodes: [node(3)] })).toBe(true)
  })
})

describe('demoSummary', () => {
  it('measures speed from the first start to the last commit', () => {
    const metrics = [metric(1), metric(2), metric(3), metric(4)]
    const followed = { detail: detail({ step: 4, valLoss: 4.7, recovered: 3 }), metrics }
    expect(demoSummary(followed, { volunteers: 4, wallSeconds: 9, adapter: 'swift' })).toEqual({
      steps: 4,
      stages: 2,
      volunteers: 4,
      trainLoss: [4.9, 4.8, 4.7, 4.6],
      valLoss: 4.7,
      tokensPerSecond: 768,
      boundaryBytesPerToken: 256,
      wallSeconds: 9,
      recoveredLeases: 3,
      codec: 'f16',
      sync: 'exact',
      adapter: 'swift',
    })
  })

  it.each([
    [[5, 4, 3], null, true],
    [[3, 3, 3], null, false],
    [[3, 4, 5], 1, false],
    [[5], 4, true],
    [[5], 5.5, false],
    [[], 1, false],
  ])('of losses %j and validation loss %j says fell: %s', (trainLoss, valLoss, fell) => {
    expect(lossFell({ trainLoss, valLoss })).toBe(fell)
  })

  it('is not led astray by one lucky last step', () => {
    const trainLoss = Array.from({ length: 40 }, (_, i) => (i === 39 ? 4.9 : 5 + i / 100))
    expect(lossFell({ trainLoss, valLoss: null })).toBe(false)
  })
})

describe('eventData', () => {
  const read = async (pieces: string[]) => {
    const encoder = new TextEncoder()
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of pieces) controller.enqueue(encoder.encode(piece))
        controller.close()
      },
    })
    const events: string[] = []
    for await (const data of eventData(body)) events.push(data)
    return events
  }

  it('puts events together however they were cut, and drops comments and a torn end', async () => {
    expect(await read(['data: {"a"', ':1}\n', '\n: here\n\nda', 'ta: b\ndata:c\n\ndata: torn\n'])).toEqual([
      '{"a":1}',
      'b\nc',
    ])
  })
})
