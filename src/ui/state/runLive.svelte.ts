/** Owns one run as its page shows it: the detail, the committed steps and the speeds, fed by the event stream. */
import type { LiveEvent, NodeView, RunDetail, RunSummary, StepMetric } from '../../protocol/api.ts'
import { toErrorBody, type ErrorBody } from '../../protocol/errors.ts'
import { ApiError, type ApiClient } from '../api/client.ts'
import { followRun, type LiveOptions, type LiveStatus } from '../api/live.ts'
import { MetricLog } from '../console/metricLog.ts'
import { NodeRates } from '../console/rates.ts'

export class RunLive {
  readonly runId: string
  detail = $state.raw<RunDetail | null>(null)
  /** When `detail` arrived, in Unix milliseconds: silences grow from there. */
  detailAt = $state(0)
  status = $state<LiveStatus>('connecting')
  /** Set while there is nothing to show: the run is unknown, or the server does not answer. */
  error = $state.raw<ErrorBody | null>(null)

  readonly #api: Pick<ApiClient, 'run'>
  readonly #now: () => number
  readonly #log = new MetricLog()
  readonly #rates = new NodeRates()
  /** Raised whenever the log changed; the log itself is too long to be a proxy. */
  #version = $state(0)
  #unfollow = () => {}
  #looking = false

  constructor(runId: string, api: Pick<ApiClient, 'run'>, clock: () => number = Date.now) {
    this.runId = runId
    this.#api = api
    this.#now = clock
  }

  get metrics(): readonly StepMetric[] {
    void this.#version
    return this.#log.all
  }

  get version(): number {
    return this.#version
  }

  get last(): StepMetric | null {
    void this.#version
    return this.#log.last
  }

  /** The last committed step; metrics tell of it before the detail does. */
  get step(): number {
    return this.last?.step ?? this.detail?.step ?? 0
  }

  get best(): StepMetric | null {
    void this.#version
    return this.#log.best
  }

  /** Follows the run until the returned function is called. */
  follow(options: Pick<LiveOptions, 'open' | 'later'> = {}): () => void {
    this.#unfollow = followRun(this.runId, {
      ...options,
      onEvent: (event) => this.apply(event),
      onStatus: (status) => {
        this.status = status
        if (status === 'reconnecting' && !this.detail) void this.#askWhy()
      },
    })
    return () => this.#unfollow()
  }

  apply(event: LiveEvent): void {
    switch (event.type) {
      case 'snapshot':
        this.#log.replace(event.metrics)
        this.#version++
        this.show(event.detail)
        break
      case 'metric':
        this.#log.append(event.metric)
        this.#version++
        break
      case 'detail':
        this.show(event.detail)
        break
      case 'rollback':
        this.#log.rollBack(event.toStep)
        this.#version++
        break
    }
  }

  show(detail: RunDetail): void {
    const at = this.#now()
    this.#rates.observe(detail.nodes, at)
    this.detail = detail
    this.detailAt = at
    this.error = null
  }

  /** Takes a fresher summary, such as the answer to a cancel, before the stream tells of it. */
  update(summary: RunSummary): void {
    if (this.detail) this.detail = { ...this.detail, ...summary }
  }

  /** Tokens per second of a node's stage. */
  rateOf(node: NodeView, now: number): number | null {
    return this.#rates.of(node.nodeId, now)
  }

  /** An event stream hides why it failed; the plain request tells. An unknown run is not retried. */
  async #askWhy(): Promise<void> {
    if (this.#looking) return
    this.#looking = true
    try {
      this.show(await this.#api.run(this.runId))
    } catch (caught) {
      this.error = toErrorBody(caught)
      if (caught instanceof ApiError && caught.status === 404) this.#unfollow()
    } finally {
      this.#looking = false
    }
  }
}
