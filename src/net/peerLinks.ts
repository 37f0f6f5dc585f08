/** Owns the Worker's side of the network: whom to be connected to, dialling and redialling, and frames in and out. */
import { SkeinError } from '../protocol/errors.ts'
import type { LinkKind } from '../protocol/control.ts'
import { backoffMs } from './backoff.ts'
import { ForwardedChannel, ownedChannel } from './channel.ts'
import {
  DIAL_DEADLINE_MS,
  IDLE_MS,
  MAX_LINKS,
  MAX_LINKS_WITH_NODE,
  QUIET_MS,
  REDIAL_FIRST_MS,
  REDIAL_LONGEST_MS,
  SPARE_IDLE_MS,
  YIELD_MS,
} from './limits.ts'
import { Link, type LinkSpeed } from './link.ts'
import type { LinksMessage, PeerIdentity, SessionMessage } from './linkMessages.ts'
import { WaitingFrames } from './waitingFrames.ts'

export interface LinkTotals {
  /** Bytes over the wire since this Worker began, slice headers included. */
  upBytes: number
  downBytes: number
  /** `relayed` when any link is. */
  link: LinkKind
}

/** A node to be connected to: hinted at, or with frames that wait for it. */
interface Contact {
  readonly since: number
  failures: number
  nextDialAt: number
  /** When a dial began that has not become a link yet. */
  dialledAt: number | null
}

/** How often dials, deadlines and idle links are looked at; a Worker's timers are not throttled. */
const SWEEP_MS = 100

/**
 * Links on demand: a frame for a node without a link waits while that node is dialled. Both may dial at once, since neither
 * knows of the other's dial: then both links stand, and both ends send by the one that the smaller id dialled, while the
 * other one is left to deliver what is in it and closed when it is idle.
 */
export class PeerLinks {
  readonly #port: MessagePort
  readonly #now: () => number
  #hinted = new Set<string>()
  readonly #contacts = new Map<string, Contact>()
  readonly #waiting = new WaitingFrames()
  readonly #links = new Map<string, Link>()
  readonly #established = new Map<string, Set<Link>>()
  readonly #forwarded = new Map<string, ForwardedChannel>()
  readonly #sweeper: ReturnType<typeof setInterval>
  #self: string | null = null
  #brokerConnected = false
  #brokerError: string | null = null
  #closed = false
  #up = 0
  #down = 0
  #frameHandler: (from: string, bytes: Uint8Array<ArrayBuffer>) => void = () => {}
  #lostHandler: (nodeId: string) => void = () => {}

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
      for (const link of [...this.#links.values()]) link.close()
    }
    this.#self = identity.nodeId
    this.#post({ type: 'open', identity })
  }

  /** The nodes worth a link before there is something to send, the most important first; others are dialled on demand. */
  setPartners(ids: readonly string[]): void {
    this.#hinted = new Set(ids.slice(0, MAX_LINKS / 2))
    this.#sweep()
  }

  /**
   * Sends one frame, over a link that is made if there is none. Frames to one node mostly arrive in the order of these calls.
   * Resolves when the last slice is in the channel; `bytes` must not change until then.
   * @throws SkeinError `net.no_route`, `net.broker_unreachable`, `net.link_lost`, `net.frame_size`, `net.queue_full`, `net.closed`
   */
  send(nodeId: string, bytes: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(closed())
    const link = this.#linkTo(nodeId)
    if (link) return link.send(bytes)
    const sent = this.#waiting.add(nodeId, bytes, this.#now())
    this.#sweep()
    return sent
  }

  /** Whole frames, from whichever node dialled us or was dialled. */
  onFrame(handler: (from: string, bytes: Uint8Array<ArrayBuffer>) => void): void {
    this.#frameHandler = handler
  }

  /** An open link is gone, and with it whatever was under way; one that was idle for long is not told. */
  onLost(handler: (nodeId: string) => void): void {
    this.#lostHandler = handler
  }

  isOpen(nodeId: string): boolean {
    return this.#established.has(nodeId)
  }

  /** Null while there is no link to the node, or its round trip is not known. */
  speedOf(nodeId: string): LinkSpeed | null {
    return this.#linkTo(nodeId)?.speed ?? null
  }

  totals(): LinkTotals {
    const links = [...this.#established.values()].flatMap((set) => [...set])
    const kinds = links.map((link) => link.kind)
    return {
      upBytes: links.reduce((sum, link) => sum + link.upBytes, this.#up),
      downBytes: links.reduce((sum, link) => sum + link.downBytes, this.#down),
      link: kinds.includes('relayed') ? 'relayed' : kinds.includes('direct') ? 'direct' : 'unknown',
    }
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#sweeper)
    this.#hinted.clear()
    this.#contacts.clear()
    for (const link of [...this.#links.values()]) link.close()
    this.#waiting.expire(Infinity, closed)
    this.#post({ type: 'close' })
    this.#port.onmessage = null
  }

  #post(message: LinksMessage, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer)
  }

  /** The link to send by: of two the one that the smaller id dialled, so that both ends choose the same. */
  #linkTo(nodeId: string): Link | undefined {
    const links = [...(this.#established.get(nodeId) ?? [])]
    return links.find((link) => link.dialled === this.#self! < nodeId) ?? links[0]
  }

  #session(message: SessionMessage): void {
    if (message.type === 'broker') {
      this.#brokerConnected = message.connected
      this.#brokerError = message.connected ? null : (message.error?.message ?? this.#brokerError)
      // A dial that the broker's absence swallowed is due again.
      for (const contact of this.#contacts.values()) contact.dialledAt = null
      return this.#sweep()
    }
    if (message.type === 'link') return this.#begin(message)
    const link = this.#links.get(message.linkId)
    if (!link) return
    if (message.type === 'gone') link.close()
    if (message.type === 'kind') link.kind = message.kind
    const forwarded = this.#forwarded.get(message.linkId)
    if (message.type === 'forwardOpen') forwarded?.events.open()
    if (message.type === 'forwarded') forwarded?.events.message(message.data)
    if (message.type === 'forwardTaken') forwarded?.taken(message.taken, message.buffered)
  }

  #begin({ linkId, partner, dialled, channel }: Extract<SessionMessage, { type: 'link' }>): void {
    const contact = this.#contacts.get(partner)
    if (contact && dialled) contact.dialledAt = null
    const withPartner = [...this.#links.values()].filter((link) => link.partner === partner).length
    if (withPartner >= MAX_LINKS_WITH_NODE || !this.#hasRoom()) {
      channel?.close()
      return this.#post({ type: 'drop', linkId })
    }
    const link = new Link({
      linkId,
      partner,
      dialled,
      now: this.#now,
      connect: (events) => {
        if (channel) return ownedChannel(channel, events)
        const forwarded = new ForwardedChannel(linkId, (message, transfer) => this.#post(message, transfer), events)
        this.#forwarded.set(linkId, forwarded)
        return forwarded
      },
      established: (open) => this.#open(open),
      frame: (from, bytes) => this.#frameHandler(from.partner, bytes),
      closed: (gone) => this.#gone(gone),
    })
    this.#links.set(linkId, link)
  }

  /** Where all links are taken, the one that nobody hinted at and that was not used for longest makes room. */
  #hasRoom(): boolean {
    if (this.#links.size < MAX_LINKS) return true
    const idle = [...this.#links.values()]
      .filter((link) => link.state === 'established' && !this.#hinted.has(link.partner))
      .map((link) => ({ link, idleMs: link.idleMs() }))
      .filter(({ idleMs }) => idleMs >= SPARE_IDLE_MS)
      .sort((a, b) => b.idleMs - a.idleMs)
    idle[0]?.link.close()
    return idle.length > 0
  }

  #open(link: Link): void {
    const { partner } = link
    for (const older of this.#established.get(partner) ?? []) {
      // Two dials that crossed come up within one dial's time. Any other new link says that its dialler holds the older
      // one for dead; what was under way there is lost.
      const crossed = older.dialled !== link.dialled && this.#now() - older.establishedAt < DIAL_DEADLINE_MS
      if (!crossed) older.close()
    }
    const links = this.#established.get(partner) ?? new Set()
    this.#established.set(partner, links.add(link))
    this.#post({ type: 'established', linkId: link.linkId })
    const contact = this.#contacts.get(partner)
    if (contact) contact.failures = 0
    this.#waiting.flush(partner, (bytes) => link.send(bytes))
  }

  #gone(link: Link): void {
    const { linkId, partner } = link
    this.#links.delete(linkId)
    this.#forwarded.delete(linkId)
    this.#up += link.upBytes
    this.#down += link.downBytes
    this.#post({ type: 'drop', linkId })
    const links = this.#established.get(partner)
    const wasEstablished = links?.delete(link) ?? false
    if (links?.size === 0) this.#established.delete(partner)
    const spare = this.#established.has(partner)
    if (wasEstablished && link.idleMs() >= (spare ? SPARE_IDLE_MS / 2 : QUIET_MS)) return
    const contact = this.#contacts.get(partner)
    if (contact && !spare) {
      contact.failures += 1
      const pause = backoffMs(contact.failures, REDIAL_FIRST_MS, REDIAL_LONGEST_MS)
      contact.nextDialAt = this.#now() + pause + this.#yieldMs(partner)
    }
    if (wasEstablished && !this.#closed) this.#lostHandler(partner)
  }

  #sweep(): void {
    const now = this.#now()
    for (const link of [...this.#links.values()]) {
      link.evictStale()
      link.measure()
      if (link.state === 'opening' && now - link.startedAt > DIAL_DEADLINE_MS) link.close()
      if (link.state === 'established' && link.idleMs() >= this.#idleAllowed(link)) link.close()
    }
    this.#waiting.expire(now, (nodeId) => this.#unreachable(nodeId))
    const wanted = new Set([...this.#hinted, ...this.#waiting.nodes()])
    for (const id of this.#contacts.keys()) if (!wanted.has(id)) this.#contacts.delete(id)
    for (const id of wanted) {
      const contact = this.#contacts.get(id) ?? { since: now, failures: 0, nextDialAt: 0, dialledAt: null }
      this.#contacts.set(id, contact)
      this.#dialIfDue(id, contact, now)
    }
  }

  #idleAllowed(link: Link): number {
    if (this.#linkTo(link.partner) !== link) return SPARE_IDLE_MS
    return this.#hinted.has(link.partner) ? Infinity : IDLE_MS
  }

  #yieldMs(id: string): number {
    return this.#self! > id ? YIELD_MS : 0
  }

  #dialIfDue(id: string, contact: Contact, now: number): void {
    if (this.#self === null || this.#self === id || this.#established.has(id) || !this.#brokerConnected) return
    if (contact.dialledAt !== null && now - contact.dialledAt < DIAL_DEADLINE_MS) return
    for (const link of this.#links.values()) if (link.partner === id) return
    if (now < Math.max(contact.nextDialAt, contact.since + this.#yieldMs(id)) || !this.#hasRoom()) return
    contact.dialledAt = now
    this.#post({ type: 'dial', partner: id })
  }

  #unreachable(nodeId: string): SkeinError {
    if (!this.#brokerConnected) {
      return new SkeinError({
        code: 'net.broker_unreachable',
        message: `The server's connection broker does not answer. ${this.#brokerError ?? ''}`.trim(),
        remedy: 'Check that WebSockets to the server are not blocked, then reload the page.',
      })
    }
    return new SkeinError({
      code: 'net.no_route',
      message: `No connection could be made to ${nodeId}.`,
      remedy: 'A firewall may block WebRTC here or there: try another network, or let the operator add a TURN server.',
    })
  }
}

const closed = () => new SkeinError({ code: 'net.closed', message: 'The links were closed.', remedy: 'Start again.' })
