/** Owns a run control for tests of the routes: it keeps runs in the store and tells what it is told to. */
import type { Store } from '../../../server/db/store.ts'
import { quoteFor } from '../../../server/runs/quote.ts'
import type { RunControl } from '../../../server/runs/port.ts'
import type { LiveEvent, RunDetail, RunSummary } from '../../../src/protocol/api.ts'
import { fail } from '../../../src/protocol/errors.ts'
import type { Quote } from '../../../src/protocol/quote.ts'
import { runConfigSchema } from '../../../src/protocol/runConfig.ts'

export function summary(change: Partial<RunSummary> = {}): RunSummary {
  return {
    id: 'r1',
    name: 'First run',
    state: 'training',
    detail: 'Trains.',
    datasetId: 'd1',
    config: runConfigSchema.parse({}),
    parameters: 1000,
    step: 3,
    loss: 4.5,
    valLoss: null,
    tokensPerSecond: 100,
    boundaryBytesPerToken: 256,
    rollbacks: 0,
    recovered: 0,
    payment: null,
    createdAt: 1,
    startedAt: 2,
    finishedAt: null,
    ...change,
  }
}

export const detail = (): RunDetail => ({
  ...summary(),
  generation: 1,
  grid: [['n1', null]],
  nodes: [],
  stageMemoryBytes: [1000],
  checkpoints: [],
  events: [{ at: 1, step: 0, text: 'Launched.' }],
  olderEvents: 0,
  error: null,
})

export class FakeRuns implements RunControl {
  readonly launched: Parameters<RunControl['launch']>[0][] = []
  readonly saved: string[] = []
  readonly budgets: string[] = []
  readonly left: string[] = []
  readonly listeners = new Set<(event: LiveEvent) => void>()
  readonly store: Store

  constructor(store: Store) {
    this.store = store
  }

  nodeLeft(nodeId: string): void {
    this.left.push(nodeId)
  }

  async launch(request: Parameters<RunControl['launch']>[0]): Promise<RunSummary> {
    if (!(await this.store.dataset(request.datasetId))) fail('dataset.unknown', 'No such dataset.', 'Upload it.')
    if (request.config.model?.dModel === 130) fail('run.heads_do_not_divide', 'Heads do not divide.', 'Choose others.')
    if (request.name === 'crash') throw new Error('secret internals')
    this.launched.push(request)
    return summary({ name: request.name })
  }

  async cancel(runId: string): Promise<RunSummary> {
    if (runId === 'ended') fail('run.ended', 'It has ended.', 'Launch another.')
    return summary({ state: 'cancelled' })
  }

  async checkpoint(runId: string): Promise<RunSummary> {
    if (runId === 'ended') fail('run.ended', 'It has ended.', 'Launch another.')
    this.saved.push(runId)
    return summary()
  }

  async raiseBudget(runId: string, budget: string): Promise<RunSummary> {
    if (runId === 'free') fail('run.unpaid', 'It pays nobody.', 'Launch another.')
    this.budgets.push(budget)
    return summary({ payment: { planckPerPflop: '1', budget, spent: '0' } })
  }

  async quote({ datasetId, planckPerPflop }: Parameters<RunControl['quote']>[0]): Promise<Quote> {
    if (!(await this.store.dataset(datasetId))) fail('dataset.unknown', 'No such dataset.', 'Upload it.')
    const price = planckPerPflop === undefined ? null : BigInt(planckPerPflop)
    return quoteFor(runConfigSchema.parse({}), price, [], [])
  }

  summaries = async () => [summary()]

  async detail(runId: string): Promise<RunDetail> {
    return runId === 'r1' ? detail() : fail('run.unknown', `There is no run ${runId}.`, 'List them.')
  }

  nodes = () => []

  fleet = () => ({ protocol: 1, version: '0.1.0', nodes: 3, working: 2, standby: 1, runsActive: 1 })

  async subscribe(runId: string, listener: (event: LiveEvent) => void): Promise<() => void> {
    const snapshot = await this.detail(runId)
    listener({ type: 'snapshot', detail: snapshot, metrics: [] })
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
}
