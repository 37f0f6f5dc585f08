/** Owns small, whole examples of what the pages are given. */
import type { NodeView, RunDetail, StepMetric } from '../../../src/protocol/api.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'
import type { VolunteerSnapshot } from '../../../src/volunteer/snapshot.ts'

const none = { tokens: 0, steps: 0, upBytes: 0, downBytes: 0 }

export function snapshotOf(change: Partial<VolunteerSnapshot>): VolunteerSnapshot {
  return {
    phase: { name: 'idle' },
    run: null,
    stage: null,
    stages: null,
    step: null,
    ...none,
    credit: 0n,
    refused: 0,
    refusal: null,
    link: 'unknown',
    error: null,
    adapter: null,
    memory: null,
    lifetime: none,
    ...change,
  }
}

export function metricOf(step: number, change: Partial<StepMetric> = {}): StepMetric {
  return { step, loss: 6 - step / 10, gradNorm: 1, lr: 1e-3, tokens: 768, durationMs: 500, at: step * 1000, ...change }
}

export function nodeOf(nodeId: string, tokens: number, change: Partial<NodeView> = {}): NodeView {
  return {
    nodeId,
    kind: 'browser',
    adapter: {
      vendor: 'v',
      architecture: 'a',
      description: '',
      software: false,
      maxBufferSize: 1,
      maxStorageBufferBindingSize: 1,
    },
    phase: 'training',
    progress: null,
    stats: { tokens, steps: 1, upBytes: 0, downBytes: 0, boundaryBytes: 0, boundaryTokens: 0, link: 'direct' },
    silentMs: 0,
    runId: 'r1',
    stage: 0,
    replica: 0,
    standby: false,
    suspect: false,
    ...change,
  }
}

export function detailOf(change: Partial<RunDetail> = {}, config: RunConfigInput = {}): RunDetail {
  return {
    id: 'r1',
    name: 'little stories',
    state: 'training',
    detail: 'Training.',
    datasetId: 'd1',
    config: runConfigSchema.parse(config),
    parameters: 1000,
    step: 10,
    loss: 5,
    valLoss: null,
    tokensPerSecond: 768,
    boundaryBytesPerToken: 512,
    rollbacks: 0,
    recovered: 0,
    payment: null,
    createdAt: 0,
    startedAt: 0,
    finishedAt: null,
    generation: 1,
    grid: [['n1'], [null]],
    nodes: [],
    stageMemoryBytes: [1, 1],
    checkpoints: [],
    events: [],
    olderEvents: 0,
    error: null,
    ...change,
  }
}
