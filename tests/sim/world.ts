/** Owns the simulated world: one orchestrator, its nodes, the wires between them, the store behind it, and the accidents. */
import { decide, initialState } from '../../server/orchestrator/orchestrator.ts'
import type { OrchestratorCommand, OrchestratorEvent, RunSubmission } from '../../server/orchestrator/types.ts'
import { clientMessageSchema, serverMessageSchema } from '../../src/protocol/control.ts'
import type { ClientMessage, ServerMessage, StageCheckpoint } from '../../src/protocol/control.ts'
import { runConfigSchema, type RunConfig } from '../../src/protocol/runConfig.ts'
import type { TensorAddress } from '../../src/stage/machineTypes.ts'
import { Clock, Random } from './clock.ts'
import { hashOf, initialVectors, stageLength, trainAlone } from './integerModel.ts'
import { checkCommand, checkNode, checkServer, demand, Violation, type Witness } from './invariants.ts'
import { SimNode, type Surroundings } from './node.ts'

export interface WorldOptions {
  seed: number
  /** Share of frames that arrive a second time, some of them much later. */
  duplicates?: number
  /** Share of checkpoints that the store refuses. */
  refusals?: number
  /** Pairs that never reach each other. */
  unreachable?: [string, string][]
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
}

type DistributedEvent = OrchestratorEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

const HARDWARE = {
  vendor: 'sim',
  architecture: '',
  description: '',
  software: false,
  maxBufferSize: 2 ** 30,
  maxStorageBufferBindingSize: 2 ** 27,
}
const NO_STATS = {
  tokens: 0,
  steps: 0,
  upBytes: 0,
  downBytes: 0,
  boundaryBytes: 0,
  boundaryTokens: 0,
  link: 'unknown' as const,
}
const HEARTBEAT_MS = 2000
const TICK_MS = 500
const TRACE_LENGTH = 40

export class World implements Surroundings {
  readonly clock = new Clock()
  readonly random: Random
  readonly nodes = new Map<string, SimNode>()
  readonly witnesses = new Map<string, Witness>()
  state = initialState()
  /** Nodes' refused frames count towards nothing here but say that a run without accidents has none. */
  rollbacks = 0
  readonly #options: WorldOptions
  readonly #trace: string[] = []
  readonly #blobs = new Map<string, readonly number[]>()
  /** What the database would hold of each run. */
  readonly #records = new Map<string, RunSubmission>()
  /** When the last thing on a wire arrives, by `from>to`. */
  readonly #wires = new Map<string, number>()
  readonly #cuts = new Map<string, number>()
  /** Pairs whose link swallows everything without a word. */
  readonly #mute = new Set<string>()
  #nodeCount = 0
  #serverLife = 0

  constructor(options: WorldOptions) {
    this.#options = options
    this.random = new Random(options.seed)
    this.#beat()
  }

  launch(options: RunOptions): RunConfig {
    const { id = 'run', stages, replicas, steps = 9, microbatches = 6, checkpointEvery = 4, evalWindows = 5 } = options
    const optimizer = { warmupSteps: 3, gradClip: 1e6 }
    const shape = { stages, replicas, steps, batch: microbatches, microbatch: 1, checkpointEvery }
    const config = runConfigSchema.parse({ ...shape, optimizer, codec: 'f32', seed: this.#options.seed })
    const checkpoint = { step: 0, stages: this.#initialCheckpoint(config) }
    this.witnesses.set(id, { reference: trainAlone(config, evalWindows), committed: 0, commits: 0, ended: null })
    const stageBytes = options.stageBytes ?? new Array<number>(stages).fill(100)
    const dataset = { id: 'd', tokens: 1000, trainTokens: 900 }
    const run = { id, name: id, config, dataset, stageBytes, evalWindows, generation: 0, step: 0, checkpoint }
    this.#records.set(id, run)
    this.#dispatch({ type: 'runSubmitted', run })
    return config
  }

  cancel(runId: string): void {
    this.#dispatch({ type: 'runCancelled', runId })
  }

  join(
    options: { id?: string; deviceId?: string; memoryBytes?: number; slowness?: number; paused?: boolean } = {},
  ): SimNode {
    const { id = `n${++this.#nodeCount}`, memoryBytes = 100, slowness = 1, paused = false } = options
    const node = new SimNode(this, id, options.deviceId ?? `d-${id}`, slowness)
    this.nodes.set(id, node)
    this.#trace.push(`${this.#at()} ${id} dials in`)
    const { deviceId } = node
    this.#toServer(node, () =>
      this.#dispatch({ type: 'nodeJoined', node: { id, deviceId, kind: 'browser', adapter: HARDWARE, memoryBytes } }),
    )
    if (paused) node.pause()
    return node
  }

  /** Gone at once; the server hears the socket close, or nothing at all. */
  crash(node: SimNode, silent: boolean): void {
    if (!node.alive) return
    this.#trace.push(`${this.#at()} ${node.id} crashes${silent ? ' in silence' : ''}`)
    node.alive = false
    this.nodes.delete(node.id)
    for (const other of this.nodes.values())
      this.clock.after(this.random.between(200, silent ? 9000 : 3000), () => other.linkLost(node.id))
    if (!silent) this.#toServer(node, () => this.#dispatch({ type: 'nodeLeft', nodeId: node.id, reason: 'closed' }))
  }

  leave(node: SimNode): void {
    this.report(node, { type: 'leaving' })
    this.crash(node, false)
  }

  /** The link breaks: what is under way is lost, both ends notice, and it can be dialled anew. */
  cutLink(a: SimNode, b: SimNode): void {
    this.#trace.push(`${this.#at()} the link ${a.id}-${b.id} breaks`)
    const pair = pairOf(a.id, b.id)
    this.#cuts.set(pair, (this.#cuts.get(pair) ?? 0) + 1)
    a.linkLost(b.id)
    this.clock.after(this.random.between(0, 6000), () => b.linkLost(a.id))
  }

  /** The link swallows everything for a while and neither end notices. */
  muteLink(a: SimNode, b: SimNode, forMs: number): void {
    this.#trace.push(`${this.#at()} the link ${a.id}-${b.id} goes mute`)
    this.#mute.add(pairOf(a.id, b.id))
    this.clock.after(forMs, () => this.#mute.delete(pairOf(a.id, b.id)))
  }

  /** The server process dies and comes back with what its database holds; every node has to connect anew. */
  restartServer(): void {
    this.#trace.push(`${this.#at()} the server starts again`)
    this.#serverLife += 1
    this.state = initialState()
    for (const run of this.#records.values()) {
      const witness = this.witnesses.get(run.id)!
      if (witness.ended) continue
      this.#dispatch({ type: 'runSubmitted', run })
      witness.committed = this.state.runs.get(run.id)!.step
    }
    for (const node of [...this.nodes.values()]) {
      node.alive = false
      this.nodes.delete(node.id)
      const { deviceId, slowness, paused } = node
      this.clock.after(this.random.between(300, 5000), () => this.join({ deviceId, slowness, paused }))
    }
  }

  /** Lets time pass until every run has ended. @throws Violation, also when that takes longer than `deadlineMs` */
  untilEnded(deadlineMs: number): this {
    return this.until(() => [...this.witnesses.values()].every((witness) => witness.ended !== null), deadlineMs)
  }

  until(done: () => boolean, deadlineMs: number): this {
    try {
      while (!done()) {
        this.clock.step()
        const states = () => [...this.state.runs.values()].map((run) => `${run.id} ${run.state}: ${run.detail}`)
        demand(this.clock.now <= deadlineMs, () => `no end after ${deadlineMs / 1000} s; ${states().join('; ')}`)
      }
    } catch (caught) {
      const { seed } = this.#options
      const message = caught instanceof Violation ? caught.message : String((caught as Error).stack)
      const replay = `SKEIN_SIM_SEED=${seed} npx vitest run --project unit tests/sim`
      throw new Error(`seed ${seed}: ${message}\nreplay: ${replay}\n${this.#trace.slice(-TRACE_LENGTH).join('\n')}`, {
        cause: caught,
      })
    }
    return this
  }

  report(node: SimNode, message: ClientMessage): void {
    // Through JSON and the schema, as over the socket.
    const parsed = clientMessageSchema.parse(JSON.parse(JSON.stringify(message)))
    this.#toServer(node, () => {
      if (parsed.type === 'shardSaved') this.#checkSaved(node, parsed)
      if (parsed.type !== 'heartbeat') this.#trace.push(`${this.#at()} ${node.id} says ${brief(parsed)}`)
      this.#dispatch({ type: 'message', nodeId: node.id, message: parsed })
    })
  }

  frame(from: SimNode, to: string, address: TensorAddress, tensor: number[]): void {
    const pair = pairOf(from.id, to)
    if (this.#mute.has(pair)) return
    const cut = this.#cuts.get(pair)
    const deliver = () => {
      const node = this.nodes.get(to)
      if (!node || !from.alive || this.#cuts.get(pair) !== cut) return
      node.handle({ type: 'frame', from: from.id, address, tensor })
      checkNode(node)
    }
    this.#inOrder(`${from.id}>${to}`, this.random.between(2, 120), deliver)
    if (this.random.chance(this.#options.duplicates ?? 0)) this.clock.after(this.random.between(2, 4000), deliver)
  }

  reachable(a: string, b: string): boolean {
    const never = this.#options.unreachable?.some(([x, y]) => pairOf(x, y) === pairOf(a, b))
    return this.nodes.has(b) && !never
  }

  put(values: readonly number[]): string {
    const hash = hashOf(values)
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

  #initialCheckpoint({ seed, stages }: RunConfig): StageCheckpoint[] {
    return Array.from({ length: stages }, (_, stage) => {
      const hash = this.put(initialVectors(seed, stage).parameters)
      return { stage, chunks: [{ kind: 'parameters', offset: 0, length: stageLength(stage), hash }] }
    })
  }

  #beat(): void {
    const tick = () => {
      this.#dispatch({ type: 'tick' })
      this.clock.after(TICK_MS, tick)
    }
    this.clock.after(TICK_MS, tick)
    const beat = () => {
      for (const node of this.nodes.values()) {
        const { phase, progress } = node
        this.report(node, { type: 'heartbeat', phase, progress, stats: NO_STATS })
      }
      this.clock.after(HEARTBEAT_MS, beat)
    }
    this.clock.after(HEARTBEAT_MS, beat)
  }

  #dispatch(event: DistributedEvent): void {
    const commands = decide(this.state, { ...event, now: this.clock.now } as OrchestratorEvent)
    checkServer(this.state)
    for (const command of commands) this.#carryOut(command)
  }

  #carryOut(command: OrchestratorCommand): void {
    if (command.type === 'send') return this.#toNode(command.nodeId, command.message)
    if (command.type === 'disconnect') {
      const node = this.nodes.get(command.nodeId)
      if (node) this.crash(node, true)
      return
    }
    const { runId } = command
    const run = this.state.runs.get(runId)
    const record = this.#records.get(runId)!
    if (command.type !== 'runChanged') this.#trace.push(`${this.#at()} server: ${brief(command)}`)
    checkCommand(command, this.witnesses.get(runId)!, run, this.nodes)
    switch (command.type) {
      case 'commitStep':
        this.#records.set(runId, { ...record, step: command.metric.step })
        return
      case 'rollBack':
        this.rollbacks += 1
        this.#records.set(runId, { ...record, step: command.toStep })
        return
      case 'runChanged':
        if (run) this.#records.set(runId, { ...record, generation: run.generation })
        return
      case 'publishCheckpoint':
        this.#publish(runId, command.step, command.stages)
    }
  }

  #publish(runId: string, step: number, stages: StageCheckpoint[]): void {
    for (const { stage, chunks } of stages) {
      const sorted = chunks.filter(({ kind }) => kind === 'parameters').sort((a, b) => a.offset - b.offset)
      const whole = sorted.flatMap(({ hash }) => this.get(hash))
      const alone = this.witnesses.get(runId)!.reference.parameterHashes[step]![stage]
      demand(hashOf(whole) === alone, () => `checkpoint ${step} of stage ${stage} is not what one machine has`)
    }
    const life = this.#serverLife
    this.clock.after(this.random.between(50, 4000), () => {
      if (this.random.chance(this.#options.refusals ?? 0)) {
        const error = { code: 'blob.missing', message: 'a chunk is missing.', remedy: '' }
        if (life === this.#serverLife) this.#dispatch({ type: 'checkpointRefused', runId, step, error })
        return
      }
      const checkpoint = { step, stages }
      // A process that dies here has published and told nobody.
      if (life === this.#serverLife || this.random.chance(0.5))
        this.#records.set(runId, { ...this.#records.get(runId)!, checkpoint })
      if (life === this.#serverLife) this.#dispatch({ type: 'checkpointPublished', runId, checkpoint })
    })
  }

  #checkSaved(node: SimNode, { step, parametersHash }: Extract<ClientMessage, { type: 'shardSaved' }>): void {
    const { assignment } = node.machine
    if (!assignment) return
    const alone = this.witnesses.get(assignment.runId)!.reference.parameterHashes[step]![assignment.stage]
    demand(parametersHash === alone, () => `${node.id} holds other weights than one machine after step ${step}`)
  }

  #toServer(node: SimNode, arrive: () => void): void {
    const life = this.#serverLife
    this.#inOrder(`${node.id}>server`, this.random.between(1, 150), () => {
      if (life === this.#serverLife) arrive()
    })
  }

  #toNode(nodeId: string, message: ServerMessage): void {
    const parsed = serverMessageSchema.parse(JSON.parse(JSON.stringify(message)))
    const life = this.#serverLife
    this.#inOrder(`server>${nodeId}`, this.random.between(1, 150), () => {
      const node = this.nodes.get(nodeId)
      if (!node || life !== this.#serverLife) return
      if (parsed.type !== 'step') this.#trace.push(`${this.#at()} ${nodeId} hears ${brief(parsed)}`)
      node.handle({ type: 'server', message: parsed })
      checkNode(node)
    })
  }

  #inOrder(wire: string, delay: number, arrive: () => void): void {
    const at = Math.max(this.clock.now + delay, this.#wires.get(wire) ?? 0)
    this.#wires.set(wire, at)
    this.clock.after(at - this.clock.now, arrive)
  }

  #at(): string {
    return `${(this.clock.now / 1000).toFixed(3)}`
  }
}

const pairOf = (a: string, b: string) => (a < b ? `${a}|${b}` : `${b}|${a}`)

function brief(message: { type: string }): string {
  const { type, assignment, ...rest } = message as { type: string; assignment?: object } & Record<string, unknown>
  const known = { ...rest, ...assignment } as Record<string, unknown>
  const keys = ['nodeId', 'generation', 'step', 'stage', 'replica', 'shard', 'microbatch', 'toStep', 'text', 'reason']
  const shown = keys.filter((key) => known[key] !== undefined).map((key) => `${key}=${String(known[key])}`)
  return [type, ...shown].join(' ')
}
