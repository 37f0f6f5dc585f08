/**
 * Owns the live system: feeds the orchestrator what happens and carries out what it decides, in order, on sockets and store.
 *
 * A step is in the database before any node hears of the next one, and so is the number of a generation; beyond that no
 * message waits for a write.
 */
import { randomBytes } from 'node:crypto'
import { runLayouts } from '../../src/model/layout.ts'
import { launchRequestSchema, type FleetView, type LaunchRequest, type LiveEvent, type NodeView, type RunDetail, type RunSummary } from '../../src/protocol/api.ts' // prettier-ignore
import { quoteRequestSchema, type Quote, type QuoteRequest } from '../../src/protocol/quote.ts'
import type { ClientMessage } from '../../src/protocol/control.ts'
import { fail, toErrorBody, type ErrorBody } from '../../src/protocol/errors.ts'
import type { AuditedRuns } from '../audits/desk/port.ts'
import { writeInitialCheckpoint } from '../checkpoints/initial.ts'
import { readBack } from '../checkpoints/readBack.ts'
import { recutCheckpoint } from '../checkpoints/recut.ts'
import type { Gateway } from '../control/gateway.ts'
import type { Hello } from '../control/parse.ts'
import type { BlobStore, CheckpointRecord, RunRecord } from '../db/store.ts'
import { decide, initialState } from '../orchestrator/orchestrator.ts'
import type { Timing } from '../orchestrator/timing.ts'
import type { OrchestratorCommand, OrchestratorEvent } from '../orchestrator/types.ts'
import { auditedRuns } from './auditedRuns.ts'
import { isForAuditor, tellAuditor, type Auditor } from './auditor.ts'
import { Books, type BooksOptions } from './books.ts'
import type { RunControl } from './port.ts'
import { checkReceipt } from './receiptCheck.ts'
import { Budgets, type BudgetsOptions } from './budgets.ts'
import { CLOUD_GPUS } from './cloudGpus.ts'
import { LiveFeed } from './liveFeed.ts'
import { Outbox, type Task } from './outbox.ts'
import { purseFor } from './purse.ts'
import { quoteFor } from './quote.ts'
import { RunStats } from './runStats.ts'
import { freshRun, settle, stageBytesOf, submission } from './submission.ts'
import { detailView, fleetView, nodeView, summaryView } from './views.ts'

/** Events kept in a run's view; the store keeps all. */
const EVENTS_SHOWN = 200
/** Devices whose place in a run is remembered over a restart, the newest ones. */
const RESERVATIONS_KEPT = 10_000

/** For a Worker that outlives its page by a moment. */
const LEFT: ErrorBody = {
  code: 'control.left',
  message: 'The page of this device said that it goes away.',
  remedy: 'Open the page again.',
}

export interface CoordinatorOptions extends BooksOptions, BudgetsOptions {
  blobs: BlobStore
  version: string
  timing?: Partial<Timing>
  /** Unix milliseconds. */
  now?: () => number
}

export type DistributedEvent = OrchestratorEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

export class Coordinator implements RunControl {
  readonly #options: CoordinatorOptions
  readonly #state
  readonly #now: () => number
  readonly #feed: LiveFeed
  readonly #stats = new RunStats()
  readonly #books: Books
  readonly #budgets: Budgets
  readonly #ticker: ReturnType<typeof setInterval>
  #gateway: Gateway | null = null
  #audits: Auditor | null = null
  /** What audits are told of the runs, and may do in them. */
  readonly audited: AuditedRuns
  readonly #outbox = new Outbox()
  /** By run: the generation that is in the store. */
  readonly #generations = new Map<string, number>()
  #closed = false

  constructor(options: CoordinatorOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#state = initialState(options.timing)
    this.#feed = new LiveFeed((runId) => this.detail(runId))
    this.#books = new Books(options, this.#now, this.#stats, this.#feed)
    this.#budgets = new Budgets(options, this.#outbox)
    const send: AuditedRuns['send'] = (nodeId, message) => this.#gateway?.send(nodeId, message)
    this.audited = auditedRuns(this.#state, (event) => this.#dispatch(event), send)
    this.#ticker = setInterval(() => this.#dispatch({ type: 'tick' }), 500)
  }

  /** Takes up every run that had not ended when the server last stopped, however it did. */
  async resume(gateway: Gateway, audits: Auditor | null = null): Promise<void> {
    this.#gateway = gateway
    this.#audits = audits
    for (const run of (await this.#options.store.runs()).reverse()) {
      if (run.state === 'finished' || run.state === 'cancelled' || run.state === 'failed') continue
      const checkpoint = await this.#options.store.latestCheckpoint(run.id)
      const dataset = await this.#options.store.dataset(run.datasetId)
      if (!checkpoint || !dataset) continue
      const purse = await this.#budgets.purseOf(run)
      if (purse === 'unknown') continue
      this.#stats.restore(run.id, await this.#options.store.metrics(run.id))
      this.#generations.set(run.id, run.generation)
      const { prepared: unapplied, recovered } = run
      const reservations = await this.#options.store.reservations(run.id, RESERVATIONS_KEPT)
      const before = { unapplied, recovered, reservations, purse, recovering: true }
      this.#dispatch({ type: 'runSubmitted', run: { ...submission(run, dataset, checkpoint), ...before } })
    }
    await this.#outbox.settled()
  }

  nodeJoined(nodeId: string, hello: Pick<Hello, 'deviceId' | 'kind' | 'adapter' | 'memoryBytes' | 'holding'>): void {
    const { deviceId, kind, adapter, memoryBytes, holding } = hello
    this.#dispatch({ type: 'nodeJoined', node: { id: nodeId, deviceId, kind, adapter, memoryBytes, holding } })
  }

  nodeSaid(nodeId: string, message: ClientMessage): void {
    if (message.type === 'receipt') {
      const deviceId = this.#state.nodes.get(nodeId)?.deviceId
      if (deviceId === undefined) return
      this.#dispatch({ type: 'receiptHeard', nodeId, message, ...checkReceipt(message, deviceId) })
      return
    }
    if (message.type === 'recomputed' || message.type === 'declined') this.#audits?.said(nodeId, message)
    if (message.type === 'heartbeat') {
      const node = this.#state.nodes.get(nodeId)
      if (node?.runId) {
        this.#stats.traffic(node.runId, node.stats, message.stats)
        this.#feed.touch(node.runId)
      } else if (node)
        // A waiting run shows those that are back, and they are not to look silent.
        for (const run of this.#state.runs.values()) if (run.reservations.has(node.deviceId)) this.#feed.touch(run.id)
    }
    this.#dispatch({ type: 'message', nodeId, message })
  }

  nodeDetached(nodeId: string): void {
    this.#dispatch({ type: 'nodeDetached', nodeId })
  }

  nodeResumed(nodeId: string): void {
    this.#dispatch({ type: 'nodeResumed', nodeId })
  }

  nodeUnresponsive(nodeId: string): void {
    this.#dispatch({ type: 'nodeUnresponsive', nodeId })
  }

  nodeLeft(nodeId: string): void {
    this.nodeSaid(nodeId, { type: 'leaving' })
    this.#gateway?.disconnect(nodeId, LEFT)
  }

  async launch(request: LaunchRequest): Promise<RunSummary> {
    const { store, blobs, log } = this.#options
    const { name, datasetId, config: asked, payment: offered } = launchRequestSchema.parse(request)
    const { config, dataset } = await settle(store, datasetId, asked)
    const now = this.#now()
    const id = `r${randomBytes(6).toString('hex')}`
    const payment = await this.#budgets.offered(id, offered)
    const stages = await writeInitialCheckpoint(blobs, config)
    const bytes = await readBack(blobs, stages, runLayouts(config))
    const run = freshRun({ id, name, datasetId, config, payment, createdAt: now })
    const checkpoint = { runId: id, step: 0, stages, bytes, createdAt: now }
    await store.insertRun(run, checkpoint)
    log.info({ runId: id, name }, 'run launched')
    this.#generations.set(id, 0)
    const purse = purseFor(run, 0n)
    const reservations = new Map<string, number>()
    const before = { unapplied: null, recovered: 0, reservations, purse, recovering: false }
    this.#dispatch({ type: 'runSubmitted', run: { ...submission(run, dataset, checkpoint), ...before } })
    await this.#outbox.settled(id)
    return this.#summary((await store.run(id))!)
  }

  async quote(request: QuoteRequest): Promise<Quote> {
    const { datasetId, config: asked, planckPerPflop } = quoteRequestSchema.parse(request)
    const { config } = await settle(this.#options.store, datasetId, asked)
    const speeds = [...this.#state.nodes.values()]
      .filter(({ paused, suspect, adapter }) => !paused && !suspect && !(config.requireHardware && adapter.software))
      .map(({ deviceId }) => this.#stats.speeds.of(deviceId))
    return quoteFor(config, planckPerPflop === undefined ? null : BigInt(planckPerPflop), speeds, CLOUD_GPUS)
  }

  cancel(runId: string): Promise<RunSummary> {
    return this.#tell(runId, { type: 'runCancelled', runId })
  }

  async raiseBudget(runId: string, budget: string): Promise<RunSummary> {
    const { name } = await this.#record(runId)
    if (!this.#state.runs.has(runId)) return ended(name)
    const most = await this.#budgets.raise(runId, budget)
    return this.#tell(runId, { type: 'budgetRaised', runId, budget: most })
  }

  /** A finalized block says that the run's deposit address holds this much. */
  async deposited(runId: string, planck: bigint): Promise<void> {
    const most = await this.#budgets.deposited(runId, planck)
    if (most === null) return
    this.#dispatch({ type: 'budgetRaised', runId, budget: most })
    await this.#outbox.settled(runId)
    this.#feed.touch(runId)
  }

  /** Runs under way whose money comes to an address of their own. */
  depositors(): Promise<{ runId: string; wallet: string }[]> {
    return this.#budgets.depositors(this.#state.runs.keys())
  }

  /** Runs that have ended, whose addresses may still hold something. */
  endedDepositors(): ReturnType<Budgets['ended']> {
    return this.#budgets.ended()
  }

  checkpoint(runId: string): Promise<RunSummary> {
    return this.#tell(runId, { type: 'checkpointRequested', runId })
  }

  async #tell(runId: string, event: DistributedEvent): Promise<RunSummary> {
    const run = await this.#record(runId)
    if (!this.#state.runs.has(runId)) return ended(run.name)
    this.#dispatch(event)
    await this.#outbox.settled(runId)
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
    // Counted first: an event told meanwhile is then among those that are shown.
    const told = await store.eventCount(runId)
    const events = await store.events(runId, EVENTS_SHOWN)
    const story = { events, olderEvents: Math.max(0, told - events.length) }
    return detailView(summary, this.#state, record.generation, checkpoints, story, this.#now())
  }

  nodes(): NodeView[] {
    return [...this.#state.nodes.values()].map((node) => nodeView(node, this.#state, this.#now()))
  }

  fleet(): FleetView {
    return fleetView(this.#state, this.#options.version)
  }

  async subscribe(runId: string, listener: (event: LiveEvent) => void): Promise<() => void> {
    await this.#record(runId)
    // The snapshot and the first change after it must meet without a gap: no commit comes between two writes.
    return this.#outbox.write(runId, async () => {
      const metrics = await this.#options.store.metrics(runId)
      const detail = await this.detail(runId)
      const unsubscribe = this.#feed.subscribe(runId, listener)
      listener({ type: 'snapshot', detail, metrics })
      return unsubscribe
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#ticker)
    this.#feed.close()
    await this.#outbox.drained()
  }

  #dispatch(event: DistributedEvent): void {
    if (this.#closed) return
    const commands = decide(this.#state, { ...event, now: this.#now() } as OrchestratorEvent)
    if (commands.length === 0) return
    const broken = new Set<string>()
    this.#outbox.carryOut(commands.map((command) => this.#task(command, broken)))
  }

  /**
   * What a command refers to may have moved on by its turn, so it is looked up here. `broken` holds the runs of this
   * decision whose books could not be written: nobody is to hear what would follow.
   */
  #task(command: OrchestratorCommand, broken: Set<string>): Task {
    if (command.type === 'send' || command.type === 'disconnect') {
      const { nodeId } = command
      const runId = this.#state.nodes.get(nodeId)?.runId ?? null
      const perform = () => {
        if (runId !== null && broken.has(runId)) return
        if (command.type === 'send') this.#gateway?.send(nodeId, command.message)
        else this.#gateway?.disconnect(nodeId, command.error)
      }
      return { keys: runId === null ? [nodeId] : [nodeId, runId], perform }
    }
    const { runId } = command
    const keys = [runId]
    if (isForAuditor(command)) return { keys, perform: () => tellAuditor(this.#audits, command) }
    // Reading back takes long.
    if (command.type === 'publishCheckpoint')
      return { keys, perform: () => this.#outbox.aside(this.#publish(runId, command.step, command.stages)) }
    if (command.type === 'recutCheckpoint')
      return { keys, perform: () => this.#outbox.aside(this.#recut(runId, command.step, command.partition)) }
    const run = this.#state.runs.get(runId)
    const perform = () => {
      if (broken.has(runId)) return
      const written = this.#outbox
        .write(runId, () => this.#books.write(command, change))
        .then(() => {
          if (command.type !== 'prepareStep') return
          const { generation, metric } = command
          this.#dispatch({ type: 'stepPrepared', runId, generation, step: metric.step })
        })
        .catch((caught: unknown) => {
          this.#options.log.error({ err: caught, runId, command: command.type }, 'a command could not be carried out')
          if (!mustHold && command.type !== 'prepareStep') return
          broken.add(runId)
          this.#dispatch({ type: 'runCancelled', runId })
        })
      if (mustHold) return written
    }
    // Frames of a generation that the store does not know would pass for those of the one that a restart makes.
    const renumbered = command.type === 'runChanged' && run && this.#generations.get(runId) !== run.generation
    const words = run && { state: run.state, detail: run.detail }
    const change = renumbered ? { ...words, generation: run.generation } : words
    const mustHold = command.type === 'commitStep' || renumbered
    if (command.type === 'runEnded') this.#generations.delete(runId)
    if (renumbered) this.#generations.set(runId, run.generation)
    return { keys, perform }
  }

  async #publish(runId: string, step: number, stages: CheckpointRecord['stages']): Promise<void> {
    const { store, blobs, log } = this.#options
    try {
      const { config, rollbacks } = await this.#record(runId)
      const bytes = await readBack(blobs, stages, runLayouts(config))
      await this.#outbox.write(runId, async () => {
        // Training goes on while chunks are read back, and may have been set back meanwhile.
        if ((await this.#record(runId)).rollbacks !== rollbacks)
          fail('run.checkpoint_void', 'The run was set back meanwhile.', 'The next checkpoint is made in due time.')
        await store.insertCheckpoint({ runId, step, stages, bytes, createdAt: this.#now() })
      })
      this.#dispatch({ type: 'checkpointPublished', runId, checkpoint: { step, stages } })
      this.#feed.touch(runId)
    } catch (caught) {
      log.error({ err: caught, runId, step }, 'checkpoint refused')
      this.#dispatch({ type: 'checkpointRefused', runId, step, error: toErrorBody(caught) })
    }
  }

  async #recut(runId: string, step: number, partition: number[]): Promise<void> {
    const { store, blobs, log } = this.#options
    try {
      const { config: before } = await this.#record(runId)
      const last = await store.latestCheckpoint(runId)
      if (last?.step !== step)
        return fail(
          'run.checkpoint_void',
          `Step ${step} is not the last checkpoint.`,
          'A later one is cut in its place.',
        )
      const config = { ...before, partition }
      const stages = await recutCheckpoint(blobs, last.stages, config, partition)
      const bytes = await readBack(blobs, stages, runLayouts(config))
      await this.#outbox.write(runId, () => store.recut(config, { ...last, stages, bytes }))
      this.#dispatch({
        type: 'checkpointRecut',
        runId,
        config,
        stageBytes: stageBytesOf(config),
        checkpoint: { step, stages },
      })
      this.#feed.touch(runId)
    } catch (caught) {
      log.error({ err: caught, runId, step, partition }, 'checkpoint not cut anew')
      this.#dispatch({ type: 'recutRefused', runId, error: toErrorBody(caught) })
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
    const credit = record.payment ? await this.#options.creditOf(record.id).catch(() => null) : null
    const refunds = record.payment?.deposit ? await this.#options.deposits.refundsOf(record.id) : []
    return summaryView(record, this.#stats, credit, this.#options.deposits.addressOf, refunds)
  }
}

function ended(name: string): never {
  return fail('run.ended', `Run ${name} has already ended.`, 'Launch a new run with the same configuration.')
}
