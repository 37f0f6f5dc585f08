/** Owns a small fleet for tests of the orchestrator: nodes join, runs are launched, and whatever is sent can be asked for. */
import { decide, initialState } from '../../../server/orchestrator/orchestrator.ts'
import type { OrchestratorCommand, OrchestratorEvent, Run, Timing } from '../../../server/orchestrator/types.ts'
import type { ClientMessage, ServerMessage, StageCheckpoint } from '../../../src/protocol/control.ts'
import { ownerOf } from '../../../src/protocol/routing.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'

type DistributedEvent = OrchestratorEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never
type Sent<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>

export const hash = (digit: string) => digit.repeat(64)

export class Fleet {
  now = 1_000_000
  readonly state
  /** Commands since the last `take`. */
  log: OrchestratorCommand[] = []

  constructor(timing: Partial<Timing> = {}) {
    this.state = initialState(timing)
  }

  do(event: DistributedEvent): OrchestratorCommand[] {
    const commands = decide(this.state, { ...event, now: this.now } as OrchestratorEvent)
    this.log.push(...commands)
    return commands
  }

  /** Lets time pass with a tick every half second; `alive` nodes go on beating. */
  pass(ms: number, alive: readonly string[] = []): void {
    for (const end = this.now + ms; this.now < end;) {
      this.now += 500
      for (const id of alive) this.beat(id)
      this.do({ type: 'tick' })
    }
  }

  join(id: string, options: { memoryBytes?: number; software?: boolean; deviceId?: string } = {}): this {
    const { memoryBytes = 100, software = false, deviceId = `device-${id}` } = options
    const adapter = {
      vendor: '',
      architecture: '',
      description: '',
      software,
      maxBufferSize: 1,
      maxStorageBufferBindingSize: 1,
    }
    this.do({ type: 'nodeJoined', node: { id, deviceId, kind: 'browser', adapter, memoryBytes } })
    return this
  }

  say(nodeId: string, message: ClientMessage): OrchestratorCommand[] {
    return this.do({ type: 'message', nodeId, message })
  }

  beat(nodeId: string, phase: 'standby' | 'loading' = 'standby', progress: number | null = null): void {
    const { stats } = this.state.nodes.get(nodeId)!
    this.say(nodeId, { type: 'heartbeat', phase, progress, stats })
  }

  launch(
    input: RunConfigInput,
    options: {
      id?: string
      stageBytes?: number[]
      evalWindows?: number
      generation?: number
      step?: number
      at?: number
    } = {},
  ): this {
    const { id = 'run', evalWindows = 2, generation = 0, step = 0, at = 0 } = options
    const config = runConfigSchema.parse({ batch: 4, microbatch: 1, ...input })
    const stageBytes = options.stageBytes ?? new Array<number>(config.stages).fill(100)
    const stages = Array.from({ length: config.stages }, (_, stage) => ({ stage, chunks: [] }))
    const dataset = { id: 'd', tokens: 100, trainTokens: 90 }
    const checkpoint = { step: at, stages }
    this.do({
      type: 'runSubmitted',
      run: { id, name: id, config, dataset, stageBytes, evalWindows, generation, step, checkpoint },
    })
    return this
  }

  run(id = 'run'): Run {
    return this.state.runs.get(id)!
  }

  ready(): void {
    const { generation, members } = this.run()
    for (const id of members.flat()) this.say(id, { type: 'ready', generation })
  }

  /** The last stage reports the losses of the microbatches of the step or round under way. */
  losses(step: number, first: number, count: number, lossSum = 10, tokens = 5): void {
    const { members, generation } = this.run()
    for (let microbatch = first; microbatch < first + count; microbatch++)
      this.say(ownerOf(members, microbatch, members.length - 1), {
        type: 'loss',
        generation,
        step,
        microbatch,
        lossSum,
        tokens,
      })
  }

  norms(step: number, squaredNorm = 1): void {
    const { members, generation } = this.run()
    for (const ids of members)
      ids.forEach((id, shard) => this.say(id, { type: 'shardReduced', generation, step, shard, squaredNorm }))
  }

  applied(step: number): void {
    const { members, generation } = this.run()
    for (const id of members.flat()) this.say(id, { type: 'stepApplied', generation, step })
  }

  /** One whole training step. */
  step(step: number): void {
    this.losses(step, 0, 4)
    this.norms(step)
    this.applied(step)
  }

  saved(step: number, parametersHash = (stage: number, _shard: number) => hash(String(stage))): void {
    const { members, generation } = this.run()
    members.forEach((ids, stage) =>
      ids.forEach((id, shard) => {
        const chunks = [{ kind: 'parameters', offset: shard, length: 1, hash: hash(`${step % 10}`) } as const]
        this.say(id, {
          type: 'shardSaved',
          generation,
          step,
          shard,
          chunks,
          parametersHash: parametersHash(stage, shard),
        })
      }),
    )
  }

  /** The store answers the last request to publish. */
  published(): StageCheckpoint[] {
    const asked = this.of('publishCheckpoint').at(-1)!
    this.do({ type: 'checkpointPublished', runId: asked.runId, checkpoint: asked })
    return asked.stages
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
