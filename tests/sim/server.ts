/** Owns the simulated server: the orchestrator, the sessions it talks through, and the database that outlives it. */
import { decide, initialState } from '../../server/orchestrator/orchestrator.ts'
import type { OrchestratorCommand, OrchestratorEvent, RunSubmission } from '../../server/orchestrator/types.ts'
import type { ClientMessage, Holding, NodePhase, ServerMessage, StageCheckpoint } from '../../src/protocol/control.ts'
import type { Envelope } from '../../src/protocol/mailbox.ts'
import { AuditDesk } from './auditDesk.ts'
import { LineEnd } from './network.ts'
import { hashOf, signatureOf } from './integerReceipts.ts'
import type { SimNode } from './node.ts'
import type { World } from './world.ts'

export interface Socket {
  readonly node: SimNode
  nodeOpen: boolean
  serverOpen: boolean
  welcomed: boolean
}

interface Session {
  readonly token: string
  readonly line: LineEnd<ServerMessage, ClientMessage>
  socket: Socket | null
}

export interface Hello {
  session: { token: string; received: number } | null
  holding: Holding | null
}

type DistributedEvent = OrchestratorEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

const TICK_MS = 500
const HEARTBEAT_MS = 2000
/** A control message that waits this long for its acknowledgement makes the node suspect. */
const UNACKED_MS = 1500

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

export class SimServer {
  state
  up = true
  /** What the database holds of each run. */
  readonly records = new Map<string, RunSubmission>()
  restarts = 0
  recovered = 0
  /** Where claims are audited. */
  readonly desk: AuditDesk | null
  readonly #world: World
  readonly #sessions = new Map<string, Session>()
  /** Writes under way: the process may die before they are durable. */
  readonly #writing = new Set<() => void>()
  #life = 0
  /** The process dies amid the commands of the next decision that writes. */
  #doomed = false

  constructor(world: World) {
    this.#world = world
    this.state = initialState(world.options.timing)
    this.desk = world.options.audits && new AuditDesk(world, world.options.audits)
    const tick = () => {
      world.clock.after(TICK_MS, tick)
      if (this.up) this.#tick()
    }
    world.clock.after(TICK_MS, tick)
  }

  submit(run: RunSubmission): void {
    this.records.set(run.id, run)
    this.dispatch({ type: 'runSubmitted', run })
  }

  onHello(socket: Socket, { session: known, holding }: Hello): void {
    const { node } = socket
    if (!this.up || !socket.nodeOpen) return this.#tellClosed(socket)
    if (this.desk?.isShut(node.deviceId)) return this.#world.crash(node, true)
    let session = this.#sessions.get(node.id)
    const resumed = session !== undefined && session.token === known?.token
    socket.serverOpen = true
    if (session && resumed) {
      if (session.socket) this.#tellClosed(session.socket)
      session.socket = socket
    } else {
      this.#forget(node.id)
      const line: Session['line'] = new LineEnd<ServerMessage, ClientMessage>(
        this.#world.clock,
        (envelope) => this.#toNode(node.id, envelope),
        (message) => this.#hear(node, message),
      )
      session = { token: `${node.id}.${this.#world.salt()}`, line, socket }
      this.#sessions.set(node.id, session)
    }
    const { token, line } = session
    const { received } = line.mailbox
    const welcome = { nodeId: node.id, resumed, received, token, heartbeatMs: HEARTBEAT_MS, iceServers: [] }
    // No envelope overtakes it: they take longer.
    this.#world.clock.after(node.wireMs + 4, () => node.onWelcome(socket, { type: 'welcome', ...welcome }))
    if (this.#world.trace) this.#world.note(`${node.id} dials in`, Object.assign({ type: 'hello', resumed }, holding))
    if (resumed) {
      line.resume(known!.received)
      return this.dispatch({ type: 'nodeResumed', nodeId: node.id })
    }
    const { id, deviceId, memoryBytes } = node
    const joined = { id, deviceId, kind: 'browser' as const, adapter: HARDWARE, memoryBytes, holding }
    this.dispatch({ type: 'nodeJoined', node: joined })
  }

  onEnvelope(socket: Socket, envelope: Envelope<ClientMessage>): void {
    if (socket.serverOpen) this.#sessions.get(socket.node.id)?.line.arrive(envelope)
    else this.#tellClosed(socket)
  }

  /** Unnumbered: the next one makes good for one that is lost. */
  onHeartbeat(socket: Socket, phase: NodePhase, progress: number | null): void {
    if (!socket.serverOpen) return this.#tellClosed(socket)
    const message = { type: 'heartbeat', phase, progress, stats: NO_STATS } as const
    this.dispatch({ type: 'message', nodeId: socket.node.id, message })
  }

  /** The socket's other end is gone. */
  onClosed(socket: Socket): void {
    if (!socket.serverOpen) return
    socket.serverOpen = false
    const session = this.#sessions.get(socket.node.id)
    if (session?.socket !== socket) return
    session.socket = null
    this.dispatch({ type: 'nodeDetached', nodeId: socket.node.id })
    if (!this.state.nodes.has(socket.node.id)) this.#forget(socket.node.id)
  }

  /** The process dies, at once or amid what it writes next, and comes back with what its database holds. */
  restart(downMs: number, amid = false): void {
    if (!this.up) return
    if (amid) this.#doomed = true
    else this.#die(downMs)
  }

  dispatch(event: DistributedEvent): void {
    if (!this.up) return
    const { clock, watch } = this.#world
    watch.before(this.state)
    const commands = decide(this.state, { ...event, now: clock.now } as OrchestratorEvent)
    watch.server(this.state)
    let left = Infinity
    if (this.#doomed && commands.some(({ type }) => type === 'prepareStep' || type === 'commitStep'))
      left = Math.floor(this.#world.random.between(0, commands.length + 1))
    for (const command of commands) {
      if (left-- <= 0) break
      this.#carryOut(command)
    }
    if (left < Infinity) this.#die(this.#world.random.between(200, 4000))
  }

  /** What another part of the process tells the orchestrator, on its next turn. */
  soon(event: DistributedEvent): void {
    const life = this.#life
    this.#world.clock.after(0, () => {
      if (life === this.#life) this.dispatch(event)
    })
  }

  send(nodeId: string, message: ServerMessage): void {
    this.#sessions.get(nodeId)?.line.post(this.#world.checked('server', message))
  }

  /** What a node or the server could let pile up. */
  pending(): number {
    let most = 0
    for (const { line } of this.#sessions.values()) most = Math.max(most, line.mailbox.pending)
    return most
  }

  sessions(): number {
    return this.#sessions.size
  }

  #tick(): void {
    this.dispatch({ type: 'tick' })
    this.desk?.tick()
    const { now } = this.#world.clock
    for (const [nodeId, { line, socket }] of this.#sessions)
      if (socket && line.mailbox.oldestUnacked(now) > UNACKED_MS) this.dispatch({ type: 'nodeUnresponsive', nodeId })
  }

  #hear(node: SimNode, message: ClientMessage): void {
    if (this.#world.trace) this.#world.note(`${node.id} says`, message)
    if (message.type === 'receipt') {
      const { receipt, signature } = message
      const genuine = receipt.device === node.deviceId && signature === signatureOf(receipt)
      const fault = genuine ? null : { code: 'receipt.signature', message: 'It is not the device’s.', remedy: '' }
      return this.dispatch({ type: 'receiptHeard', nodeId: node.id, message, hash: hashOf(receipt), fault })
    }
    this.dispatch({ type: 'message', nodeId: node.id, message })
    if (message.type === 'recomputed' || message.type === 'declined') this.desk?.heard(node, message)
  }

  #toNode(nodeId: string, envelope: Envelope<ServerMessage>): void {
    const socket = this.#sessions.get(nodeId)?.socket
    if (!socket) return
    this.#world.network.envelope(socket.node, () => {
      if (socket.nodeOpen && socket.welcomed) socket.node.onEnvelope(envelope)
    })
  }

  #tellClosed(socket: Socket): void {
    socket.serverOpen = false
    const { node } = socket
    this.#world.clock.after(node.wireMs + 20, () => {
      if (node.island === 0) node.onClosed(socket)
    })
  }

  #forget(nodeId: string): void {
    const session = this.#sessions.get(nodeId)
    if (!session) return
    session.line.close()
    if (session.socket) session.socket.serverOpen = false
    this.#sessions.delete(nodeId)
  }

  #carryOut(command: OrchestratorCommand): void {
    const world = this.#world
    if (command.type === 'send') return this.send(command.nodeId, command.message)
    if (command.type === 'disconnect') {
      const socket = this.#sessions.get(command.nodeId)?.socket
      if (world.trace) world.note(`server cuts off ${command.nodeId}`, { type: command.error.code })
      this.#forget(command.nodeId)
      if (!socket) return
      // The same device elsewhere: this one is told to stay away.
      if (command.error.code === 'control.replaced' || command.error.code === 'audit.convicted')
        world.crash(socket.node, true)
      else this.#tellClosed(socket)
      return
    }
    const { runId } = command
    const record = this.records.get(runId)!
    if (world.trace && command.type !== 'runChanged') world.note('server', command)
    world.watch.command(command, this.state.runs.get(runId))
    const keep = (change: Partial<RunSubmission>) =>
      void this.records.set(runId, { ...this.records.get(runId)!, ...change })
    switch (command.type) {
      case 'prepareStep': {
        const { generation, lr, scale, metric, work } = command
        const { step } = metric
        return this.#write(
          world.random.between(1, 30),
          () => keep({ unapplied: { generation, lr, scale, metric, work } }),
          () => this.dispatch({ type: 'stepPrepared', runId, generation, step }),
        )
      }
      case 'commitStep':
        return keep({ step: command.metric.step, unapplied: null })
      case 'rollBack':
        return keep({ step: command.toStep, unapplied: null })
      case 'runChanged': {
        const run = this.state.runs.get(runId)
        if (run) keep({ generation: run.generation })
        return
      }
      case 'reserve':
        // In place: at a start, copies of a thousand devices' places would cost more than anything else.
        return void (record.reservations as Map<string, number>).set(command.deviceId, command.stage)
      case 'recovered':
        this.recovered += command.leases
        return keep({ recovered: record.recovered + command.leases })
      case 'recutCheckpoint': {
        const error = { code: 'run.cut', message: 'One layer a stage cannot be cut anew.', remedy: 'None.' }
        return this.dispatch({ type: 'recutRefused', runId, error })
      }
      case 'claimed':
        return this.desk?.claimed(command.claim, command.replicas, command.reserves)
      case 'disputed':
        return this.desk?.watch(command.devices)
      case 'publishCheckpoint':
        return this.#publish(runId, command.step, command.stages)
    }
  }

  #publish(runId: string, step: number, stages: StageCheckpoint[]): void {
    const { random, options } = this.#world
    const delay = random.between(50, 4000)
    if (random.chance(options.refusals)) {
      const error = { code: 'blob.missing', message: 'a chunk is missing.', remedy: '' }
      return this.#write(
        delay,
        () => {},
        () => this.dispatch({ type: 'checkpointRefused', runId, step, error }),
      )
    }
    const checkpoint = { step, stages }
    this.#write(
      delay,
      () => void this.records.set(runId, { ...this.records.get(runId)!, checkpoint }),
      () => this.dispatch({ type: 'checkpointPublished', runId, checkpoint }),
    )
  }

  /** Durable after a while, and then answered; a process that dies meanwhile may have written and told nobody. */
  #write(delay: number, write: () => void, then: () => void): void {
    this.#writing.add(write)
    this.#world.clock.after(delay, () => {
      if (!this.#writing.delete(write)) return
      write()
      then()
    })
  }

  #die(downMs: number): void {
    const { clock, random } = this.#world
    if (this.#world.trace) this.#world.note('the server', { type: 'dies' })
    this.up = false
    this.#doomed = false
    this.restarts++
    const life = ++this.#life
    for (const write of this.#writing) if (random.chance(0.5)) write()
    this.#writing.clear()
    this.desk?.forget()
    for (const { line, socket } of this.#sessions.values()) {
      line.close()
      if (!socket) continue
      socket.serverOpen = false
      clock.after(random.between(20, 1500), () => socket.node.onClosed(socket))
    }
    this.#sessions.clear()
    clock.after(downMs, () => {
      if (life !== this.#life) return
      if (this.#world.trace) this.#world.note('the server', { type: 'starts' })
      this.up = true
      this.state = initialState(this.#world.options.timing)
      for (const run of [...this.records.values()]) {
        if (this.#world.watch.ended(run.id)) continue
        this.#world.watch.restarted(run)
        this.dispatch({ type: 'runSubmitted', run: { ...run, recovering: true } })
      }
    })
  }
}
