/**
 * Owns the carrying out of the stage machine's actions: on the GPU one at a time, over the links as they can take it.
 *
 * Everything an assignment starts belongs to its generation: once that is discarded, whatever is still under way ends
 * without effect.
 */
import { encodedRows } from '../codec/size.ts'
import { stageShards } from '../model/optimizerShards.ts'
import type { Assignment, NodePhase, NodeStats } from '../protocol/control.ts'
import { SkeinError, toErrorBody } from '../protocol/errors.ts'
import { decodeFrame, encodeFrame, type Frame } from '../protocol/frame.ts'
import { partnersOf, type Shard } from '../protocol/routing.ts'
import { advance, initialStageState } from './machine.ts'
import type { StageAction, StageEvent, TensorAddress } from './machineTypes.ts'
import type { StageModel } from './model.ts'
import { TokenSource, type Windows } from './tokenSource.ts'
import { loadWeights, readShard, saveShard } from './weights.ts'

/** From the first dial until every neighbour has to be connected. */
const CONNECT_DEADLINE_MS = 45_000
/** A lost link is often the first news of a leaving neighbour: the server gets this long to say so itself. */
const LINK_GRACE_MS = 4000

type Bytes = Uint8Array<ArrayBufferLike>
type Action = StageAction<Bytes>
type Event = StageEvent<Bytes>

/** What the executor needs of the worker around it. */
export interface ExecutorHost {
  apiUrl: string
  /** Bearer token of the current control session. */
  token(): string
  /** `progress` goes from 0 to 1 while kernels are compiled and measured. */
  createModel(assignment: Assignment, progress: (share: number) => void): Promise<StageModel>
  links: {
    setPartners(ids: readonly string[]): void
    opened(deadlineMs: number): Promise<void>
    send(nodeId: string, bytes: Uint8Array): Promise<void>
  }
  report(message: Extract<Action, { type: 'report' }>['message']): void
  phase(phase: NodePhase, progress: number | null): void
  assigned(assignment: Assignment): void
  failed(error: SkeinError): void
}

/** One assignment's belongings. */
interface Tenure {
  readonly assignment: Assignment
  readonly abort: AbortController
  readonly tokens: TokenSource
  model: StageModel | null
  shards: Shard[]
  /** From then on frames may be under way, and a lost link may have lost one. */
  prepared: boolean
}

export class StageExecutor {
  readonly stats: Omit<NodeStats, 'upBytes' | 'downBytes' | 'link'> = {
    tokens: 0,
    steps: 0,
    boundaryBytes: 0,
    boundaryTokens: 0,
  }
  readonly #host: ExecutorHost
  readonly #machine = initialStageState<Bytes>()
  #tenure: Tenure | null = null
  /** GPU work in order; its tail never rejects. */
  #gpu: Promise<void> = Promise.resolve()

  constructor(host: ExecutorHost) {
    this.#host = host
  }

  handle(event: Event): void {
    for (const action of advance(this.#machine, event)) this.#perform(action)
  }

  /** Bytes from a link: checked against what this stage expects before the machine hears of them. */
  receive(from: string, bytes: Uint8Array): void {
    const tenure = this.#tenure
    if (!tenure) return
    try {
      const frame = decodeFrame(bytes)
      if (frame.generation !== tenure.assignment.generation) return
      checkShape(frame, tenure)
      this.handle({ type: 'frame', from, address: frame, tensor: frame.payload })
    } catch (caught) {
      this.#fail(tenure, caught)
    }
  }

  /** A neighbour's link is gone; frames under way are lost, and only a new generation can make up for them. */
  linkLost(nodeId: string): void {
    const tenure = this.#tenure
    if (!tenure?.prepared) return
    const { members, stage, replica } = tenure.assignment
    if (!partnersOf(members, stage, replica).includes(nodeId)) return
    setTimeout(() => {
      if (this.#tenure !== tenure) return
      const message = 'The link to a neighbouring volunteer was lost.'
      this.#fail(
        tenure,
        new SkeinError({ code: 'net.link_lost', message, remedy: 'The run seats its volunteers anew.' }),
      )
    }, LINK_GRACE_MS)
  }

  /** The control line is down or the volunteer paused: the assignment is void. */
  drop(): void {
    this.handle({ type: 'server', message: { type: 'standby', reason: '' } })
  }

  /** Frees the GPU memory of the current assignment; resolves when the GPU is idle. */
  async close(): Promise<void> {
    this.drop()
    await this.#gpu
  }

  #perform(action: Action): void {
    if (action.type === 'report') {
      if (action.message.type === 'stepApplied') this.stats.steps += 1
      this.#host.report(action.message)
      return
    }
    if (action.type === 'prepare') return this.#prepare(action.assignment)
    if (action.type === 'discard') return this.#discard()
    const tenure = this.#tenure
    if (!tenure) return
    if (action.type === 'send') return this.#send(tenure, action)
    this.#enqueue(tenure, (model) => this.#onGpu(tenure, model, action))
  }

  #prepare(assignment: Assignment): void {
    const abort = new AbortController()
    const tokens = new TokenSource(this.#host.apiUrl, assignment, abort.signal)
    const tenure: Tenure = { assignment, abort, tokens, model: null, shards: [], prepared: false }
    this.#tenure = tenure
    const { generation, members, stage, replica } = assignment
    this.#host.assigned(assignment)
    const current = () => this.#tenure === tenure
    const load = async () => {
      this.#host.phase('compiling', null)
      const making = this.#host.createModel(assignment, (share) => {
        if (current()) this.#host.phase('compiling', share)
      })
      // The weights travel while the kernels are compiled and measured.
      let made = false
      const loading = loadWeights(this.#host.apiUrl, assignment, making, abort.signal, (share) => {
        if (made) this.#host.phase('loading', share)
      })
      loading.catch(() => undefined) // Awaited below, unless the model fails first.
      const model = await making
      made = true
      if (!current()) return model.destroy()
      tenure.model = model
      tenure.shards = stageShards(model.layout, members[stage]!.length, assignment.config.optimizer)
      this.#host.phase('loading', 0)
      await loading
    }
    // Dialling takes its time and needs neither GPU nor weights: it starts first. Waiting for it stays out of the GPU's
    // queue, where it would hold up the assignment after this one.
    this.#host.links.setPartners(partnersOf(members, stage, replica))
    this.#gpu = this.#gpu.then(() => (current() ? load() : undefined)).catch((caught) => this.#fail(tenure, caught))
    const connect = async () => {
      await this.#gpu
      if (!current()) return
      this.#host.phase('connecting', null)
      await this.#host.links.opened(CONNECT_DEADLINE_MS)
      if (!current()) return
      this.#host.phase('ready', null)
      tenure.prepared = true
      this.handle({ type: 'prepared', generation })
    }
    connect().catch((caught) => this.#fail(tenure, caught))
  }

  #discard(): void {
    const tenure = this.#tenure
    this.#tenure = null
    if (!tenure) return
    tenure.abort.abort(new Error('the assignment was withdrawn'))
    this.#gpu = this.#gpu.then(() => tenure.model?.destroy())
  }

  #enqueue(tenure: Tenure, work: (model: StageModel) => Promise<Event | null>): void {
    this.#gpu = this.#gpu
      .then(async () => {
        if (this.#tenure !== tenure || !tenure.model) return
        const event = await work(tenure.model)
        if (event && this.#tenure === tenure) this.handle(event)
      })
      .catch((caught) => this.#fail(tenure, caught))
  }

  async #onGpu(
    tenure: Tenure,
    model: StageModel,
    action: Exclude<Action, { type: 'report' | 'prepare' | 'discard' | 'send' }>,
  ): Promise<Event | null> {
    const { generation, replica, members, stage } = tenure.assignment
    switch (action.type) {
      case 'beginStep':
        this.#host.phase('training', null)
        model.beginStep()
        return null
      case 'compute':
        return this.#compute(tenure, model, action)
      case 'readGradient': {
        this.#host.phase('merging', null)
        const { shard } = action
        const values = await model.readGradient(tenure.shards[shard]!)
        return { type: 'gradientRead', generation, shard, tensor: bytesOf(values) }
      }
      case 'reduce': {
        const contributions = action.contributions.map(floatsOf)
        const squaredNorm = await model.reduceGradient(tenure.shards[action.shard]!, contributions)
        return { type: 'reduced', generation, squaredNorm }
      }
      case 'update': {
        const shard = tenure.shards[action.shard]!
        await model.update(shard, action)
        const shared = members[stage]!.length > 1
        const tensor = shared ? bytesOf(await model.read('parameters', shard)) : new Uint8Array(0)
        return { type: 'updated', generation, tensor }
      }
      case 'writeParameters': {
        const { shard, tensor } = action
        const { offset, length } = tenure.shards[shard]!
        if (length > 0) model.write('parameters', offset, floatsOf(tensor))
        return { type: 'parametersWritten', generation, shard }
      }
      case 'save': {
        this.#host.phase('checkpointing', null)
        const shard = tenure.shards[replica]!
        const { parts, parametersHash } = await readShard(model, shard)
        const chunks = await saveShard(this.#host.apiUrl, this.#host.token(), shard, parts, tenure.abort.signal)
        const { step } = action
        const message = { type: 'shardSaved', generation, step, shard: replica, chunks, parametersHash } as const
        return { type: 'saved', generation, message }
      }
    }
  }

  async #compute(
    tenure: Tenure,
    model: StageModel,
    { op, microbatch, step, input }: Extract<Action, { type: 'compute' }>,
  ): Promise<Event> {
    const { generation } = tenure.assignment
    const done = (output: Bytes | null, loss: { sum: number; tokens: number } | null = null): Event => ({
      type: 'computed',
      generation,
      op,
      microbatch,
      output,
      loss,
    })
    if (op === 'backward') {
      this.stats.tokens += this.#tokensOfMicrobatch(tenure)
      return done(await model.backward(microbatch, input!))
    }
    const training = op === 'forward' || op === 'forwardBackward'
    if (!training) this.#host.phase('evaluating', null)
    const { hasEmbedding, hasHead } = model.layout
    const windows = hasEmbedding || hasHead ? await this.#windows(tenure, training, step, microbatch) : null
    const stageInput = hasEmbedding ? { tokens: windows!.inputs } : { boundary: input! }
    switch (op) {
      case 'forward':
        return done(await model.forward(microbatch, stageInput))
      case 'forwardOnly':
        return done(await model.forwardOnly(stageInput))
      case 'evaluate': {
        const { targets } = windows!
        return done(null, { sum: await model.evaluate(stageInput, targets), tokens: targets.length })
      }
      case 'forwardBackward': {
        const { targets } = windows!
        this.stats.tokens += targets.length
        const { lossSum, inputGradient } = await model.forwardBackward(microbatch, stageInput, targets)
        return done(inputGradient, { sum: lossSum, tokens: targets.length })
      }
    }
  }

  #windows(tenure: Tenure, training: boolean, step: number, microbatch: number): Promise<Windows> {
    return training ? tenure.tokens.train(step, microbatch) : tenure.tokens.evaluation(microbatch)
  }

  #tokensOfMicrobatch({ assignment: { config } }: Tenure): number {
    return config.microbatch * config.model.blockSize
  }

  #send(tenure: Tenure, { to, address, tensor }: Extract<Action, { type: 'send' }>): void {
    const { config } = tenure.assignment
    const boundary = address.kind === 'activation' || address.kind === 'gradient'
    const columns = boundary ? config.model.dModel : tensor.byteLength / 4
    const rows = boundary ? rowsOf(tenure, tensor.byteLength) : 1
    if (boundary) {
      this.stats.boundaryBytes += tensor.byteLength
      this.stats.boundaryTokens += rows
    }
    const frame = encodeFrame({ ...address, codec: boundary ? config.codec : 'f32', rows, columns }, tensor)
    this.#host.links.send(to, frame).catch((caught) => {
      // A lost link is told by `linkLost`, with its grace; anything else has no better teller than this.
      if (caught instanceof SkeinError && caught.code === 'net.link_lost') this.linkLost(to)
      else this.#fail(tenure, caught)
    })
  }

  #fail(tenure: Tenure, caught: unknown): void {
    if (this.#tenure !== tenure) return
    const error = new SkeinError(toErrorBody(caught), { cause: caught })
    const { generation } = tenure.assignment
    this.#host.failed(error)
    this.handle({ type: 'failed', generation, message: { type: 'failed', generation, error: error.toJSON() } })
  }
}

function bytesOf(values: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

function floatsOf(bytes: Bytes): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4)
}

/** Rows of a boundary tensor from its encoded size: whole sequences, at most a microbatch of them; 0 when it has another. */
function rowsOf({ assignment: { config } }: Tenure, byteLength: number): number {
  const { blockSize, dModel } = config.model
  const rows = encodedRows(config.codec, byteLength, dModel) ?? 0
  return rows % blockSize === 0 && rows <= config.microbatch * blockSize ? rows : 0
}

function checkShape(frame: Frame & TensorAddress, tenure: Tenure): void {
  const { config } = tenure.assignment
  const { kind, codec, rows, columns, payload } = frame
  const boundary = kind === 'activation' || kind === 'gradient'
  const owner = kind === 'gradientShard' ? tenure.assignment.replica : frame.index
  const fits = boundary
    ? codec === config.codec &&
      columns === config.model.dModel &&
      rows > 0 &&
      rows === rowsOf(tenure, payload.byteLength)
    : codec === 'f32' && rows === 1 && payload.byteLength === 4 * (tenure.shards[owner]?.length ?? -1)
  if (fits) return
  throw new SkeinError({
    code: 'frame.shape',
    message: `A neighbour sent a ${kind} of ${rows} × ${columns} in ${payload.byteLength} bytes, which does not fit this stage.`,
    remedy: 'The run seats its volunteers anew; the sender is to reload its page.',
  })
}
