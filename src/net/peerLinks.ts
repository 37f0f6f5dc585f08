/** Owns the Worker's side of the network: whom to be connected to, dialling and redialling, and frames in and out. */
import { SkeinError } from '../protocol/errors.ts'
import type { LinkKind } from '../protocol/control.ts'
import { backoffMs } from './backoff.ts'
import { ForwardedChannel, ownedChannel } from './channel.ts'
import { DIAL_DEADLINE_MS, MAX_UNASKED_LINKS, REDIAL_FIRST_MS, REDIAL_LONGEST_MS, UNASKED_GRACE_MS } from './limits.ts'
import { Link, lost } from './link.ts'
import type { LinksMessage, PeerIdentity, SessionMessage } from './linkMessages.ts'

export interface LinkTotals {
  /** Bytes over the wire since this Worker began, slice headers included. */
  upBytes: number
  downBytes: number
  /** `relayed` when any link is. */
  link: LinkKind
}

interface Partner {
  failures: number
  nextDialAt: number
  /** When a dial began that has not become a link yet. */
  dialledAt: number | null
}

interface Waiter {
  deadline: number
  resolve: () => void
  reject: (error: SkeinError) => void
}

/** How often dials, deadlines and links nobody wants are looked at; a Worker's timers are not throttled. */
const SWEEP_MS = 100

/**
 * Of two partners the one with the smaller node id dials, so that they never dial each other at once. Links survive a
 * change of partners for a grace period: the server's word reaches the two ends at different moments.
 */
export class PeerLinks {
  readonly #port: MessagePort
  readonly #now: () => number
  readonly #partners = new Map<string, Partner>()
  readonly #links = new Map<string, Link>()
  readonly #established = new Map<string, Link>()
  readonly #unwantedSince = new Map<string, number>()
  readonly #forwarded = new Map<string, ForwardedChannel>()
  readonly #waiters = new Set<Waiter>()
  readonly #sweeper: ReturnType<typeof setInterval>
  #self: string | null = null
  #brokerConnected = false
  #brokerError: string | null = null
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

  /** The nodes to be connected to, from now on. */
  setPartners(ids: readonly string[]): void {
    const wanted = new Set(ids)
    for (const id of this.#partners.keys()) if (!wanted.has(id)) this.#partners.delete(id)
    for (const id of wanted) {
      if (!this.#partners.has(id)) this.#partners.set(id, { failures: 0, nextDialAt: 0, dialledAt: null })
    }
    this.#sweep()
  }

  /**
   * Resolves once every partner is connected.
   * @throws SkeinError `net.no_route` or `net.broker_unreachable` after `deadlineMs`; dialling goes on all the same.
   */
  opened(deadlineMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.add({ deadline: this.#now() + deadlineMs, resolve, reject })
      this.#settleWaiters()
    })
  }

  /**
   * Sends one frame; frames to one node arrive in the order of these calls. Resolves when its last slice is in the channel;
   * `bytes` must not change until then. @throws SkeinError `net.link_lost`, `net.frame_size`, `net.queue_full`
   */
  send(nodeId: string, bytes: Uint8Array): Promise<void> {
    const link = this.#established.get(nodeId)
    return link ? link.send(bytes) : Promise.reject(lost(nodeId))
  }

  /** Whole frames from partners; those of nodes that are no partner are dropped. */
  onFrame(handler: (from: string, bytes: Uint8Array<ArrayBuffer>) => void): void {
    this.#frameHandler = handler
  }

  /** A partner's open link is gone, and with it whatever was under way; it is being dialled again. */
  onLost(handler: (nodeId: string) => void): void {
    this.#lostHandler = handler
  }

  isOpen(nodeId: string): boolean {
    return this.#established.has(nodeId)
  }

  totals(): LinkTotals {
    const links = [...this.#established.values()]
    const kinds = links.map((link) => link.kind)
    return {
      upBytes: links.reduce((sum, link) => sum + link.upBytes, this.#up),
      downBytes: links.reduce((sum, link) => sum + link.downBytes, this.#down),
      link: kinds.includes('relayed') ? 'relayed' : kinds.includes('direct') ? 'direct' : 'unknown',
    }
  }

  close(): void {
    clearInterval(this.#sweeper)
    this.#partners.clear()
    for (const link of [...this.#links.values()]) link.close()
    const closed = new SkeinError({ code: 'net.closed', message: 'The links were closed.', remedy: 'Start again.' })
    for (const waiter of this.#waiters) waiter.reject(closed)
    this.#waiters.clear()
    this.#post({ type: 'close' })
    this.#port.onmessage = null
  }

  #post(message: LinksMessage, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer)
  }

  #session(message: SessionMessage): void {
    if (message.type === 'broker') {
      this.#brokerConnected = message.connected
      this.#brokerError = message.connected ? null : (message.error?.message ?? this.#brokerError)
      // A dial that the broker's absence swallowed is due again.
      for (const partner of this.#partners.values()) partner.dialledAt = null
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
    const state = this.#partners.get(partner)
    if (state && dialled) state.dialledAt = null
    if (!state && this.#unwantedSince.size >= MAX_UNASKED_LINKS) {
      channel?.close()
      return this.#post({ type: 'drop', linkId })
    }
    if (!state) this.#unwantedSince.set(linkId, this.#now())
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
      frame: (from, bytes) => {
        if (this.#partners.has(from.partner)) this.#frameHandler(from.partner, bytes)
      },
      closed: (gone) => this.#gone(gone),
    })
    this.#links.set(linkId, link)
  }

  #open(link: Link): void {
    const older = this.#established.get(link.partner)
    // The partner dialled anew, so it holds the older one for dead; what was under way there is lost.
    older?.close()
    this.#established.set(link.partner, link)
    this.#post({ type: 'established', linkId: link.linkId })
    const state = this.#partners.get(link.partner)
    if (state) state.failures = 0
    this.#settleWaiters()
  }

  #gone(link: Link): void {
    this.#links.delete(link.linkId)
    this.#forwarded.delete(link.linkId)
    this.#unwantedSince.delete(link.linkId)
    this.#up += link.upBytes
    this.#down += link.downBytes
    this.#post({ type: 'drop', linkId: link.linkId })
    const state = this.#partners.get(link.partner)
    const wasEstablished = this.#established.get(link.partner) === link
    if (wasEstablished) this.#established.delete(link.partner)
    if (state) {
      state.failures += 1
      state.nextDialAt = this.#now() + backoffMs(state.failures, REDIAL_FIRST_MS, REDIAL_LONGEST_MS)
      if (wasEstablished) this.#lostHandler(link.partner)
    }
  }

  #sweep(): void {
    const now = this.#now()
    for (const link of [...this.#links.values()]) {
      link.evictStale()
      if (link.state === 'opening' && now - link.startedAt > DIAL_DEADLINE_MS) link.close()
      else this.#lingers(link, now)
    }
    for (const [id, partner] of this.#partners) this.#dialIfDue(id, partner, now)
    this.#settleWaiters()
  }

  /** Closes a link that nobody has wanted for the grace period. */
  #lingers(link: Link, now: number): void {
    if (this.#partners.has(link.partner)) {
      this.#unwantedSince.delete(link.linkId)
      return
    }
    const since = this.#unwantedSince.get(link.linkId) ?? now
    this.#unwantedSince.set(link.linkId, since)
    if (now - since > UNASKED_GRACE_MS) link.close()
  }

  #dialIfDue(id: string, partner: Partner, now: number): void {
    if (this.#self === null || this.#self >= id || this.#established.has(id) || !this.#brokerConnected) return
    if (partner.dialledAt !== null && now - partner.dialledAt < DIAL_DEADLINE_MS) return
    for (const link of this.#links.values()) if (link.partner === id) return
    if (now < partner.nextDialAt) return
    partner.dialledAt = now
    this.#post({ type: 'dial', partner: id })
  }

  #settleWaiters(): void {
    const missing = [...this.#partners.keys()].filter((id) => !this.#established.has(id))
    for (const waiter of this.#waiters) {
      if (missing.length > 0 && this.#now() < waiter.deadline) continue
      this.#waiters.delete(waiter)
      if (missing.length === 0) waiter.resolve()
      else waiter.reject(this.#unreachable(missing))
    }
  }

  #unreachable(missing: string[]): SkeinError {
    if (!this.#brokerConnected) {
      return new SkeinError({
        code: 'net.broker_unreachable',
        message: `The server's connection broker does not answer. ${this.#brokerError ?? ''}`.trim(),
        remedy: 'Check that WebSockets to the server are not blocked, then reload the page.',
      })
    }
    return new SkeinError({
      code: 'net.no_route',
      message: `No connection could be made to ${missing.join(', ')}.`.slice(0, 2000),
      remedy: 'A firewall may block WebRTC here or there: try another network, or let the operator add a TURN server.',
    })
  }
}
