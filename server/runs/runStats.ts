/** Owns the figures of runs that are measured, not stored: speed over the last steps and bytes a token costs at a boundary. */
import type { StepMetric } from '../../src/protocol/api.ts'
import type { NodeStats } from '../../src/protocol/control.ts'
import { DeviceSpeeds } from './deviceSpeeds.ts'

/** Steps over which the speed is averaged. */
const SPEED_WINDOW = 20

interface Figures {
  recent: StepMetric[]
  boundaryBytes: number
  boundaryTokens: number
}

export class RunStats {
  readonly speeds = new DeviceSpeeds()
  readonly #runs = new Map<string, Figures>()

  knows(runId: string): boolean {
    return this.#runs.has(runId)
  }

  restore(runId: string, metrics: readonly StepMetric[]): void {
    this.#runs.set(runId, { recent: metrics.slice(-SPEED_WINDOW), boundaryBytes: 0, boundaryTokens: 0 })
  }

  committed(runId: string, metric: StepMetric): void {
    const { recent } = this.#of(runId)
    recent.push(metric)
    if (recent.length > SPEED_WINDOW) recent.shift()
  }

  rolledBack(runId: string, toStep: number): void {
    const figures = this.#of(runId)
    figures.recent = figures.recent.filter((metric) => metric.step <= toStep)
  }

  /** Adds what a node sent over boundaries since its last heartbeat. */
  traffic(runId: string, before: NodeStats, after: NodeStats): void {
    const figures = this.#of(runId)
    figures.boundaryBytes += Math.max(0, after.boundaryBytes - before.boundaryBytes)
    figures.boundaryTokens += Math.max(0, after.boundaryTokens - before.boundaryTokens)
  }

  lastLoss(runId: string): number | null {
    return this.#of(runId).recent.at(-1)?.loss ?? null
  }

  /** Tokens of the last steps over the time they took, idle time between steps left out. */
  tokensPerSecond(runId: string): number | null {
    const { recent } = this.#of(runId)
    const ms = recent.reduce((sum, metric) => sum + metric.durationMs, 0)
    return ms > 0 ? (1000 * recent.reduce((sum, metric) => sum + metric.tokens, 0)) / ms : null
  }

  /** Payload bytes that one token costs at one boundary in one direction; null for a run of one stage. */
  boundaryBytesPerToken(runId: string): number | null {
    const { boundaryBytes, boundaryTokens } = this.#of(runId)
    return boundaryTokens > 0 ? boundaryBytes / boundaryTokens : null
  }

  #of(runId: string): Figures {
    const known = this.#runs.get(runId)
    if (known) return known
    const fresh: Figures = { recent: [], boundaryBytes: 0, boundaryTokens: 0 }
    this.#runs.set(runId, fresh)
    return fresh
  }
}
