/** Owns a simulated world: one server, its nodes, the wires between them, the store behind it, and what goes on. */
import type { AuditPolicy } from '../../server/audits/policy.ts'
import type { Timing } from '../../server/orchestrator/timing.ts'
import type { RunSubmission } from '../../server/orchestrator/types.ts'
import { clientMessageSchema, serverMessageSchema } from '../../src/protocol/control.ts'
import type { ClientMessage, ServerMessage, StageCheckpoint } from '../../src/protocol/control.ts'
import { runConfigSchema, type RunConfig } from '../../src/protocol/runConfig.ts'
import { Clock, Random } from './clock.ts'
import { addressOf, initialVectors, stageLength } from './integerModel.ts'
import { demand, Violation, Watch, type Witness } from './invariants.ts'
import { Network, type Weather } from './network.ts'
import { SimNode, type NodeOptions } from './node.ts'
import { trainAlone } from './reference.ts'
import { SimServer } from './server.ts'
import type { Blobs, WorkAction } from './tenure.ts'

export interface Pace {
  /** Milliseconds of a microbatch at speed 1, and of anything else on the GPU. */
  forwardMs: number
  backwardMs: number
  otherMs: number
  /** How long loading and compiling take, at least and at most. */
  loadMs: readonly [number, number]
}

export interface WorldOptions {
  seed: number
  /** Control messages go through JSON and their schema, and every node is checked after every event. */
  strict: boolean
  /** How many of the last happenings are kept for a report. */
  trace: number
  weather: Weather
  pace: Pace
  /** Share of checkpoints that the store refuses. */
  refusals: number
  /** Pairs that never reach each other. */
  unreachable: readonly [string, string][]
  timing: Partial<Timing>
  /** Longest time between two commits of a run that could go on. */
  progressMs: number
  /** Claims are audited, by this policy; null: they are not. `timing.auditMs` is to go with it. */
  audits: Partial<AuditPolicy> | null
}

export interface RunOptions {
  id?: string
  stages: number
  replicas: number
  steps?: number
  microbatches?: number
  checkpointEvery?: number
  evalWindows?: number
  stageBytes?: number[]
  /** Lanes take so many steps of their own. */
  local?: { innerSteps: number; lanes?: number; overlap?: number }
  /** Steps that are looked at, when not all. */
  horizon?: number
}

const CALM: Weather = {
  loss: 0,
  duplicates: 0,
  reordered: 0,
  jitterMs: 0,
  shardMs: 1,
  boundaryMs: 1,
  apartMs: 0,
  dialMs: 0,
}
const QUICK: Pace = { forwardMs: 15, backwardMs: 25, otherMs: 4, loadMs: [200, 3000] }
const DEFAULTS: Omit<WorldOptions, 'seed'> = {
  strict: true,
  trace: 150,
  weather: CALM,
  pace: QUICK,
  refusals: 0,
  unreachable: [],
  timing: {},
  progressMs: Infinity,
  audits: null,
}

export class World implements Blobs {
  readonly options: WorldOptions
  readonly clock = new Clock()
  readonly random: Random
  readonly network: Network
  readonly watch: Watch
  readonly server: SimServer
  trace: [at: number, who: string, what: { type: string } | string][] | null
  readonly #blobs = new Map<string, readonly number[]>()
  #nodeCount = 0
  #salts = 0

  constructor(options: Partial<Omit<WorldOptions, 'weather'>> & { seed: number; weather?: Partial<Weather> }) {
    const weather = { ...CALM, ...options.weather }
    this.options = { ...DEFAULTS, ...options, weather }
    this.random = new Random(options.seed)
    this.trace = this.options.trace > 0 ? [] : null
    this.network = new Network(this.clock, this.random, weather, this.options.unreachable)
    this.watch = new Watch(this)
    this.server = new SimServer(this)
  }

  get nodes(): ReadonlyMap<string, SimNode> {
    return this.network.nodes
  }

  get state() {
    return this.server.state
  }

  witness(runId = 'run'): Witness {
    return this.watch.witnesses.get(runId)!
  }

  launch(options: RunOptions): RunConfig {
    const { id = 'run', stages, replicas, steps = 9, microbatches = 6, checkpointEvery = 4, evalWindows = 5 } = options
    const optimizer = { warmupSteps: 3, gradClip: 20_000 }
    // One layer a stage: no other cut of them is possible.
    const shape = {
      stages,
      replicas,
      steps,
      batch: microbatches,
      microbatch: 1,
      checkpointEvery,
      model: { layers: stages },
    }
    const sync = options.local ? { sync: 'local' as const, local: options.local } : {}
    const config = runConfigSchema.parse({ ...shape, ...sync, optimizer, codec: 'f32', seed: this.options.seed })
    this.watch.expect(id, trainAlone(config, evalWindows, options.horizon))
    const run: RunSubmission = {
      id,
      name: id,
      config,
      dataset: { id: 'd', tokens: 1000, trainTokens: 900 },
      stageBytes: options.stageBytes ?? new Array<number>(stages).fill(100),
      evalWindows,
      generation: 0,
      step: 0,
      checkpoint: { step: 0, stages: this.#initialCheckpoint(config) },
      unapplied: null,
      reservations: new Map(),
      recovered: 0,
      purse: null,
      recovering: false,
    }
    this.server.submit(run)
    return config
  }

  cancel(runId: string): void {
    this.server.dispatch({ type: 'runCancelled', runId })
  }

  join(options: NodeOptions = {}): SimNode {
    const node = new SimNode(this, options.id ?? `n${++this.#nodeCount}`, options)
    this.network.nodes.set(node.id, node)
    this.watch.devices.set(node.id, node.deviceId)
    node.dial()
    if (options.paused) node.paused = true
    return node
  }

  /** Gone at once; the server and its peers find the links closed, or hear nothing at all. */
  crash(node: SimNode, silent: boolean): void {
    if (!node.alive) return
    if (this.trace) this.note(node.id, { type: silent ? 'falls silent' : 'crashes' })
    node.alive = false
    this.network.nodes.delete(node.id)
    this.network.bury(node, silent ? 3000 : 200, silent ? 9000 : 3000)
    const { socket } = node
    // What it sent last arrives before its end does.
    if (!silent && socket) this.clock.after(node.wireMs + 150, () => this.server.onClosed(socket))
  }

  leave(node: SimNode): void {
    node.report({ type: 'leaving' })
    this.crash(node, false)
  }

  /** Cuts these nodes off from the server and all others, or off from the others alone, for a while. */
  partition(nodes: readonly SimNode[], forMs: number): void {
    if (this.trace) this.note(nodes.map(({ id }) => id).join(), { type: 'are cut off' })
    for (const node of nodes) node.island = 1
    this.clock.after(forMs, () => {
      for (const node of nodes) node.island = 0
    })
  }

  /** Lets time pass until every run has ended. @throws Error with seed, sentence and trace, also after `deadlineMs` */
  untilEnded(deadlineMs: number): this {
    return this.until(() => this.watch.allEnded(), deadlineMs)
  }

  until(done: () => boolean, deadlineMs: number): this {
    try {
      while (!done()) {
        this.clock.step()
        if (this.clock.now > deadlineMs) this.#late(deadlineMs)
      }
    } catch (caught) {
      const message = caught instanceof Violation ? caught.message : String((caught as Error).stack)
      throw new Violation([`seed ${this.options.seed}: ${message}`, ...this.traced()].join('\n'))
    }
    return this
  }

  note(who: string, what: { type: string }): void {
    const { trace } = this
    if (!trace) return
    const keep = this.options.trace
    // What is kept to the end is put into words at once: messages that are passed on as they are may change.
    trace.push([this.clock.now, who, keep === Infinity ? brief(what) : what])
    if (trace.length > 2 * keep + 100) this.trace = trace.slice(-keep)
  }

  /** What happened last, a line each. */
  traced(): string[] {
    const lines = this.trace?.slice(-this.options.trace) ?? []
    return lines.map(
      ([at, who, what]) => `${(at / 1000).toFixed(3)} ${who} ${typeof what === 'string' ? what : brief(what)}`,
    )
  }

  /** As over the socket, where that is worth its time. */
  checked(from: 'client', message: ClientMessage): ClientMessage
  checked(from: 'server', message: ServerMessage): ServerMessage
  checked(from: 'client' | 'server', message: ClientMessage | ServerMessage): ClientMessage | ServerMessage {
    if (!this.options.strict) return message
    const schema = from === 'client' ? clientMessageSchema : serverMessageSchema
    return schema.parse(JSON.parse(JSON.stringify(message)))
  }

  /** Another number each time. */
  salt(): number {
    return ++this.#salts
  }

  busyMs(action: WorkAction): number {
    const { forwardMs, backwardMs, otherMs } = this.options.pace
    if (action.type === 'measure') return 2 * (forwardMs + backwardMs)
    if (action.type !== 'compute') return otherMs
    const { op } = action
    const ms = op === 'backward' ? backwardMs : op === 'forwardBackward' ? forwardMs + backwardMs : forwardMs
    return ms * this.random.between(0.9, 1.1)
  }

  put(values: readonly number[]): string {
    const hash = addressOf(values)
    this.#blobs.set(hash, values)
    return hash
  }

  get(hash: string): readonly number[] {
    const values = this.#blobs.get(hash)
    demand(values !== undefined, () => `no blob ${hash}`)
    return values!
  }

  /** The frames that all nodes of this moment turned away. */
  refusedFrames(): number {
    return [...this.nodes.values()].reduce((sum, node) => sum + node.machine.refusedFrames, 0)
  }

  #late(deadlineMs: number): never {
    const states = [...this.state.runs.values()].map(
      (run) => `${run.id} ${run.state} at step ${run.step}: ${run.detail}`,
    )
    throw new Violation(`no end after ${deadlineMs / 1000} s; ${states.join('; ')}`)
  }

  #initialCheckpoint({ seed, stages }: RunConfig): StageCheckpoint[] {
    return Array.from({ length: stages }, (_, stage) => {
      const hash = this.put(initialVectors(seed, stage).parameters)
      return { stage, chunks: [{ kind: 'parameters', offset: 0, length: stageLength(stage), hash }] }
    })
  }
}

function brief(what: { type: string }): string {
  const { type, ...rest } = what as { type: string } & Record<string, unknown>
  const { assignment, config: _config, stages: _stages, metric, ...words } = rest
  const source = assignment as { stage: number; generation: number; source: string } | undefined
  const known = source ? { ...words, stage: source.stage, generation: source.generation, source: source.source } : words
  if (metric) Object.assign(known, { step: (metric as { step: number }).step })
  const shown = Object.entries(known).flatMap(([key, value]) =>
    value === undefined || value === null || key === 'token' ? [] : [`${key}=${shorten(value)}`],
  )
  return [type, ...shown].join(' ')
}

function shorten(value: unknown): string {
  const text =
    typeof value === 'string'
      ? value
      : JSON.stringify(value, (_, of: unknown) => (typeof of === 'bigint' ? `${of}` : of))
  return text.length > 90 ? `${text.slice(0, 90)}…` : text
}
