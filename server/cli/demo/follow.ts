/** Owns the watch over a run: its events as they come, over a server that goes and comes back, and the patience with it. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LiveEvent, RunDetail, StepMetric } from '../../../src/protocol/api.ts'
import { fail } from '../../../src/protocol/errors.ts'
import type { ApiClient } from '../apiClient.ts'
import type { Progress } from './progress.ts'

/** Longest time without a commit, or without any movement where nothing can be committed. */
const PATIENCE_MS = 120_000

export interface FollowedRun {
  readonly detail: RunDetail
  readonly metrics: readonly StepMetric[]
}

/** Collects what the events of one run amount to. */
export class RunRecorder {
  detail: RunDetail | null = null
  metrics: StepMetric[] = []
  #movement = ''

  /** @returns true when the event shows that the run moves */
  take(event: LiveEvent): boolean {
    switch (event.type) {
      case 'snapshot':
        this.metrics = [...event.metrics]
        this.detail = event.detail
        break
      case 'metric':
        // A stream that was opened again may repeat a step.
        this.metrics = [...this.metrics.filter((metric) => metric.step < event.metric.step), event.metric]
        break
      case 'detail':
        this.detail = event.detail
        break
      case 'rollback':
        this.metrics = this.metrics.filter((metric) => metric.step <= event.toStep)
    }
    const before = this.#movement
    this.#movement = this.#sign()
    return this.#movement !== before
  }

  /** Changes whenever the run moves: by commits while it trains, by its nodes' work where it prepares or evaluates. */
  #sign(): string {
    const { detail } = this
    if (!detail) return ''
    const { state, generation, checkpoints, nodes } = detail
    const work = nodes.map(({ phase, progress, stats }) => [phase, progress, stats.downBytes, stats.upBytes])
    return JSON.stringify([
      state,
      generation,
      checkpoints.length,
      this.metrics.at(-1)?.step,
      state !== 'training' && work,
    ])
  }
}

/**
 * Follows a run until it ends, over lost streams and a server that is away for a while.
 * @throws SkeinError `demo.stalled`; whatever `signal` is aborted with
 */
export async function followRun(
  api: ApiClient,
  runId: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<FollowedRun> {
  const recorder = new RunRecorder()
  const stalled = new AbortController()
  const stop = AbortSignal.any([signal, stalled.signal])
  const timer = setTimeout(() => stalled.abort(), PATIENCE_MS)
  try {
    for (;;) {
      try {
        for await (const event of api.live(runId, stop)) {
          if (recorder.take(event)) timer.refresh()
          if (event.type === 'metric') progress.step(event.metric)
          else if (event.type === 'rollback') progress.rollback(event.toStep)
          const { detail, metrics } = recorder
          if (!detail) continue
          if (event.type !== 'metric') progress.detail(detail)
          if (detail.state === 'finished' || detail.state === 'failed' || detail.state === 'cancelled')
            return { detail, metrics }
        }
      } catch (caught) {
        if (stop.aborted) throw caught
      }
      await sleep(500, undefined, { signal: stop })
    }
  } catch (caught) {
    signal.throwIfAborted()
    if (!stalled.signal.aborted) throw caught
    return fail(
      'demo.stalled',
      `Nothing was committed for ${PATIENCE_MS / 1000} s; the run stands at “${recorder.detail?.detail ?? 'no answer'}”.\n${nodeLines(recorder.detail).join('\n')}`,
      'What each volunteer said follows; a machine under load may need fewer volunteers.',
    )
  } finally {
    clearTimeout(timer)
    progress.end()
  }
}

function nodeLines(detail: RunDetail | null): string[] {
  if (!detail) return ['  The server sent no word of the run.']
  return detail.grid.flatMap((replicas, stage) =>
    replicas.map((id, replica) => {
      const node = detail.nodes.find(({ nodeId }) => nodeId === id)
      const state = node
        ? `${node.phase}${node.progress === null ? '' : ` ${Math.round(100 * node.progress)}%`}, heard ${(node.silentMs / 1000).toFixed(1)} s ago`
        : 'missing'
      return `  stage ${stage} replica ${replica}: ${state}`
    }),
  )
}
