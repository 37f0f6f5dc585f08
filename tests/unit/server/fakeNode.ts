/** Owns a node that speaks the protocol over a real control line and computes nothing: what a GPU would hold is a few numbers. */
import { createHash } from 'node:crypto'
import { runLayouts } from '../../../src/model/layout.ts'
import type {
  Assignment,
  Chunk,
  ClientMessage,
  Holding,
  ServerMessage,
  ShardOwners,
} from '../../../src/protocol/control.ts'
import { shardCount, shardsOf } from '../../../src/protocol/routing.ts'
import { PROTOCOL_VERSION } from '../../../src/protocol/version.ts'
import { ControlSocket } from '../../../src/stage/controlSocket.ts'
import type { DeviceKey } from '../../../src/store/deviceKey.ts'

type Step = Extract<ServerMessage, { type: 'step' }>

const adapter = {
  vendor: 'v',
  architecture: 'a',
  description: 'd',
  software: false,
  maxBufferSize: 1e9,
  maxStorageBufferBindingSize: 1e9,
}

export class FakeNode {
  /** By node id: to whom parameters go, past the server. */
  static readonly #peers = new Map<string, FakeNode>()
  readonly device: DeviceKey
  /** Stages that it was given, in turn. */
  readonly stages: number[] = []
  readonly #url: string
  readonly #heard: (message: ServerMessage) => boolean
  readonly #compute: (step: number) => Promise<void>
  readonly #control: ControlSocket
  #id = ''
  #token = ''
  #assignment: Assignment | null = null
  /** By shard: the step after which its parameters stand; empty while they have not come. */
  #parameters: number[] = []
  readonly #moments = new Map<number, number>()
  readonly #reduced = new Set<number>()
  #round: Pick<Step, 'step' | 'version' | 'leases'> | null = null
  #owners: ShardOwners = []
  #ready = false
  readonly #beat: ReturnType<typeof setInterval>

  /**
   * @param heard is told each message first; where it returns false the node does not get it
   * @param compute is waited for before the leases of a step count as finished
   */
  constructor(
    url: string,
    device: DeviceKey,
    heard: (message: ServerMessage) => boolean,
    compute: (step: number) => Promise<void>,
  ) {
    this.device = device
    this.#url = url
    this.#heard = heard
    this.#compute = compute
    const hello = () => ({
      type: 'hello' as const,
      protocol: PROTOCOL_VERSION,
      kind: 'agent' as const,
      adapter,
      memoryBytes: 1e10,
      holding: this.#holding(),
    })
    this.#control = new ControlSocket(`${url.replace('http', 'ws')}/control`, device, hello, {
      message: (message) => this.#hear(message),
      lost: () => {},
      refused: ({ message }) => {
        throw new Error(message)
      },
    })
    const stats = { tokens: 0, steps: 0, upBytes: 0, downBytes: 0, boundaryBytes: 0, boundaryTokens: 0, link: 'direct' }
    const beat = { type: 'heartbeat', phase: 'training', progress: null, stats } as ClientMessage
    this.#beat = setInterval(() => this.#control.send(beat), 1000)
  }

  close(): Promise<void> {
    clearInterval(this.#beat)
    return this.#control.close()
  }

  #holding(): Holding | null {
    if (!this.#assignment) return null
    const { runId, generation, stage } = this.#assignment
    const [step = null, ...rest] = this.#parameters
    const held = {
      step: rest.every((other) => other === step) ? step : null,
      moments: [...this.#moments],
      reduced: [...this.#reduced],
      open: [],
    }
    return { runId, generation, stage, ...held }
  }

  #hear(message: ServerMessage): void {
    if (!this.#heard(message)) return
    switch (message.type) {
      case 'welcome':
        this.#id = message.nodeId
        FakeNode.#peers.set(this.#id, this)
        this.#token = message.token
        return
      case 'assign':
        return this.#take(message.assignment)
      case 'standby':
      case 'release':
        this.#assignment = null
        return
      default:
        if ('generation' in message && message.generation === this.#assignment?.generation) this.#work(message)
    }
  }

  #take(assignment: Assignment): void {
    const { source, finish, checkpoint, config, stage, generation } = assignment
    this.stages.push(stage)
    const shards = Array.from({ length: shardCount(config) }, (_, shard) => shard)
    if (source !== 'held') {
      this.#moments.clear()
      this.#parameters = source === 'checkpoint' ? shards.map(() => checkpoint.step) : []
      if (source === 'checkpoint') for (const shard of shards) this.#moments.set(shard, checkpoint.step)
    } else if (finish)
      for (const shard of this.#reduced) {
        this.#moments.set(shard, finish.step)
        this.#parameters[shard] = finish.step
      }
    this.#reduced.clear()
    this.#assignment = assignment
    const step = this.#holding()!.step
    this.#ready = step !== null
    if (step !== null) this.#control.send({ type: 'ready', generation, step, expectedMs: null })
  }

  #work(message: Extract<ServerMessage, { generation: number }>): void {
    const { generation } = message
    const say = (said: ClientMessage) => this.#control.send(said)
    switch (message.type) {
      case 'step': {
        const { step, version, leases, owners, committed } = message
        this.#parameters = owners.map(() => committed)
        if (!this.#ready) say({ type: 'ready', generation, step: committed, expectedMs: null })
        this.#ready = true
        this.#reduced.clear()
        this.#round = { step, version, leases }
        this.#own(owners, committed)
        return void this.#finish()
      }
      case 'leases':
        this.#round = message
        return void this.#finish()
      case 'owners':
        return this.#own(message.owners, this.#round!.step - 1)
      case 'reduce': {
        const { step, attempt } = message
        this.#owners.forEach((places, shard) => {
          if (!places.slice(0, 2).includes(this.#id)) return
          this.#reduced.add(shard)
          say({ type: 'reduced', generation, step, attempt, shard, squaredNorm: 1, digest: null })
        })
        return
      }
      case 'apply': {
        const { step, owners, receivers } = message
        owners.forEach((places, shard) => {
          const place = places.indexOf(this.#id)
          if (place !== 0 && place !== 1) return
          this.#moments.set(shard, step)
          this.#reduced.delete(shard)
          this.#parameters[shard] = step
          if (place === 0) {
            say({ type: 'updated', generation, step, shard })
            for (const id of receivers) FakeNode.#peers.get(id)!.#parameters[shard] = step
          } else say({ type: 'compared', generation, step, shard, agrees: true })
        })
        return
      }
      case 'save':
        // A server that dies while chunks are uploaded is what is tried here.
        for (const shard of message.shards) void this.#save(generation, message.step, shard).catch(() => {})
    }
  }

  async #finish(): Promise<void> {
    const { generation, config, stage } = this.#assignment!
    const round = this.#round!
    const { step, version, leases } = round
    if (leases.length === 0) return
    await this.#compute(step)
    if (this.#round !== round) return
    const last = stage === config.stages - 1
    const losses = last ? leases.map(([microbatch]): [number, number, number] => [microbatch, 32, 16]) : []
    this.#control.send({ type: 'finished', generation, step, version, losses, busyMs: 1 })
  }

  #own(owners: ShardOwners, committed: number): void {
    const { generation } = this.#assignment!
    this.#owners = owners
    owners.forEach((places, shard) => {
      if (!places.includes(this.#id) || this.#moments.get(shard) === committed) return
      this.#moments.set(shard, committed)
      this.#control.send({ type: 'held', generation, step: committed, shard })
    })
  }

  async #save(generation: number, step: number, shard: number): Promise<void> {
    const { config, stage } = this.#assignment!
    const { offset, length } = shardsOf(runLayouts(config)[stage]!.length, shardCount(config))[shard]!
    const bytes = new Uint8Array(4 * length)
    const hash = createHash('sha256').update(bytes).digest('hex')
    const headers = { authorization: `Bearer ${this.#token}`, 'content-type': 'application/octet-stream' }
    const answer = await fetch(`${this.#url}/api/v1/blobs/${hash}`, { method: 'PUT', headers, body: bytes })
    if (!answer.ok) throw new Error(await answer.text())
    const chunks: Chunk[] = [{ kind: 'parameters', offset, length, hash }]
    this.#control.send({ type: 'shardSaved', generation, step, shard, chunks })
  }
}
