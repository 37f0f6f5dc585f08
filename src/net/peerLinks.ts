/** Owns the Worker's side of the network: whom to be connected to, dialling and redialling, and frames in and out. */
import type { SkeinError } from '../protocol/errors.ts'
import type { LinkKind } from '../protocol/control.ts'
import { ForwardedChannel, ownedChannel, type Channel, type ChannelEvents } from './channel.ts'
import { Dialling } from './dialling.ts'
import {
  DIAL_DEADLINE_MS,
  IDLE_MS,
  MAX_STRANDS,
  MAX_STRANDS_WITH_NODE,
  QUIET_MS,
  SPARE_IDLE_MS,
  STALL_MS,
  STALLED_MS,
  STRANDS,
  STRIPING_RTT_MS,
} from './limits.ts'
import { Link, type LinkSpeed, type Priority } from './link.ts'
import type { LinksMessage, PeerIdentity, SessionMessage } from './linkMessages.ts'
import { relayChannel } from './relayChannel.ts'
import { Relaying } from './relaying.ts'
import { longestWay, shortestWay } from './route.ts'
import { brokerUnreachable, closed, noRoute } from './routeErrors.ts'
import { ShorterWays } from './shorterWays.ts'
import { Strand } from './strand.ts'
import { WaitingFrames } from './waitingFrames.ts'

export interface LinkTotals {
  /** Bytes over the wire since this Worker began, slice headers included. */
  upBytes: number
  downBytes: number
  /** Of all links that stand the longest way that one takes. */
  link: LinkKind
}

/** Which ways a dial may take: any, or none through TURN. */
type Search = 'any' | 'direct'

/** How often dials, deadlines and idle links are looked at; a Worker's timers are not throttled. */
const SWEEP_MS = 100

/**
 * Links on demand: a frame for a node without a link waits while that node is dialled. Where both dial at once both
 * connections belong to the one link; on a long line the node with the smaller id then opens more of them.
 */
export class PeerLinks {
  readonly #port: MessagePort
  readonly #now: () => number
  #hinted = new Set<string>()
  readonly #dialling = new Dialling()
  readonly #waiting = new WaitingFrames()
  readonly #strands = new Map<string, Strand>()
  readonly #links = new Map<string, Link>()
  /** What this end calls the link with a node, from the first handshake until that link is lost. */
  readonly #names = new Map<string, string>()
  readonly #forwarded = new Map<string, ForwardedChannel>()
  readonly #sweeper: ReturnType<typeof setInterval>
  readonly #relaying = new Relaying()
  readonly #shorterWays = new ShorterWays()
  #identity: PeerIdentity | null = null
  #brokerConnected = false
  #brokerError: string | null = null
  #closed = false
  #up = 0
  #down = 0
  #frameHandler: (from: string, bytes: Uint8Array<ArrayBuffer>) => void = () => {}
  #lostHandler: (nodeId: string, error: SkeinError | null) => void = () => {}

  /** `port`: the other end is the page's `PeerSession`. */
  constructor(port: MessagePort, options: { now?: () => number } = {}) {
    this.#port = port
    this.#now = options.now ?? (() => performance.now())
    port.onmessage = (event: MessageEvent<SessionMessage>) => this.#session(event.data)
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS)
  }

  /** Joins the broker as this node; called again with each `welcome`. Another node id closes every link. */
  openPeer(identity: PeerIdentity): void {
    if (this.#self !== identity.nodeId) {
      this.#brokerConnected = false
      this.#relaying.forget()
      for (const strand of [...this.#strands.values()]) strand.close()
    }
    this.#identity = identity
    this.#post({ type: 'open', identity })
  }

  /** The nodes worth a link before there is something to send, the most important first; others are dialled on demand. */
  setPartners(ids: readonly string[]): void {
    this.#hinted = new Set(ids.slice(0, MAX_STRANDS / 2))
    this.#sweep()
  }

  /**
   * Sends one frame, over a link that is made if there is none. Frames of one priority to one node mostly arrive in the order of
   * these calls. Resolves when the last slice is in a channel; `bytes` belong to the link from now on and must not change.
   * @throws SkeinError `net.no_route`, `net.broker_unreachable`, `net.relay_cap`, `net.link_lost`, `net.frame_size`, `net.queue_full`, `net.closed`
   */
  send(nodeId: string, bytes: Uint8Array, priority: Priority = 'boundary'): Promise<void> {
    if (this.#closed) return Promise.reject(closed())
    const link = this.#links.get(nodeId)
    if (link) return link.send(bytes, priority)
    const sent = this.#waiting.add(nodeId, bytes, priority, this.#now())
    this.#sweep()
    return sent
  }

  /** Whole frames, from whichever node dialled us or was dialled. */
  onFrame(handler: (from: string, bytes: Uint8Array<ArrayBuffer>) => void): void {
    this.#frameHandler = handler
  }

  /**
   * An open link is gone, and with it whatever was under way; one that was idle for long is not told. `error`: why this side
   * closed it, where it did.
   */
  onLost(handler: (nodeId: string, error: SkeinError | null) => void): void {
    this.#lostHandler = handler
  }

  isOpen(nodeId: string): boolean {
    return this.#links.has(nodeId)
  }

  /** The longest way that a connection of the link to a node takes. */
  wayTo(nodeId: string): LinkKind {
    return longestWay([...(this.#links.get(nodeId)?.strands ?? [])].map(({ kind }) => kind))
  }

  /** How many connections the link to a node has. */
  connectionsTo(nodeId: string): number {
    return this.#links.get(nodeId)?.strands.size ?? 0
  }

  /** Null while there is no link to the node, or its round trip is not known. */
  speedOf(nodeId: string): LinkSpeed | null {
    return this.#links.get(nodeId)?.speed ?? null
  }

  totals(): LinkTotals {
    const strands = [...this.#strands.values()]
    return {
      upBytes: strands.reduce((sum, strand) => sum + strand.upBytes, this.#up),
      downBytes: strands.reduce((sum, strand) => sum + strand.downBytes, this.#down),
      link: longestWay(strands.filter(({ state }) => state === 'established').map(({ kind }) => kind)),
    }
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#sweeper)
    this.#hinted.clear()
    this.#dialling.clear()
    for (const strand of [...this.#strands.values()]) strand.close()
    this.#waiting.expire(Infinity, closed)
    this.#post({ type: 'close' })
    this.#port.onmessage = null
  }

  get #self(): string | null {
    return this.#identity?.nodeId ?? null
  }

  #post(message: LinksMessage, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer)
  }

  #session(message: SessionMessage): void {
    if (message.type === 'broker') {
      this.#brokerConnected = message.connected
      this.#brokerError = message.connected ? null : (message.error?.message ?? this.#brokerError)
      // A dial that the broker's absence swallowed is due again.
      this.#dialling.allBegun()
      return this.#sweep()
    }
    if (message.type === 'strand') return this.#begin(message)
    const strand = this.#strands.get(message.strandId)
    if (!strand) return
    if (message.type === 'gone') strand.close()
    if (message.type === 'kind') strand.kind = message.kind
    if (message.type === 'shaky') this.#shake(strand, message.shaky)
    const forwarded = this.#forwarded.get(message.strandId)
    if (message.type === 'forwardOpen') forwarded?.events.open()
    if (message.type === 'forwarded') forwarded?.events.message(message.data)
  }

  #begin({ strandId, partner, dialled, channel }: Extract<SessionMessage, { type: 'strand' }>): void {
    if (dialled) this.#dialling.begun(partner)
    if (this.#strandsWith(partner) >= MAX_STRANDS_WITH_NODE || !this.#hasRoom()) {
      channel?.close()
      return this.#post({ type: 'drop', strandId })
    }
    this.#add(strandId, partner, dialled, 'unknown', (events) => {
      if (channel) return ownedChannel(channel, events)
      const forwarded = new ForwardedChannel(strandId, (message, transfer) => this.#post(message, transfer), events)
      this.#forwarded.set(strandId, forwarded)
      return forwarded
    })
  }

  #add(
    strandId: string,
    partner: string,
    dialled: boolean,
    kind: LinkKind,
    connect: (events: ChannelEvents) => Channel,
  ): void {
    const strand = new Strand({
      strandId,
      partner,
      dialled,
      kind,
      now: this.#now,
      later: (milliseconds, run) => void setTimeout(run, milliseconds),
      connect,
      ownLink: () => this.#nameOf(partner),
      established: (open) => this.#established(open),
      slice: (from, bytes) => this.#links.get(partner)?.accept(bytes, from.usedAt),
      roomAgain: () => this.#links.get(partner)?.pump(),
      closed: (gone, error) => this.#gone(gone, error),
    })
    this.#strands.set(strandId, strand)
  }

  /** Both ends come to the relay by themselves; the smaller id counts as who dialled. */
  #beginRelay({ relay, nodeId, token }: PeerIdentity & { relay: string }, partner: string): void {
    const refused = (error: SkeinError) => this.#relaying.failed(partner, error, this.#now())
    this.#add(`relay ${randomName()}`, partner, nodeId < partner, 'server', (events) =>
      relayChannel({ origin: relay, nodeId, token, partner }, events, refused),
    )
  }

  /** Others carry what it should have; where there are none, another is dialled while this one may yet recover. */
  #shake(strand: Strand, shaky: boolean): void {
    strand.disconnected = shaky
    this.#links.get(strand.partner)?.pump()
    this.#sweep()
  }

  #strandsWith(partner: string): number {
    let count = 0
    for (const strand of this.#strands.values()) if (strand.partner === partner) count += 1
    return count
  }

  #nameOf(partner: string): string {
    const name = this.#names.get(partner) ?? randomName()
    this.#names.set(partner, name)
    return name
  }

  /** Where all connections are taken, the link that nobody hinted at and that was not used for longest makes room. */
  #hasRoom(): boolean {
    if (this.#strands.size < MAX_STRANDS) return true
    const idle = [...this.#links.values()]
      .filter(({ partner, idleMs }) => !this.#hinted.has(partner) && idleMs >= SPARE_IDLE_MS)
      .sort((a, b) => b.idleMs - a.idleMs)
    idle[0]?.close()
    return idle.length > 0
  }

  #established(strand: Strand): void {
    const { partner } = strand
    const link = this.#links.get(partner)
    // A shorter way has opened meanwhile.
    if (strand.kind === 'server' && link?.holds(strand)) return strand.close()
    if (link?.holds(strand)) link.add(strand)
    else {
      // The other end has lost the link of this name, and with it whatever was under way.
      link?.close()
      this.#names.set(partner, strand.ownLink)
      const opened = new Link(strand, (bytes) => this.#frameHandler(partner, bytes))
      this.#links.set(partner, opened)
      this.#waiting.flush(partner, (bytes, priority) => opened.send(bytes, priority))
    }
    // It carries what they have held up; should they deliver it after all, the receiver drops it.
    for (const other of this.#links.get(partner)!.strands) if (other.stalledMs >= STALL_MS) other.close()
    if (strand.kind === 'server') this.#relaying.succeeded(partner)
    else {
      this.#post({ type: 'established', strandId: strand.strandId })
      this.#dialling.succeeded(partner)
      for (const other of this.#links.get(partner)!.strands) if (other.kind === 'server') other.close()
    }
  }

  #gone(strand: Strand, error: SkeinError | null): void {
    const { strandId, partner } = strand
    this.#strands.delete(strandId)
    this.#forwarded.delete(strandId)
    this.#up += strand.upBytes
    this.#down += strand.downBytes
    this.#post({ type: 'drop', strandId })
    const link = this.#links.get(partner)
    const now = this.#now()
    if (!strand.partnerLink && strand.kind !== 'server') this.#dialling.failed(partner, this.#yields(partner), now)
    if (!strand.partnerLink && strand.kind === 'server' && !this.#relaying.errorOf(partner))
      this.#relaying.failed(partner, null, now)
    if (!link?.strands.has(strand)) return
    const quiet = link.idleMs >= QUIET_MS
    if (link.remove(strand) && !error) return
    // The last connection, or a partner that is broken: nothing of it is believed any more.
    this.#links.delete(partner)
    this.#names.delete(partner)
    this.#shorterWays.forget(partner)
    this.#dialling.failed(partner, this.#yields(partner), now)
    link.close()
    if (!this.#closed && !quiet) this.#lostHandler(partner, error)
  }

  #sweep(): void {
    const now = this.#now()
    for (const strand of [...this.#strands.values()]) {
      if (strand.state === 'opening' && now - strand.startedAt > DIAL_DEADLINE_MS) strand.close()
      if (strand.stalledMs >= STALLED_MS) strand.close()
    }
    for (const link of [...this.#links.values()]) {
      link.evictStale(now)
      for (const strand of link.needless) strand.close()
      if (link.idleMs >= (this.#hinted.has(link.partner) ? Infinity : IDLE_MS)) link.close()
    }
    this.#waiting.expire(now, (nodeId) => this.#unreachable(nodeId))
    const further = new Map<string, Search>()
    for (const link of this.#links.values()) {
      const search = this.#furtherWay(link, now)
      if (search) further.set(link.partner, search)
    }
    const wanted = new Set([...this.#hinted, ...this.#waiting.nodes(), ...further.keys()])
    this.#dialling.want(wanted, now)
    for (const id of wanted) {
      const search = further.get(id) ?? (this.#links.has(id) ? null : 'any')
      if (search) this.#dialIfDue(id, search, now)
    }
    this.#relayIfDue(now)
  }

  /** The further connection that a link needs, if any: they are opened one after another. */
  #furtherWay({ partner, rttMs, strands }: Link, now: number): Search | null {
    const sound = [...strands].filter(({ shaky }) => !shaky)
    // A network has changed here or there: both ends look for another way.
    if (sound.length === 0) return 'any'
    // Else one end does: the smaller id's.
    if (this.#yields(partner) || this.#strands.size >= MAX_STRANDS / 2) return null
    const way = shortestWay(sound.map(({ kind }) => kind))
    if (this.#shorterWays.isDue(partner, way, now)) return way === 'relayed' ? 'direct' : 'any'
    if (way === 'server' || !(rttMs >= STRIPING_RTT_MS) || !Number.isFinite(rttMs) || sound.length >= STRANDS)
      return null
    // Through TURN it would be closed again.
    return way === 'direct' ? 'direct' : 'any'
  }

  /** A connection that opens in vain tells both ends alike that the server's help is due. */
  #relayIfDue(now: number): void {
    const identity = this.#identity
    if (!identity?.relay) return
    for (const { partner, state, kind, startedAt } of [...this.#strands.values()]) {
      if (state !== 'opening' || kind === 'server' || this.#links.has(partner)) continue
      if (!this.#relaying.isDue(partner, startedAt, now) || this.#isRelaying(partner)) continue
      this.#beginRelay({ ...identity, relay: identity.relay }, partner)
    }
  }

  #isRelaying(partner: string): boolean {
    return [...this.#strands.values()].some((strand) => strand.partner === partner && strand.kind === 'server')
  }

  #yields(id: string): boolean {
    return this.#self! > id
  }

  #dialIfDue(id: string, search: Search, now: number): void {
    if (this.#self === null || this.#self === id || !this.#brokerConnected) return
    for (const { partner, state, kind } of this.#strands.values()) {
      if (partner === id && state === 'opening' && kind !== 'server') return
    }
    if (!this.#dialling.isDue(id, this.#yields(id), now) || !this.#hasRoom()) return
    this.#dialling.dialled(id, now)
    this.#shorterWays.tried(id, now)
    this.#post({ type: 'dial', partner: id, direct: search === 'direct' })
  }

  #unreachable(nodeId: string): SkeinError {
    if (!this.#brokerConnected) return brokerUnreachable(this.#brokerError)
    return this.#relaying.errorOf(nodeId) ?? noRoute(nodeId)
  }
}

/** Told apart from those before it: nobody gains by guessing it. */
function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
