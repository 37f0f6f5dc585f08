/**
 * Owns the carrying out of the stage machine's actions: on the GPU one at a time, over the links as they can take it.
 *
 * What an assignment starts belongs to its tenure: once that is discarded, whatever is still under way ends without effect.
 */
import { LocalStage } from '../model/local/localStage.ts'
import type { Assignment, Holding, NodeStats, ServerMessage } from '../protocol/control.ts'
import { SkeinError, toErrorBody } from '../protocol/errors.ts'
import type { ExecutorHost } from './executorHost.ts'
import { addressKey, boundaryRows, frameShape, priorityOf, readFrame, tensorFrame, wantFrame } from './frames.ts'
import { changesVectors, performOnGpu } from './gpuWork.ts'
import { linkMeasures } from './linkMeasures.ts'
import { advance, holding, initialStageState } from './machine.ts'
import type { StageAction, StageEvent } from './machineTypes.ts'
import { type StageModel, sharedVectors } from './model.ts'
import { Neighbours } from './neighbours.ts'
import { Outbox } from './outbox.ts'
import { patiently } from './patience.ts'
import { digestOf, isClaimed, signReceipts, tallyOf } from './receiptWork.ts'
import { StepSpans } from './stepSpans.ts'
import { Tenure } from './tenure.ts'
import { TokenSource } from './tokenSource.ts'
import { warmUp } from './warmUp.ts'
import { loadWeights, readShard, saveShard } from './weights.ts'

const TICK_MS = 500
/** Faults that the server hears of in one step. */
const MOST_DISTRUSTED = 16

type Bytes = Uint8Array<ArrayBufferLike>
type Action = StageAction<Bytes>
type Event = StageEvent<Bytes>

export class StageExecutor {
  readonly stats: Omit<NodeStats, 'upBytes' | 'downBytes' | 'link'> = {
    tokens: 0,
    steps: 0,
    boundaryBytes: 0,
    boundaryTokens: 0,
  }
  /** Frames that were no frames, or of a shape that this stage does not have: dropped, and asked for again. */
  badFrames = 0
  readonly #host: ExecutorHost
  readonly #machine = initialStageState<Bytes>()
  readonly #outbox: Outbox
  readonly #spans: StepSpans
  readonly #timer: ReturnType<typeof setInterval>
  readonly #events: Event[] = []
  #handling = false
  #neighbours = new Neighbours()
  #nodeId = ''
  #tenure: Tenure | null = null
  /** GPU work in order; its tail never rejects. */
  #gpu: Promise<void> = Promise.resolve()
  /** Checkpoints on their way to the server, one after another; its tail never rejects. */
  #uploads: Promise<void> = Promise.resolve()
  /** Whose loss the machine heard of since the last tick; more would only repeat it. */
  readonly #lost = new Set<string>()
  /** Nodes and faults of theirs that the server was told of since the step began. */
  readonly #distrusted = new Set<string>()

  constructor(host: ExecutorHost) {
    this.#host = host
    this.#spans = new StepSpans(
      () => performance.now(),
      (message) => host.report(message),
    )
    this.#outbox = new Outbox(
      (nodeId, bytes, priority) => this.#spans.sending(host.links.send(nodeId, bytes, priority)),
      (nodeId, caught) => this.#unsent(nodeId, caught),
      () => performance.now(),
    )
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  /** What the server is told when a session begins anew. */
  get holding(): Holding | null {
    return holding(this.#machine)
  }

  handle(event: Event): void {
    this.#events.push(event)
    // What an action brings about at once waits until the actions before it are performed.
    if (this.#handling) return
    this.#handling = true
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) {
        if (next.type === 'server') this.#hear(next.message)
        for (const action of advance(this.#machine, next)) this.#perform(action)
      }
    } finally {
      this.#handling = false
    }
  }

  /** Bytes from a link: checked against what this stage expects before the machine hears of them. */
  receive(from: string, bytes: Uint8Array): void {
    const tenure = this.#tenure
    if (!tenure) return
    try {
      const frame = readFrame(bytes, tenure.assignment.generation, tenure.shape)
      if (frame?.type === 'frame') {
        const claimed = isClaimed(frame.address, tenure.assignment.config.steps)
        this.handle({ ...frame, from, digest: claimed ? digestOf(frame.tensor) : null })
      } else if (frame) this.handle({ ...frame, from })
    } catch (caught) {
      if (!(caught instanceof SkeinError)) return this.#fail(tenure, caught)
      this.badFrames += 1
      this.linkLost(from, caught)
    }
  }

  /** What was under way from or to a node may be lost; whoever needs it asks for it again. `error`: its bytes were no good. */
  linkLost(nodeId: string, error: SkeinError | null = null): void {
    if (error) this.#distrust(nodeId, error)
    this.#outbox.lost(nodeId)
    if (this.#lost.has(nodeId)) return
    this.#lost.add(nodeId)
    this.handle({ type: 'linkLost', node: nodeId })
  }

  /** The run's story is to name whoever sends what cannot be; a flood of it makes one line. */
  #distrust(nodeId: string, error: SkeinError): void {
    const generation = this.#tenure?.assignment.generation
    const key = `${nodeId} ${error.code}`
    if (generation === undefined || this.#distrusted.has(key) || this.#distrusted.size >= MOST_DISTRUSTED) return
    this.#distrusted.add(key)
    this.#host.report({ type: 'distrusted', generation, node: nodeId, error: error.toJSON() })
  }

  /** The volunteer paused: the assignment is given up. */
  drop(): void {
    this.handle({ type: 'server', message: { type: 'standby', reason: '' } })
  }

  /** Frees the GPU memory of the current assignment; resolves when the GPU is idle. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.drop()
    await this.#gpu
  }

  #tick(): void {
    this.#lost.clear()
    this.handle({ type: 'tick', now: performance.now() })
  }

  /** What a message of the server means beyond the machine: whom to connect to, what to show, what to count. */
  #hear(message: ServerMessage): void {
    if (message.type === 'welcome') this.#nodeId = message.nodeId
    const tenure = this.#tenure
    if (!tenure || !('generation' in message) || message.generation !== tenure.assignment.generation) return
    this.#connect(message)
    if (message.type === 'apply') {
      const others = [...message.receivers, ...message.owners.flat()].some((nodeId) => nodeId !== this.#nodeId)
      tenure.sharesParameters = others
    }
    if (message.type === 'step') {
      this.#outbox.forget()
      this.#spans.turn(message)
      this.#distrusted.clear()
      if (tenure.finishedStep !== null && message.committed >= tenure.finishedStep) {
        this.stats.steps += 1
        tenure.finishedStep = null
      }
    }
    if (message.type === 'revoked' && tenure.finishedStep === message.step) tenure.finishedStep = null
    const idle = message.type === 'step' ? message.leases.length === 0 : message.type === 'revoked'
    if (idle && tenure.complete) this.#host.phase('standby', null)
  }

  #connect(message: ServerMessage): void {
    const others = this.#neighbours.hear(message).filter((nodeId) => nodeId !== this.#nodeId)
    this.#host.links.setPartners(others)
  }

  #perform(action: Action): void {
    switch (action.type) {
      case 'report':
        return this.#report(action.message)
      case 'prepare':
        return this.#prepare(action.assignment)
      case 'discard':
        return this.#discard()
    }
    const tenure = this.#tenure
    if (!tenure) return
    switch (action.type) {
      case 'keep':
        return this.#keep(tenure, action.assignment)
      case 'send':
        return this.#send(tenure, action)
      case 'want':
        return void this.#outbox.send(
          action.to,
          `want ${addressKey(action.address)}`,
          'want',
          () => wantFrame(action.address),
          'boundary',
        )
      case 'save':
        return this.#save(tenure, action)
      case 'sign':
        return void this.#sign(tenure, action)
      case 'exhibit':
        return void this.#exhibit(tenure, action)
      case 'tally':
        return void tallyOf(tenure.assignment.generation, action)
          .then((event) => this.#tenure === tenure && this.handle(event))
          .catch((caught) => this.#fail(tenure, caught))
      default:
        return this.#enqueue(tenure, changesVectors(action), (_, generation) =>
          this.#spans.during(action, () =>
            performOnGpu(tenure, generation, action, { phase: this.#host.phase, stats: this.stats }),
          ),
        )
    }
  }

  #report(message: Extract<Action, { type: 'report' }>['message']): void {
    const tenure = this.#tenure
    if (tenure && message.type === 'finished' && tenure.training) tenure.finishedStep = message.step
    // Whoever said so before has told of its links since.
    const entered = tenure !== null && message.type === 'ready' && !tenure.complete
    if (entered) {
      tenure.complete = true
      this.#host.phase('ready', null)
    }
    if (message.type !== 'finished' && !entered) return this.#host.report(message)
    const links = linkMeasures(this.#machine, this.#host.links.speedOf.bind(this.#host.links))
    this.#host.report(links.length > 0 || message.type === 'finished' ? { ...message, links } : message)
  }

  #prepare(assignment: Assignment): void {
    const { config, generation, source, stage } = assignment
    const abort = new AbortController()
    const tokens = new TokenSource(this.#host.apiUrl, assignment, abort.signal)
    const tenure = new Tenure(assignment, frameShape(config, stage), tokens, abort)
    this.#tenure = tenure
    this.#neighbours = new Neighbours()
    this.#host.assigned(assignment)
    const current = () => this.#tenure === tenure
    const load = async () => {
      this.#host.phase('compiling', null)
      const creating = this.#host.createModel(assignment, (share) => {
        if (current()) this.#host.phase('compiling', share)
      })
      const making = creating.then((model) => (config.sync === 'local' ? new LocalStage(model, config) : model))
      // The weights travel while the kernels are compiled and measured.
      let made = false
      const progress = (share: number) => {
        if (made && current()) this.#host.phase('loading', share)
      }
      const loading =
        source === 'checkpoint'
          ? loadWeights(this.#host.apiUrl, assignment, making, abort.signal, progress, this.#host.chunks)
          : Promise.resolve()
      loading.catch(() => undefined) // Awaited below, unless the model fails first.
      const model = await making
      made = true
      if (!current()) return model.destroy()
      tenure.furnish(model)
      this.#host.phase('loading', 0)
      const expectedMs = await warmUp(model, config, 0)
      await loading
      if (!current()) return
      tenure.expectedMs = expectedMs
      const step = source === 'checkpoint' ? assignment.checkpoint.step : null
      this.handle({ type: 'prepared', generation, step, expectedMs })
    }
    this.#gpu = this.#gpu.then(() => (current() ? load() : undefined)).catch((caught) => this.#fail(tenure, caught))
  }

  #keep(tenure: Tenure, assignment: Assignment): void {
    tenure.assignment = assignment
    tenure.complete = false
    this.#neighbours = new Neighbours()
    this.#host.assigned(assignment)
    this.#host.phase('loading', null)
    // Behind whatever still changes the vectors.
    const { expectedMs } = tenure
    this.#enqueue(tenure, false, async (_, generation) => ({ type: 'prepared', generation, step: null, expectedMs }))
  }

  #discard(): void {
    const tenure = this.#tenure
    this.#tenure = null
    this.#neighbours = new Neighbours()
    this.#host.links.setPartners([])
    this.#outbox.forget()
    this.#spans.drop()
    if (!tenure) return
    tenure.abort.abort(new Error('the assignment was withdrawn'))
    this.#gpu = this.#gpu.then(() => tenure.model?.destroy())
  }

  /** `always`: even when the assignment goes on under another generation by the time it is this work's turn. */
  #enqueue(
    tenure: Tenure,
    always: boolean,
    work: (model: StageModel, generation: number) => Promise<Event | null>,
  ): void {
    const { generation } = tenure.assignment
    this.#gpu = this.#gpu
      .then(async () => {
        if (this.#tenure !== tenure || !tenure.model) return
        if (!always && tenure.assignment.generation !== generation) return
        const event = await work(tenure.model, generation)
        if (event && this.#tenure === tenure) this.handle(event)
      })
      .catch((caught) => {
        if (always || tenure.assignment.generation === generation) this.#fail(tenure, caught)
      })
  }

  /**
   * The GPU is busy only while it reads; training goes on while the chunks are uploaded. Where they cannot be, the server
   * misses this shard and has no checkpoint: that is no reason to give up what stands here.
   */
  #save(tenure: Tenure, { step, shard }: Extract<Action, { type: 'save' }>): void {
    this.#enqueue(tenure, false, async (model, generation) => {
      this.#host.phase('checkpointing', null)
      const range = tenure.shape.shards[shard]!
      const parts = await this.#spans.reading(() => readShard(model, range, sharedVectors(tenure.shape.config)))
      const { apiUrl, chunks: cache } = this.#host
      const upload = () => saveShard(apiUrl, this.#host.token(), range, parts, tenure.abort.signal, cache)
      const goesOn = () => this.#tenure === tenure && tenure.assignment.generation === generation
      this.#uploads = this.#uploads
        .then(async () => {
          if (!goesOn()) return
          const chunks = await patiently(upload, goesOn)
          const message = { type: 'shardSaved', generation, step, shard, chunks } as const
          if (goesOn()) this.handle({ type: 'saved', generation, message })
        })
        .catch((caught) => {
          if (goesOn()) this.#host.failed(new SkeinError(toErrorBody(caught), { cause: caught }))
        })
      return null
    })
  }

  /** A device that cannot sign goes on computing: its work counts, and earns nothing. */
  async #sign(tenure: Tenure, { step, version, entries, shares }: Extract<Action, { type: 'sign' }>): Promise<void> {
    const { runId: run, generation, stage } = tenure.assignment
    const about = { run, generation, step, leases: version, stage }
    const receipts = await signReceipts(about, entries, shares, this.#host.key).catch((caught: unknown) => {
      this.#host.failed(new SkeinError(toErrorBody(caught), { cause: caught }))
      return []
    })
    if (this.#tenure === tenure) this.handle({ type: 'signed', generation, step, version, receipts })
  }

  async #exhibit(tenure: Tenure, action: Extract<Action, { type: 'exhibit' }>): Promise<void> {
    const { audit, step, kind, tensor, taken = false } = action
    const { generation } = tenure.assignment
    try {
      await this.#host.exhibit(audit, kind, tensor, tenure.abort.signal)
    } catch (caught) {
      if (this.#tenure !== tenure || taken) return
      this.#host.report({
        type: 'declined',
        generation,
        step,
        audit,
        reason: toErrorBody(caught).message.slice(0, 200),
      })
    }
  }

  #send(tenure: Tenure, { to, address, tensor, again }: Extract<Action, { type: 'send' }>): void {
    const frame = () => tensorFrame(address, tensor, tenure.shape)
    if (!this.#outbox.send(to, addressKey(address), again ? 'again' : 'first', frame, priorityOf(address.kind))) return
    const rows = boundaryRows(address, tensor.byteLength, tenure.shape)
    if (rows === 0) return
    this.stats.boundaryBytes += tensor.byteLength
    this.stats.boundaryTokens += rows
  }

  /** A frame did not leave. Its receiver asks for it again; only what no link can carry is worth a word. */
  #unsent(nodeId: string, caught: unknown): void {
    const tenure = this.#tenure
    if (!tenure) return
    if (!(caught instanceof SkeinError)) return this.#fail(tenure, caught)
    if (caught.code === 'net.frame_size') return this.#host.failed(caught)
    if (caught.code !== 'net.closed' && caught.code !== 'net.queue_full') this.linkLost(nodeId)
  }

  #fail(tenure: Tenure, caught: unknown): void {
    if (this.#tenure !== tenure) return
    const error = new SkeinError(toErrorBody(caught), { cause: caught })
    const { generation } = tenure.assignment
    this.#host.failed(error)
    this.handle({ type: 'failed', generation, message: { type: 'failed', generation, error: error.toJSON() } })
  }
}
