/** Owns the simulated wires: how long everything takes on its way, and what of it is lost, repeated, overtaken or swallowed. */
import { Mailbox, type Envelope } from '../../src/protocol/mailbox.ts'
import type { StageEvent } from '../../src/stage/machineTypes.ts'
import type { Clock, Random } from './clock.ts'
import type { SimNode } from './node.ts'
import type { Tensor } from './tenure.ts'

export interface Weather {
  /** Shares of all messages, control ones and frames alike. */
  loss: number
  duplicates: number
  reordered: number
  /** No two messages take just as long; within this many milliseconds they overtake each other. */
  jitterMs: number
  /** Time on the sender's uplink of one frame with a shard, and of one with a boundary tensor. */
  shardMs: number
  boundaryMs: number
  /** One way between any two regions, beside what the wires of both ends take. */
  apartMs: number
  /** From the first frame between two nodes until their link carries it. */
  dialMs: number
}

export type FrameEvent = Extract<StageEvent<Tensor>, { type: 'frame' | 'want' }>

/** One end of a session's mailbox with its timer; it survives the sockets under it. Losing envelopes is what it is for. */
export class LineEnd<Out, In> {
  readonly mailbox = new Mailbox<Out, In>({ wire: 'lossy' })
  readonly #clock: Clock
  readonly #transmit: (envelope: Envelope<Out>) => void
  readonly #deliver: (message: In) => void
  #timerAt = Infinity

  constructor(clock: Clock, transmit: (envelope: Envelope<Out>) => void, deliver: (message: In) => void) {
    this.#clock = clock
    this.#transmit = transmit
    this.#deliver = deliver
  }

  post(message: Out): void {
    this.#transmit(this.mailbox.post(message, this.#clock.now))
    this.#arm()
  }

  arrive(envelope: Envelope<In>): void {
    for (const message of this.mailbox.receive(envelope, this.#clock.now)) this.#deliver(message)
    this.#arm()
  }

  resume(received: number): void {
    for (const envelope of this.mailbox.resumeAt(received, this.#clock.now)) this.#transmit(envelope)
    this.#arm()
  }

  close(): void {
    this.#timerAt = -1
  }

  #arm(): void {
    const due = this.mailbox.nextDue()
    if (due === null || due >= this.#timerAt) return
    this.#timerAt = due
    this.#clock.after(Math.max(0, due - this.#clock.now), () => {
      if (this.#timerAt !== due) return
      this.#timerAt = Infinity
      for (const envelope of this.mailbox.due(this.#clock.now)) this.#transmit(envelope)
      this.#arm()
    })
  }
}

/** The server's part of each link. */
export const SERVER_WIRE_MS = 15

export class Network {
  readonly nodes = new Map<string, SimNode>()
  readonly weather: Weather
  /** Pairs that never reach each other. */
  readonly unreachable: ReadonlySet<string>
  frames = 0
  readonly #clock: Clock
  readonly #random: Random
  /** Raised when a link breaks: what was under way then does not arrive. */
  readonly #cuts = new Map<string, number>()
  /** By pair, when the link carries something. */
  readonly #openAt = new Map<string, number>()
  /** Pairs whose link swallows everything without a word. */
  readonly #mute = new Set<string>()

  constructor(clock: Clock, random: Random, weather: Weather, unreachable: readonly [string, string][] = []) {
    this.#clock = clock
    this.#random = random
    this.weather = weather
    this.unreachable = new Set(unreachable.map(([a, b]) => pairOf(a, b)))
  }

  frame(from: SimNode, to: string, event: FrameEvent): void {
    this.frames++
    const target = this.nodes.get(to)
    if (!target?.alive || this.#barred(from.id, to)) return this.#dialInVain(from, to)
    const dialMs = this.#dialMs(from, target)
    if (from.island !== target.island) return
    const pair = this.#mute.size + this.#cuts.size > 0 ? pairOf(from.id, to) : ''
    if (this.#mute.has(pair)) return
    const cut = this.#cuts.get(pair)
    const deliver = () => {
      if (target.island === from.island && (pair === '' || this.#cuts.get(pair) === cut)) target.handle(event)
    }
    this.#carry(dialMs + this.wayMs(from, target) + this.#uplink(from, event), deliver)
  }

  /** Milliseconds from one node to another. */
  wayMs(from: SimNode, to: SimNode): number {
    return from.wireMs + to.wireMs + (from.region === to.region ? 0 : this.weather.apartMs)
  }

  /** One control envelope on a socket; the server's wire is shorter than a volunteer's. */
  envelope(node: SimNode, arrive: () => void): void {
    if (node.island !== 0) return
    this.#carry(node.wireMs + SERVER_WIRE_MS, () => {
      if (node.island === 0) arrive()
    })
  }

  /** Both ends notice, and it can be dialled anew. */
  cut(a: SimNode, b: SimNode): void {
    const pair = pairOf(a.id, b.id)
    this.#cuts.set(pair, (this.#cuts.get(pair) ?? 0) + 1)
    a.linkLost(b.id)
    this.#clock.after(this.#random.between(0, 6000), () => b.linkLost(a.id))
  }

  /** Swallows everything for a while, and neither end notices. */
  mute(a: SimNode, b: SimNode, forMs: number): void {
    const pair = pairOf(a.id, b.id)
    this.#mute.add(pair)
    this.#clock.after(forMs, () => this.#mute.delete(pair))
  }

  /** Those who talked with the dead notice, some seconds later. */
  bury(dead: SimNode, soonestMs: number, latestMs: number): void {
    for (const id of dead.peers) {
      const peer = this.nodes.get(id)
      if (peer) this.#clock.after(this.#random.between(soonestMs, latestMs), () => peer.linkLost(dead.id))
    }
    dead.peers.clear()
  }

  /** Whether some pair has no link that works: one of the two may have to sit elsewhere. */
  dead(): boolean {
    return this.#mute.size + this.unreachable.size > 0
  }

  /** Milliseconds until the link of two nodes is open; it is dialled where there is none. */
  #dialMs(from: SimNode, to: SimNode): number {
    const { dialMs } = this.weather
    const pair = dialMs > 0 ? pairOf(from.id, to.id) : ''
    if (dialMs > 0 && !from.peers.has(to.id)) this.#openAt.set(pair, this.#clock.now + dialMs)
    from.peers.add(to.id)
    to.peers.add(from.id)
    return dialMs > 0 ? Math.max(0, this.#openAt.get(pair)! - this.#clock.now) : 0
  }

  #barred(a: string, b: string): boolean {
    return this.unreachable.size > 0 && this.unreachable.has(pairOf(a, b))
  }

  #dialInVain(from: SimNode, to: string): void {
    if (from.dialling.has(to)) return
    from.dialling.add(to)
    this.#clock.after(this.#random.between(1000, 6000), () => {
      from.dialling.delete(to)
      from.linkLost(to)
    })
  }

  /** Waits for the sender's uplink; returns for how long. */
  #uplink(from: SimNode, event: FrameEvent): number {
    if (event.type === 'want') return 0
    const { kind } = event.address
    const { boundaryMs, shardMs } = this.weather
    const busyMs = kind === 'activation' || kind === 'gradient' ? boundaryMs : shardMs
    const { now } = this.#clock
    from.uplinkFreeAt = Math.max(now, from.uplinkFreeAt) + busyMs
    return from.uplinkFreeAt - now
  }

  #carry(delay: number, deliver: () => void): void {
    const { loss, duplicates, reordered, jitterMs } = this.weather
    const fate = this.#random.next()
    if (fate < loss) return
    let late = delay + jitterMs * this.#random.next()
    if (fate > 1 - duplicates) this.#clock.after(delay + this.#random.between(2, 4000), deliver)
    else if (fate > 1 - duplicates - reordered) late += this.#random.between(50, 2000)
    this.#clock.after(late, deliver)
  }
}

export const pairOf = (a: string, b: string) => (a < b ? `${a}|${b}` : `${b}|${a}`)
