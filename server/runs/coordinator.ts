/**
 * Owns the live system: feeds the orchestrator what happens and carries out what it decides, in order, on sockets and store.
 *
 * Commands are carried out one after another, so a step is in the database before any node hears of the next one.
 */
import { randomBytes } from 'node:crypto'
import { evalWindowStarts } from '../../src/formats/windows.ts'
import { validateRunConfig } from '../../src/model/config.ts'
import { stageLayouts } from '../../src/model/layout.ts'
import { estimateStageMemory } from '../../src/model/memory.ts'
import type { FleetView, LaunchRequest, LiveEvent, NodeView, RunDetail, RunSummary } from '../../src/protocol/api.ts'
import { launchRequestSchema } from '../../src/protocol/api.ts'
import type { ClientMessage } from '../../src/protocol/control.ts'
import { fail, toErrorBody } from '../../src/protocol/errors.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import { writeInitialCheckpoint } from '../checkpoints/initial.ts'
import { readBack } from '../checkpoints/readBack.ts'
import type { Gateway } from '../control/gateway.ts'
import type { BlobStore, CheckpointRecord, RunRecord, Store } from '../db/store.ts'
import type { Metrics } from '../metrics.ts'
import { decide, initialState } from '../orchestrator/orchestrator.ts'
import type {
  DatasetRef,
  OrchestratorCommand,
  OrchestratorEvent,
  RunSubmission,
  Timing,
} from '../orchestrator/types.ts'
import type { RunControl } from './port.ts'
import { LiveFeed } from './liveFeed.ts'
import { RunStats } from './runStats.ts'
import { detailView, fleetView, nodeView, summaryView } from './views.ts'

/** Events kept in a run's view; the store keeps all. */
const EVENTS_SHOWN = 200

export interface CoordinatorOptions {
  store: Store
  blobs: BlobStore
  metrics: Metrics
  log: { info(fields: object, text: string): void; error(fields: object, text: string): void }
  version: string
  timing?: Partial<Timing>
  /** Unix milliseconds. */
  now?: () => number
}

type DistributedEvent = OrchestratorEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

export class Coordinator implements RunControl {
  readonly #options: CoordinatorOptions
  readonly #state
  readonly #now: () => number
  readonly #feed: LiveFeed
  readonly #stats = new RunStats()
  readonly #ticker: ReturnType<typeof setInterval>
  #gateway: Gateway | null = null
  #outbox: Promise<void> = Promise.resolve()
  #closed = false

  constructor(options: CoordinatorOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#state = initialState(options.timing)
    this.#feed = new LiveFeed((runId) => this.detail(runId))
    this.#ticker = setInterval(() => this.#dispatch({ type: 'tick' }), 500)
  }

  /** Takes up every run that had not ended when the server last stopped, from its last checkpoint. */
  async resume(gateway: Gateway): Promise<void> {
    this.#gateway = gateway
    for (const run of (await this.#options.store.runs()).reverse()) {
      if (run.state === 'finished' || run.state === 'cancelled' || run.state === 'failed') continue
      const checkpoint = await this.#options.store.latestCheckpoint(run.id)
      const dataset = await this.#options.store.dataset(run.datasetId)
      if (!checkpoint || !dataset) continue
      this.#stats.restore(run.id, await this.#options.store.metrics(run.id))
      this.#dispatch({ type: 'runSubmitted', run: submission(run, dataset, checkpoint) })
    }
    await this.#outbox
  }

  nodeJoined(nodeId: string, hello: Extract<ClientMessage, { type: 'hello' }>): void {
    const { deviceId, kind, adapter, memoryBytes } = hello
    this.#dispatch({ type: 'nodeJoined', node: { id: nodeId, deviceId, kind, adapter, memoryBytes } })
  }

  nodeSaid(nodeId: string, message: ClientMessage): void {
    if (message.type === 'heartbeat') {
      const node = this.#state.nodes.get(nodeId)
      if (node?.runId) this.#stats.traffic(node.runId, node.stats, message.stats)
      // A waiting run shows its survivors too, and they are not to look silent.
      for (const run of this.#state.runs.values()) if (run.lastSeats.has(nodeId)) this.#feed.touch(run.id)
    }
    this.#dispatch({ type: 'message', nodeId, message })
  }

  nodeLeft(nodeId: string): void {
    this.#dispatch({ type: 'nodeLeft', nodeId, reason: 'its connection closed' })
  }

  async launch(request: LaunchRequest): Promise<RunSummary> {
    const { store, blobs, log } = this.#options
    const { name, datasetId, config: asked } = launchRequestSchema.parse(request)
    const dataset = await store.dataset(datasetId)
    if (!dataset)
      return fail(
        'dataset.unknown',
        `There is no dataset ${datasetId}.`,
        'Upload a text first and use the id in the answer.',
      )
    const config: RunConfig = {
      ...asked,
      model: { ...asked.model, vocabSize: asked.model.vocabSize ?? dataset.vocabSize },
    }
    validateRunConfig(config, dataset)
    const now = this.#now()
    const id = `r${randomBytes(6).toString('hex')}`
    const stages = await writeInitialCheckpoint(blobs, config)
    const bytes = await readBack(blobs, stages, stageLayouts(config.model, config.stages))
    const run: RunRecord = {
      id,
      name,
      datasetId,
      config,
      state: 'waiting',
      detail: 'Waiting for volunteers.',
      step: 0,
      generation: 0,
      valLoss: null,
      rollbacks: 0,
      boundaryBytesPerToken: null,
      createdAt: now,
      startedAt: null,
      finishedAt: null,
    }
    const checkpoint = { runId: id, step: 0, stages, bytes, createdAt: now }
    await store.insertRun(run, checkpoint)
    log.info({ runId: id, name }, 'run launched')
    this.#dispatch({ type: 'runSubmitted', run: submission(run, dataset, checkpoint) })
    await this.#outbox
    return this.#summary((await store.run(id))!)
  }

  async cancel(runId: string): Promise<RunSummary> {
    const run = await this.#record(runId)
    if (!this.#state.runs.has(runId))
      return fail('run.ended', `Run ${run.name} has already ended.`, 'Launch a new run with the same configuration.')
    this.#dispatch({ type: 'runCancelled', runId })
    await this.#outbox
    return this.#summary(await this.#record(runId))
  }

  async summaries(): Promise<RunSummary[]> {
    return Promise.all((await this.#options.store.runs()).map((run) => this.#summary(run)))
  }

  async detail(runId: string): Promise<RunDetail> {
    const { store } = this.#options
    const record = await this.#record(runId)
    const summary = await this.#summary(record)
    const checkpoints = await store.checkpoints(runId)
    const events = await store.events(runId, EVENTS_SHOWN)
    return detailView(summary, this.#state, record.generation, checkpoints, events, this.#now())
  }

  nodes(): NodeView[] {
    return [...this.#state.nodes.values()].map((node) => nodeView(node, this.#state, this.#now()))
  }

  fleet(): FleetView {
    return fleetView(this.#state, this.#options.version)
  }

  async subscribe(runId: string, listener: (event: LiveEvent) => void): Promise<() => void> {
    const detail = await this.detail(runId)
    // The snapshot and the first change after it must meet without a gap: both are taken behind the outbox.
    await this.#outbox
    const metrics = await this.#options.store.metrics(runId)
    const unsubscribe = this.#feed.subscribe(runId, listener)
    listener({ type: 'snapshot', detail, metrics })
    return unsubscribe
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#ticker)
    this.#feed.close()
    await this.#outbox
  }

  #dispatch(event: DistributedEvent): void {
    if (this.#closed) return
    const commands = decide(this.#state, { ...event, now: this.#now() } as OrchestratorEvent)
    if (commands.length === 0) return
    // What a command refers to may have moved on by its turn in the outbox, so records are taken here.
    const records = new Map([...this.#state.runs].map(([id, run]) => [id, recordChange(run)]))
    this.#outbox = this.#outbox.then(async () => {
      for (const command of commands) {
        try {
          await this.#carryOut(command, records)
        } catch (caught) {
          this.#options.log.error({ err: caught, command: command.type }, 'a command could not be carried out')
          if (command.type === 'commitStep') this.#dispatch({ type: 'runCancelled', runId: command.runId })
        }
      }
    })
  }

  async #carryOut(
    command: OrchestratorCommand,
    records: ReadonlyMap<string, ReturnType<typeof recordChange>>,
  ): Promise<void> {
    const { store, metrics, log } = this.#options
    switch (command.type) {
      case 'send':
        this.#gateway?.send(command.nodeId, command.message)
        return
      case 'disconnect':
        this.#gateway?.disconnect(command.nodeId, command.error)
        return
      case 'commitStep':
        await store.commitStep(command.runId, command.metric)
        this.#stats.committed(command.runId, command.metric)
        metrics.stepCommitted(command.metric.tokens, command.metric.durationMs)
        this.#feed.emit(command.runId, { type: 'metric', metric: command.metric })
        return
      case 'publishCheckpoint':
        // Reading back takes long; the run waits for it, other runs do not.
        void this.#publish(command.runId, command.step, command.stages)
        return
      case 'rollBack':
        await store.rollBack(command.runId, command.toStep)
        this.#stats.rolledBack(command.runId, command.toStep)
        metrics.rolledBack()
        this.#feed.emit(command.runId, { type: 'rollback', toStep: command.toStep })
        this.#feed.touch(command.runId)
        return
      case 'runChanged': {
        const change = records.get(command.runId)
        if (!change) return
        const startedAt =
          (await store.run(command.runId))?.startedAt ?? (change.state === 'training' ? this.#now() : null)
        await store.updateRun(command.runId, { ...change, startedAt })
        this.#feed.touch(command.runId)
        return
      }
      case 'runEnded': {
        const { runId, state, valLoss } = command
        const boundaryBytesPerToken = this.#stats.boundaryBytesPerToken(runId)
        const last = (await store.events(runId, 1))[0]?.text ?? ''
        await store.updateRun(runId, { state, detail: last, valLoss, boundaryBytesPerToken, finishedAt: this.#now() })
        log.info({ runId, state, valLoss }, 'run ended')
        this.#feed.touch(runId)
        return
      }
      case 'tell':
        await store.appendEvent(command.runId, { at: this.#now(), step: command.step, text: command.text })
        log.info({ runId: command.runId, step: command.step }, command.text)
        this.#feed.touch(command.runId)
    }
  }

  async #publish(runId: string, step: number, stages: CheckpointRecord['stages']): Promise<void> {
    const { store, blobs, log } = this.#options
    try {
      const { config } = await this.#record(runId)
      const bytes = await readBack(blobs, stages, stageLayouts(config.model, config.stages))
      await store.insertCheckpoint({ runId, step, stages, bytes, createdAt: this.#now() })
      this.#dispatch({ type: 'checkpointPublished', runId, checkpoint: { step, stages } })
      this.#feed.touch(runId)
    } catch (caught) {
      log.error({ err: caught, runId, step }, 'checkpoint refused')
      this.#dispatch({ type: 'checkpointRefused', runId, step, error: toErrorBody(caught) })
    }
  }

  async #record(runId: string): Promise<RunRecord> {
    const run = await this.#options.store.run(runId)
    return (
      run ?? fail('run.unknown', `There is no run ${runId.slice(0, 64)}.`, 'The list of runs has the ids that exist.')
    )
  }

  async #summary(record: RunRecord): Promise<RunSummary> {
    if (!this.#stats.knows(record.id)) this.#stats.restore(record.id, await this.#options.store.metrics(record.id))
    return summaryView(record, this.#stats)
  }
}

function submission(run: RunRecord, dataset: DatasetRef, checkpoint: CheckpointRecord): RunSubmission {
  const { id, name, config, generation, step } = run
  const { tokens, trainTokens } = dataset
  return {
    id,
    name,
    config,
    generation,
    step,
    dataset: { id: dataset.id, tokens, trainTokens },
    checkpoint: { step: checkpoint.step, stages: checkpoint.stages },
    stageBytes: Array.from({ length: config.stages }, (_, stage) => estimateStageMemory(config, stage).total),
    evalWindows: evalWindowStarts(dataset, config.model.blockSize, config.evalTokens).length,
  }
}

/** What of a live run the store keeps besides its commits. */
function recordChange({
  state,
  detail,
  generation,
}: {
  state: RunRecord['state']
  detail: string
  generation: number
}) {
  return { state, detail, generation }
}
