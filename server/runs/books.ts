/** Owns what decisions leave behind: rows in the store, figures, and word to those who watch. */
import { workIn } from '../../src/protocol/receipt.ts'
import type { RunRecord, Store } from '../db/store.ts'
import type { Metrics } from '../metrics.ts'
import type { OrchestratorCommand } from '../orchestrator/types.ts'
import type { LiveFeed } from './liveFeed.ts'
import type { RunStats } from './runStats.ts'

/** Commands that write. */
export type Booked = Exclude<
  OrchestratorCommand,
  { type: 'send' | 'disconnect' | 'publishCheckpoint' | 'recutCheckpoint' | 'claimed' | 'disputed' | 'scored' }
>

export interface BooksOptions {
  store: Store
  metrics: Metrics
  log: { info(fields: object, text: string): void; error(fields: object, text: string): void }
}

export class Books {
  readonly #options: BooksOptions
  readonly #now: () => number
  readonly #stats: RunStats
  readonly #feed: LiveFeed

  constructor(options: BooksOptions, now: () => number, stats: RunStats, feed: LiveFeed) {
    this.#options = options
    this.#now = now
    this.#stats = stats
    this.#feed = feed
  }

  /**
   * @param change what of the live run is kept beside its commits, as it was when `command` was decided
   * @throws SkeinError what the store says
   */
  async write(command: Booked, change: Partial<RunRecord> | undefined): Promise<void> {
    const { store, metrics, log } = this.#options
    const { runId } = command
    switch (command.type) {
      case 'prepareStep': {
        const { generation, lr, scale, metric, work } = command
        await store.prepareStep(runId, { generation, lr, scale, metric, work })
        return
      }
      case 'commitStep':
        await store.commitStep(runId, command.metric, command.work)
        this.#stats.committed(runId, command.metric)
        this.#stats.speeds.committed(workIn(command.work), command.metric.durationMs)
        metrics.stepCommitted(command.metric.tokens, command.metric.durationMs)
        metrics.claimed(command.claims)
        metrics.credited(workIn(command.work).reduce((sum, { microbatches }) => sum + microbatches, 0))
        this.#feed.emit(runId, { type: 'metric', metric: command.metric })
        return
      case 'rollBack':
        await store.rollBack(runId, command.toStep)
        this.#stats.rolledBack(runId, command.toStep)
        metrics.rolledBack()
        this.#feed.emit(runId, { type: 'rollback', toStep: command.toStep })
        break
      case 'runChanged': {
        if (!change) return
        const startedAt = (await store.run(runId))?.startedAt ?? (change.state === 'training' ? this.#now() : null)
        await store.updateRun(runId, { ...change, startedAt })
        break
      }
      case 'runEnded': {
        const { state, valLoss } = command
        const boundaryBytesPerToken = this.#stats.boundaryBytesPerToken(runId)
        const last = (await store.events(runId, 1))[0]?.text ?? ''
        await store.updateRun(runId, { state, detail: last, valLoss, boundaryBytesPerToken, finishedAt: this.#now() })
        await store.dropReservations(runId)
        log.info({ runId, state, valLoss }, 'run ended')
        break
      }
      case 'reserve':
        await store.reserve({ runId, deviceId: command.deviceId, stage: command.stage, at: this.#now() })
        return
      case 'recovered':
        await store.addRecovered(runId, command.leases)
        metrics.recovered(command.leases, command.cause)
        break
      case 'tell':
        await store.appendEvent(runId, { at: this.#now(), step: command.step, text: command.text })
        log.info({ runId, step: command.step }, command.text)
    }
    this.#feed.touch(runId)
  }
}
