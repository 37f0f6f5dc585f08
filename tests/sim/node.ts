/** Owns a simulated node: the stage machine, a GPU that takes its (virtual) time, and its end of the control session. */
import type { Assignment, ClientMessage, NodePhase, ServerMessage } from '../../src/protocol/control.ts'
import type { Envelope } from '../../src/protocol/mailbox.ts'
import { receiptsOf, type Digest, type ReceiptEntry } from '../../src/protocol/receipt.ts'
import type { StageEvent, TensorAddress } from '../../src/stage/machineTypes.ts'
import { linkMeasures } from '../../src/stage/linkMeasures.ts'
import { advance, holding, initialStageState } from '../../src/stage/machine.ts'
import { deviceOf, digestOf, signatureOf } from './integerReceipts.ts'
import { LineEnd } from './network.ts'
import type { SimServer, Socket } from './server.ts'
import { falsified, Tenure, type Action, type Lie, type Tensor, type WorkAction } from './tenure.ts'
import type { World } from './world.ts'

const TICK_MS = 500
const TICKS_A_HEARTBEAT = 4
const WELCOME_MS = 5000
const DEAD_LINE_MS = 4000
const SIGN_MS = 3
/** An upload of a tensor. */
const EXHIBIT_MS = 60

export interface NodeOptions {
  id?: string
  deviceId?: string
  memoryBytes?: number
  /** How many times longer than others this node takes. */
  slowness?: number
  /** Milliseconds, one way. */
  wireMs?: number
  region?: number
  paused?: boolean
}

export class SimNode {
  /** The world's name for it, and the server's: who dials in anew after a reload is another node. */
  readonly id: string
  readonly deviceId: string
  readonly memoryBytes: number
  readonly slowness: number
  /** Its part of every link's latency, one way. */
  readonly wireMs: number
  /** Nodes of different regions are `apartMs` apart. */
  readonly region: number
  readonly machine = initialStageState<Tensor>()
  /** With whom it has a link. */
  readonly peers = new Set<string>()
  readonly dialling = new Set<string>()
  uplinkFreeAt = 0
  /** Nodes of different islands do not hear each other; the server is on 0. */
  island = 0
  alive = true
  paused = false
  /** Its GPU never answers again, while its heart goes on beating. */
  hung = false
  tenure: Tenure | null = null
  /** What it signs of what it took and made. */
  claims: (entries: readonly ReceiptEntry<Digest>[]) => readonly ReceiptEntry<Digest>[] = (entries) => entries
  lie: Lie | null = null
  phase: NodePhase = 'standby'
  progress: number | null = null
  socket: Socket | null = null
  readonly #world: World
  #line: LineEnd<ClientMessage, ServerMessage> | null = null
  #token: string | null = null
  #pulses = 0
  readonly #beat = () => this.#pulse()

  constructor(world: World, id: string, options: NodeOptions) {
    const { deviceId = deviceOf(id), memoryBytes = 100, slowness = 1 } = options
    this.#world = world
    this.id = id
    this.deviceId = deviceId
    this.memoryBytes = memoryBytes
    this.slowness = slowness
    const wireMs = world.random.between(10, 55)
    this.wireMs = options.wireMs ?? wireMs
    this.region = options.region ?? 0
    world.clock.after(world.random.between(0, TICK_MS), this.#beat)
  }

  get server(): SimServer {
    return this.#world.server
  }

  /** What its mailbox has not seen acknowledged. */
  get pending(): number {
    return this.#line?.mailbox.pending ?? 0
  }

  handle(event: StageEvent<Tensor>): void {
    if (!this.alive) return
    const actions = advance(this.machine, event)
    for (let i = 0; i < actions.length; i++) this.#perform(actions[i]!)
    if (this.#world.options.strict) this.#world.watch.node(this)
  }

  linkLost(peer: string): void {
    if (!this.alive) return
    this.peers.delete(peer)
    this.handle({ type: 'linkLost', node: peer })
  }

  fail(generation: number, code: string): void {
    const error = { code, message: 'A failure of the simulation.', remedy: 'None.' }
    this.handle({ type: 'failed', generation, message: { type: 'failed', generation, error } })
  }

  pause(): void {
    this.paused = true
    this.phase = 'paused'
    this.report({ type: 'pause' })
    this.handle({ type: 'server', message: { type: 'standby', reason: '' } })
  }

  resume(): void {
    this.paused = false
    this.phase = 'standby'
    this.report({ type: 'resume' })
  }

  report(message: ClientMessage): void {
    this.#world.watch.report(this, message)
    this.#line?.post(this.#world.checked('client', this.#measured(message)))
  }

  /** With what it knows of its links. */
  #measured(message: ClientMessage): ClientMessage {
    if (message.type !== 'finished' && message.type !== 'ready') return message
    const { nodes, network } = this.#world
    const links = linkMeasures(this.machine, (id) => {
      const other = this.peers.has(id) ? nodes.get(id) : undefined
      return other ? { rttMs: 2 * network.wayMs(this, other), bytesPerSecond: null } : null
    })
    return { ...message, links }
  }

  dial(): void {
    if (!this.alive || this.socket) return
    const { clock, random } = this.#world
    const socket: Socket = { node: this, nodeOpen: true, serverOpen: false, welcomed: false }
    this.socket = socket
    const session = this.#token && { token: this.#token, received: this.#line?.mailbox.received ?? 0 }
    const hello = { session: session || null, holding: holding(this.machine) }
    clock.after(this.wireMs + random.between(5, 40), () => {
      if (this.alive && this.island === 0) this.server.onHello(socket, hello)
    })
    clock.after(WELCOME_MS, () => {
      if (!socket.welcomed) this.onClosed(socket)
    })
  }

  onWelcome(socket: Socket, message: Extract<ServerMessage, { type: 'welcome' }>): void {
    if (!this.alive || this.socket !== socket) return
    socket.welcomed = true
    this.#token = message.token
    if (message.resumed) {
      this.#line!.resume(message.received)
    } else {
      this.#line?.close()
      this.#line = new LineEnd<ClientMessage, ServerMessage>(
        this.#world.clock,
        (envelope) => this.#toServer(envelope),
        (heard) => this.#hear(heard),
      )
      if (this.paused) this.report({ type: 'pause' })
    }
    this.handle({ type: 'server', message })
  }

  onEnvelope(envelope: Envelope<ServerMessage>): void {
    if (this.alive) this.#line?.arrive(envelope)
  }

  /** The socket is found closed; it dials again soon. */
  onClosed(socket: Socket): void {
    socket.nodeOpen = false
    if (!this.alive || this.socket !== socket) return
    this.socket = null
    this.#world.clock.after(this.#world.random.between(200, 2500), () => this.dial())
  }

  #hear(message: ServerMessage): void {
    if (!this.alive || message.type === 'ping') return
    if (this.#world.trace) this.#world.note(`${this.id} hears`, message)
    this.handle({ type: 'server', message })
  }

  #toServer(envelope: Envelope<ClientMessage>): void {
    const { socket } = this
    if (!this.alive || !socket?.welcomed) return
    this.#world.network.envelope(this, () => this.server.onEnvelope(socket, envelope))
  }

  #pulse(): void {
    if (!this.alive) return
    const { clock } = this.#world
    clock.after(TICK_MS, this.#beat)
    this.handle({ type: 'tick', now: clock.now })
    if (this.#pulses++ % TICKS_A_HEARTBEAT > 0) return
    this.#world.watch.node(this)
    const { socket, phase, progress } = this
    // A line on which nothing is acknowledged is dead, whatever the system says.
    if (socket?.welcomed && this.#line!.mailbox.oldestUnacked(clock.now) > DEAD_LINE_MS) return this.onClosed(socket)
    if (socket?.welcomed) this.#world.network.envelope(this, () => this.server.onHeartbeat(socket, phase, progress))
  }

  #perform(action: Action): void {
    switch (action.type) {
      case 'prepare':
        return this.#prepare(action.assignment)
      case 'keep': {
        const tenure = this.tenure!
        const { generation } = action.assignment
        tenure.assignment = action.assignment
        return this.#enqueue(tenure, 1, () => ({ type: 'prepared', generation, step: null, expectedMs: null }))
      }
      case 'discard':
        this.tenure = null
        if (!this.paused) this.phase = 'standby'
        return
      case 'report':
        return this.report(action.message)
      case 'send': {
        const { to, address } = action
        const tensor = this.#tensorFor(to, address, action.tensor)
        const digest = tensor.digest ?? null
        return this.#world.network.frame(this, to, { type: 'frame', from: this.id, address, tensor, digest })
      }
      case 'exhibit':
        return this.#world.clock.after(this.wireMs + EXHIBIT_MS, () => {
          if (this.alive) this.server.desk?.exhibit(this, action.audit, action.kind, action.tensor)
        })
      case 'sign':
        return this.#sign(this.tenure!, action)
      case 'tally': {
        const { generation } = this.tenure!.assignment
        const { step, attempt, shard } = action
        const digests = action.digests as Digest[]
        const message = { type: 'tallied', generation, step, attempt, shard, digests } as const
        return this.handle({ type: 'tallied', generation, message })
      }
      case 'want':
        return this.#world.network.frame(this, action.to, { type: 'want', from: this.id, address: action.address })
      default:
        return this.#work(action)
    }
  }

  /** Another than was signed for, if this node lies about it to whoever takes it. */
  #tensorFor(to: string, { kind, index }: TensorAddress, tensor: Tensor): Tensor {
    const lease = this.machine.current?.leases.get(index)
    const juror = (kind === 'activation' && to !== lease?.down) || (kind === 'gradient' && to !== lease?.up)
    const lies = (this.lie === 'equivocation' && kind === 'gradientShard') || (this.lie === 'inputs' && juror)
    if (!lies) return tensor
    const values = falsified(tensor.values)
    const shares = tensor.shares?.map((share) => ({ ...share, forged: true as const })) ?? null
    return { values, shares, digest: digestOf(values, 0, []) }
  }

  /** Beside the GPU. */
  #sign(tenure: Tenure, { step, version, entries, shares }: Extract<Action, { type: 'sign' }>): void {
    const { generation, runId: run, stage } = tenure.assignment
    const about = { run, generation, step, leases: version, stage, device: this.deviceId, shares: shares as Digest[] }
    const claimed = this.claims(entries as ReceiptEntry<Digest>[])
    const receipts = receiptsOf(about, claimed).map((receipt) => ({ receipt, signature: signatureOf(receipt) }))
    this.#world.clock.after(SIGN_MS, () => {
      if (this.alive && this.tenure === tenure) this.handle({ type: 'signed', generation, step, version, receipts })
    })
  }

  #work(action: WorkAction): void {
    const tenure = this.tenure!
    const { generation } = tenure.assignment
    if (action.type === 'beginStep') this.phase = 'training'
    const busyMs = this.#world.busyMs(action) * this.slowness
    this.#enqueue(tenure, busyMs, () => {
      const event = tenure.work(action, generation, busyMs)
      this.#world.watch.worked(this, tenure, action)
      return event
    })
  }

  /** In the order of the GPU's queue, and only if this assignment still stands when its turn has come. */
  #enqueue(tenure: Tenure, busyMs: number, work: () => StageEvent<Tensor> | null): void {
    const { clock } = this.#world
    tenure.gpuFreeAt = Math.max(clock.now, tenure.gpuFreeAt) + busyMs
    clock.after(tenure.gpuFreeAt - clock.now, () => {
      if (!this.alive || this.tenure !== tenure || this.hung) return
      const event = work()
      if (event) this.handle(event)
    })
  }

  #prepare(assignment: Assignment): void {
    const tenure = new Tenure(this.id, assignment, this.#world, this.#world.salt())
    tenure.lie = this.lie
    this.tenure = tenure
    this.phase = 'loading'
    const { generation, source } = assignment
    const { random } = this.#world
    const { pace } = this.#world.options
    const loadMs = random.between(pace.loadMs[0], pace.loadMs[1])
    this.#enqueue(tenure, loadMs, () => {
      this.phase = 'ready'
      const step = source === 'checkpoint' ? tenure.load() : null
      // Kernels were measured, roughly, where the device could tell at all.
      const expectedMs = random.chance(0.1)
        ? null
        : (pace.forwardMs + pace.backwardMs) * this.slowness * random.between(0.7, 1.3)
      return { type: 'prepared', generation, step, expectedMs }
    })
  }
}
