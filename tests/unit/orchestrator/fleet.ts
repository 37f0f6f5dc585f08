/** Owns a small fleet for tests of the orchestrator: nodes join and do what they are told, and whatever is sent can be asked for. */
import { createHash } from 'node:crypto'
import { decide, initialState } from '../../../server/orchestrator/orchestrator.ts'
import type { Timing } from '../../../server/orchestrator/timing.ts'
import type { OrchestratorCommand, OrchestratorEvent, Run, RunSubmission } from '../../../server/orchestrator/types.ts'
import type { ClientMessage, Holding, LinkMeasure, ServerMessage, ShardOwners } from '../../../src/protocol/control.ts'
import type { ErrorBody } from '../../../src/protocol/errors.ts'
import { receiptsOf, sumText, type Receipt, type ReceiptEntry } from '../../../src/protocol/receipt.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
type Sent<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>
type Report = Without<Extract<ClientMessage, { generation: number }>, 'generation'>

const digestOf = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 32)

/** A node's share of a shard's gradient sum with all leases of a version, and the sum of some, as they are signed for and named. */
export const shareOf = (shard: number, nodeId: string, leases: number) =>
  digestOf(`share ${shard} of ${nodeId} with ${leases}`)
export const digestOfSum = (shares: readonly string[]) => digestOf(sumText(shares))

export const hash = (digit: string) => digit.repeat(64)

/** What one node was told last, and so knows: nothing in it comes from the state of the orchestrator. */
export interface Told {
  generation: number
  stage: number
  step: number
  mode: 'train' | 'evaluate'
  version: number
  /** `[microbatch, up, down]` with the ids of the neighbours; empty where there is none. */
  leases: [number, string, string][]
  owners: ShardOwners
  committed: number
  reduce: Sent<'reduce'> | null
  apply: Sent<'apply'> | null
  saves: Sent<'save'>[]
}

export interface LaunchOptions extends Partial<Pick<RunSubmission, 'unapplied' | 'recovering' | 'purse'>> {
  id?: string
  stageBytes?: number[]
  evalWindows?: number
  generation?: number
  /** Committed so far. */
  step?: number
  /** The step of the checkpoint. */
  at?: number
  reservations?: Record<string, number>
}

export class Fleet {
  now = 1_000_000
  readonly state
  /** Commands since the last `take`. */
  log: OrchestratorCommand[] = []
  /** Whether the store answers `prepareStep` at once; otherwise `prepared` does. */
  prepares = true
  #asked: Extract<OrchestratorCommand, { type: 'prepareStep' }> | null = null
  #toPublish: Extract<OrchestratorCommand, { type: 'publishCheckpoint' }> | null = null
  readonly #told = new Map<string, Told>()

  constructor(timing: Partial<Timing> = {}) {
    this.state = initialState(timing)
  }

  do(event: Without<OrchestratorEvent, 'now'>): OrchestratorCommand[] {
    const commands = decide(this.state, { ...event, now: this.now } as OrchestratorEvent)
    this.log.push(...commands)
    for (const command of commands) if (command.type === 'send') this.#hear(command.nodeId, command.message)
    const asked = commands.find((command) => command.type === 'prepareStep')
    if (asked) this.#asked = asked
    this.#toPublish = commands.find((command) => command.type === 'publishCheckpoint') ?? this.#toPublish
    if (asked && this.prepares) this.prepared()
    return commands
  }

  #hear(nodeId: string, message: ServerMessage): void {
    if (message.type === 'assign') {
      const { generation, stage } = message.assignment
      this.#told.set(nodeId, {
        generation,
        stage,
        step: -1,
        mode: 'train',
        version: 0,
        leases: [],
        owners: [],
        committed: -1,
        reduce: null,
        apply: null,
        saves: [],
      })
      return
    }
    const told = this.#told.get(nodeId)
    if (!told || !('generation' in message) || message.generation !== told.generation) return
    if (message.type === 'step' || message.type === 'leases') {
      const idAt = (place: number) => (place < 0 ? '' : message.peers[place]!)
      told.version = message.version
      told.leases = message.leases.map(([microbatch, up, down]) => [microbatch, idAt(up), idAt(down)])
    }
    if (message.type === 'step') {
      const { step, mode, owners, committed } = message
      Object.assign(told, { step, mode, owners, committed, reduce: null, apply: null })
    } else if (message.type === 'owners') told.owners = message.owners
    else if (message.type === 'revoked') told.leases = []
    else if (message.type === 'reduce') told.reduce = message
    else if (message.type === 'apply') Object.assign(told, { apply: message, owners: message.owners })
    else if (message.type === 'save') told.saves.push(message)
    else if (message.type === 'release') this.#told.delete(nodeId)
  }

  #answer({ runId, generation, metric }: Extract<OrchestratorCommand, { type: 'prepareStep' }>): void {
    this.do({ type: 'stepPrepared', runId, generation, step: metric.step })
  }

  /** The store answers the last `prepareStep`. */
  prepared(): void {
    this.#answer(this.#asked!)
  }

  /** Lets time pass with a tick every half second; `alive` nodes go on beating. */
  pass(ms: number, alive: readonly string[] = [...this.state.nodes.keys()]): void {
    for (const end = this.now + ms; this.now < end;) {
      this.now += 500
      for (const id of alive) if (this.state.nodes.has(id)) this.beat(id)
      this.do({ type: 'tick' })
    }
  }

  join(
    id: string,
    options: { memoryBytes?: number; software?: boolean; deviceId?: string; holding?: Holding | null } = {},
  ): this {
    const { memoryBytes = 100, software = false, deviceId = `device-${id}`, holding = null } = options
    const adapter = {
      vendor: '',
      architecture: '',
      description: '',
      software,
      maxBufferSize: 1,
      maxStorageBufferBindingSize: 1,
    }
    this.do({ type: 'nodeJoined', node: { id, deviceId, kind: 'browser', adapter, memoryBytes, holding } })
    return this
  }

  say(nodeId: string, message: ClientMessage): OrchestratorCommand[] {
    return this.do({ type: 'message', nodeId, message })
  }

  /** In the generation that the node was told of. */
  report(nodeId: string, report: Report): OrchestratorCommand[] {
    const generation = this.#told.get(nodeId)?.generation ?? 0
    return this.say(nodeId, { ...report, generation } as ClientMessage)
  }

  leave(nodeId: string): void {
    this.say(nodeId, { type: 'leaving' })
  }

  beat(nodeId: string, phase: 'standby' | 'loading' = 'standby', progress: number | null = null): void {
    const { stats } = this.state.nodes.get(nodeId)!
    this.say(nodeId, { type: 'heartbeat', phase, progress, stats })
  }

  launch(input: RunConfigInput, options: LaunchOptions = {}): this {
    const { id = 'run', evalWindows = 2, generation = 0, step = 0, at = 0 } = options
    const { unapplied = null, recovering = false, reservations = {}, purse = null } = options
    const config = runConfigSchema.parse({ batch: 4, microbatch: 1, ...input })
    const stageBytes = options.stageBytes ?? new Array<number>(config.stages).fill(100)
    const stages = Array.from({ length: config.stages }, (_, stage) => ({ stage, chunks: [] }))
    const dataset = { id: 'd', tokens: 100, trainTokens: 90 }
    const places = { checkpoint: { step: at, stages }, reservations: new Map(Object.entries(reservations)) }
    const run = { id, name: id, config, dataset, stageBytes, evalWindows, generation, step, ...places }
    this.do({ type: 'runSubmitted', run: { ...run, unapplied, recovering, purse, recovered: 0 } })
    return this
  }

  run(id = 'run'): Run {
    return this.state.runs.get(id)!
  }

  view(nodeId: string): Told {
    return this.#told.get(nodeId)!
  }

  /** Microbatches that the node was given, in order. */
  leasesOf(nodeId: string): number[] {
    return this.#told.get(nodeId)!.leases.map(([microbatch]) => microbatch)
  }

  /** Everybody of the run who was told of its generation. */
  #members(): string[] {
    return this.run().members.flat()
  }

  ready(...ids: string[]): void {
    const { step } = this.run()
    for (const id of ids.length > 0 ? ids : this.#members()) this.report(id, { type: 'ready', step, expectedMs: null })
  }

  /** What an honest node says of its leases: it took what its neighbours of now made. */
  entries(nodeId: string): ReceiptEntry<string>[] {
    const { leases, stage } = this.#told.get(nodeId)!
    const digest = (kind: string, microbatch: number, of: string) =>
      of === '' ? null : Buffer.from(`${kind} ${microbatch} ${of}`.padStart(16).slice(-16)).toString('hex')
    return leases.map(([microbatch, up, down]) => ({
      microbatch,
      up: up || null,
      down: down || null,
      activationTaken: digest(`a${stage - 1}`, microbatch, up),
      activationMade: down === '' ? null : digest(`a${stage}`, microbatch, nodeId),
      gradientTaken: digest(`g${stage}`, microbatch, down),
      gradientMade: up === '' ? null : digest(`g${stage - 1}`, microbatch, nodeId),
    }))
  }

  /** Signs, as far as `fault` does not say otherwise, what it took and made. */
  sign(
    nodeId: string,
    entries: readonly ReceiptEntry<string>[] = this.entries(nodeId),
    { fault = null, ...change }: { fault?: ErrorBody | null } & Partial<Receipt> = {},
  ): void {
    const { generation, step, version: leases, stage } = this.#told.get(nodeId)!
    const device = this.state.nodes.get(nodeId)!.deviceId
    const about = {
      run: this.run().id,
      generation,
      step,
      leases,
      stage,
      device,
      shares: this.#told.get(nodeId)!.owners.map((_, shard) => shareOf(shard, nodeId, leases)),
      ...change,
    }
    for (const [i, receipt] of receiptsOf(about, entries).entries()) {
      const message = { type: 'receipt', generation, receipt, signature: '' } as const
      this.do({ type: 'receiptHeard', nodeId, message, hash: `${device} ${step} ${leases} ${i}`, fault })
    }
  }

  /** The node has computed whatever it was given, and signs for it unless it is told not to. */
  finish(
    nodeId: string,
    {
      lossSum = 10,
      tokens = 5,
      busyMs = null,
      signs = true,
      links,
    }: {
      lossSum?: number | ((microbatch: number) => number)
      tokens?: number
      busyMs?: number | null | ((nodeId: string) => number)
      signs?: boolean
      links?: (nodeId: string) => LinkMeasure[]
    } = {},
  ): void {
    const { leases, step, version, mode } = this.#told.get(nodeId)!
    if (leases.length === 0) return
    if (signs && mode === 'train') this.sign(nodeId)
    const lossOf = (microbatch: number) => (typeof lossSum === 'number' ? lossSum : lossSum(microbatch))
    const losses = leases
      .filter(([, , down]) => down === '')
      .map(([microbatch]) => [microbatch, lossOf(microbatch), tokens] as [number, number, number])
    const busy = typeof busyMs === 'function' ? busyMs(nodeId) : busyMs
    this.report(nodeId, { type: 'finished', step, version, losses, busyMs: busy, links: links?.(nodeId) })
  }

  /** All have computed whatever they were given. */
  finishAll(options: Parameters<Fleet['finish']>[1] = {}): void {
    for (const id of this.#members()) if (this.#told.get(id)!.step >= 0) this.finish(id, options)
  }

  /** One node, or everybody who was asked, sums the shards that it owns. */
  sums(squaredNorm: number | ((nodeId: string, shard: number) => number) = 1, ids = this.#members()): void {
    for (const id of ids) {
      const { reduce, owners, step } = this.#told.get(id)!
      if (reduce?.step !== step) continue
      owners.forEach((places, shard) => {
        if (!places.slice(0, 2).includes(id)) return
        const norm = typeof squaredNorm === 'number' ? squaredNorm : squaredNorm(id, shard)
        const { attempt } = reduce
        const digest = digestOfSum(reduce.contributors.map(([of, leases]) => shareOf(shard, of, leases)))
        this.report(id, { type: 'reduced', step, attempt, shard, squaredNorm: norm, digest })
      })
    }
  }

  /** One node, or everybody who was told to apply, updates the shards that it owns, sends and compares them. */
  updates(ids = this.#members()): void {
    for (const id of ids) {
      const told = this.#told.get(id)
      if (!told?.apply) continue
      const { step, owners } = told
      owners.forEach((places, shard) => {
        if (places[0] === id) this.report(id, { type: 'updated', step, shard })
        else if (places[1] === id) this.report(id, { type: 'compared', step, shard, agrees: true })
      })
    }
  }

  /** Owners that lack the moments of a shard have got them from others. */
  holds(): void {
    const { step } = this.run()
    for (const id of this.#members())
      this.#told.get(id)!.owners.forEach((places, shard) => {
        if (places.includes(id)) this.report(id, { type: 'held', step, shard })
      })
  }

  /** One whole training step. */
  step(options: Parameters<Fleet['finish']>[1] = {}): void {
    this.finishAll(options)
    this.sums()
    this.updates()
  }

  /** All that were asked to save upload their shards. */
  saved(digit = 'a', ids = this.#members()): void {
    for (const id of ids) {
      const told = this.#told.get(id)
      for (const { step, shards } of told?.saves.splice(0) ?? [])
        for (const shard of shards) {
          const chunks = [{ kind: 'parameters', offset: shard, length: 1, hash: hash(digit) } as const]
          this.report(id, { type: 'shardSaved', step, shard, chunks })
        }
    }
  }

  /** The store answers the last request to publish. */
  published(): void {
    const { runId, step, stages } = this.#toPublish!
    this.do({ type: 'checkpointPublished', runId, checkpoint: { step, stages } })
  }

  of<K extends OrchestratorCommand['type']>(type: K): Extract<OrchestratorCommand, { type: K }>[] {
    return this.log.filter((command): command is Extract<OrchestratorCommand, { type: K }> => command.type === type)
  }

  sent<K extends ServerMessage['type']>(type: K, nodeId?: string): Sent<K>[] {
    return this.of('send')
      .filter((command) => command.message.type === type && (nodeId === undefined || command.nodeId === nodeId))
      .map((command) => command.message as Sent<K>)
  }

  told(): string[] {
    return this.of('tell').map((command) => command.text)
  }

  take(): void {
    this.log = []
  }
}

/** A fleet in its first step: nodes `a`, `b`, `c` ... take their seats stage by stage in turn. */
export function training(
  input: RunConfigInput = {},
  nodes: readonly string[] = ['a', 'b', 'c', 'd'],
  options: LaunchOptions = {},
  timing: Partial<Timing> = {},
): Fleet {
  const fleet = new Fleet(timing).launch({ stages: 2, replicas: 2, steps: 4, checkpointEvery: 100, ...input }, options)
  for (const id of nodes) fleet.join(id)
  if (fleet.run().members.length === 0) fleet.pass(5000)
  fleet.ready()
  fleet.take()
  return fleet
}
