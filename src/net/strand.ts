/** Owns one connection of a link: its handshake, the slices under way on it, and their acknowledgements. */
import { fail, SkeinError } from '../protocol/errors.ts'
import type { LinkKind } from '../protocol/control.ts'
import { PROTOCOL_VERSION } from '../protocol/version.ts'
import type { Channel, ChannelEvents } from './channel.ts'
import { ACKNOWLEDGED_BYTES, ACKNOWLEDGED_MS, BURST_BYTES, BURST_MS, CONFIRMED_MS, STALL_MS } from './limits.ts'
import { Pace, type Sent } from './pace.ts'
import type { Parcel } from './slicing.ts'

export interface StrandOptions {
  strandId: string
  partner: string
  /** We dialled; the partner's Worker speaks first. */
  dialled: boolean
  kind: LinkKind
  now: () => number
  later: (milliseconds: number, run: () => void) => void
  connect: (events: ChannelEvents) => Channel
  /** What this end calls its link with the partner. */
  ownLink: () => string
  established: (strand: Strand) => void
  slice: (strand: Strand, bytes: Uint8Array<ArrayBuffer>) => void
  /** There may be room again. */
  roomAgain: (strand: Strand) => void
  /** Once; `error` says why when this side closed it. */
  closed: (strand: Strand, error: SkeinError | null) => void
}

const LISTENING = /^skein-listening (\d{1,10}) ([0-9a-f]{8,32})$/
const ACKNOWLEDGEMENT_BYTES = 4

/**
 * A transferred channel loses what arrives before its new owner listens. So nothing is sent until both Workers are known to
 * listen: the one that was dialled says so first, the dialler had its channel before the connection began.
 *
 * Slices are acknowledged by the number of them that have come on this connection, as a message of four bytes, u32: the first after
 * a silence at once, so that round trips are true, then several together.
 */
export class Strand {
  readonly strandId: string
  readonly partner: string
  readonly dialled: boolean
  readonly startedAt: number
  kind: LinkKind
  state: 'opening' | 'established' | 'closed' = 'opening'
  /** ICE says that nothing comes through at the moment. */
  disconnected = false
  #heard = false
  #establishedAt = Infinity
  /** What the two ends call the link that this belongs to; empty before the handshake. */
  ownLink = ''
  partnerLink = ''
  /** When bytes last came or went. */
  usedAt: number
  upBytes = 0
  downBytes = 0
  readonly #options: StrandOptions
  readonly #channel: Channel
  readonly #pace = new Pace()
  /** In the order of sending; acknowledged from the front. */
  readonly #underWay: { parcel: Parcel; sent: Sent }[] = []
  #acknowledged = 0
  #acknowledgedAt = 0
  #received = 0
  /** Bytes that came since this end has acknowledged, and when it did. */
  #unanswered = 0
  #answeredAt = -Infinity
  #willAnswer = false
  #willGoOn = false

  constructor(options: StrandOptions) {
    this.strandId = options.strandId
    this.partner = options.partner
    this.dialled = options.dialled
    this.kind = options.kind
    this.startedAt = options.now()
    this.usedAt = this.startedAt
    this.#options = options
    this.#channel = options.connect({
      open: () => this.#open(),
      message: (data) => this.#message(data),
      closed: () => this.#end(null),
    })
  }

  /** Whether the other end has established it too: who dialled is the first to, and knows by what comes, or after a while. */
  get confirmed(): boolean {
    const heard = !this.dialled || this.#heard || this.#options.now() - this.#establishedAt >= CONFIRMED_MS
    return this.state === 'established' && heard
  }

  /** Bytes that it may still be given. */
  get room(): number {
    if (this.state !== 'established' || this.disconnected) return 0
    return Math.min(this.#pace.room(this.#options.now()), BURST_BYTES - this.#burst())
  }

  /** Bytes that were sent and are not acknowledged. */
  get underWay(): number {
    return this.#pace.underWay
  }

  /** How long nothing of what is under way has been acknowledged, in milliseconds. */
  get stalledMs(): number {
    const oldest = this.#underWay[0]
    return oldest ? this.#options.now() - Math.max(oldest.sent.at, this.#acknowledgedAt) : 0
  }

  /** Whether it should not be counted on. */
  get shaky(): boolean {
    return this.disconnected || this.stalledMs >= STALL_MS
  }

  get rttMs(): number {
    return this.#pace.rttMs
  }

  get bytesPerMs(): number | null {
    return this.#pace.bytesPerMs
  }

  /** How long nothing has passed, in milliseconds; 0 while something is under way. */
  get idleMs(): number {
    return this.#underWay.length > 0 ? 0 : this.#options.now() - this.usedAt
  }

  /** `last`: nothing more waits to be sent. */
  send(parcel: Parcel, last: boolean): void {
    const now = this.#options.now()
    this.#underWay.push({ parcel, sent: this.#pace.send(parcel.bytes, last, now) })
    this.usedAt = now
    if (this.#put(parcel.encode())) this.upBytes += parcel.bytes
    this.#goOnLater()
  }

  /** Takes out what was not acknowledged, to be sent another way. */
  takeUnderWay(): Parcel[] {
    return this.#underWay.splice(0).map(({ parcel }) => parcel)
  }

  close(error: SkeinError | null = null): void {
    if (this.state === 'closed') return
    this.#channel.close()
    this.#end(error)
  }

  /** Bytes sent so lately that the socket may still hold them. */
  #burst(): number {
    const since = this.#options.now() - BURST_MS
    let bytes = 0
    for (let i = this.#underWay.length - 1; i >= 0 && this.#underWay[i]!.sent.at > since; i--) {
      bytes += this.#underWay[i]!.parcel.bytes
    }
    return bytes
  }

  #goOnLater(): void {
    if (this.#willGoOn || this.state !== 'established' || this.#burst() < BURST_BYTES) return
    this.#willGoOn = true
    this.#options.later(BURST_MS, () => {
      this.#willGoOn = false
      this.#options.roomAgain(this)
      this.#goOnLater()
    })
  }

  /** Returns whether the channel took it. */
  #put(data: string | Uint8Array<ArrayBuffer>): boolean {
    try {
      this.#channel.send(data)
      return true
    } catch {
      // A channel that refuses to send is lost.
      this.close()
      return false
    }
  }

  #open(): void {
    // A channel may be open on arrival and still fire `open`.
    if (!this.#options.dialled && !this.ownLink) this.#announce()
  }

  #announce(): void {
    this.ownLink = this.#options.ownLink()
    this.#put(`skein-listening ${PROTOCOL_VERSION} ${this.ownLink}`)
  }

  #message(data: string | ArrayBuffer): void {
    if (this.state === 'closed') return
    try {
      if (typeof data === 'string') return this.#handshake(data)
      // What has no link yet would be dropped, and yet be acknowledged.
      if (this.state === 'opening') {
        fail('net.handshake', `${this.partner} sent bytes before its handshake.`, 'Its link is dialled again.')
      }
      this.#heard = true
      this.usedAt = this.#options.now()
      if (data.byteLength === ACKNOWLEDGEMENT_BYTES) return this.#acknowledge(new DataView(data).getUint32(0, true))
      this.downBytes += data.byteLength
      this.#options.slice(this, new Uint8Array(data))
      this.#received = (this.#received + 1) >>> 0
      this.#unanswered += data.byteLength
      const isDue = this.#unanswered >= ACKNOWLEDGED_BYTES || this.usedAt - this.#answeredAt >= ACKNOWLEDGED_MS
      if (isDue) this.#answerSlices()
      else this.#answerLater()
    } catch (caught) {
      if (!(caught instanceof SkeinError)) throw caught
      this.close(caught)
    }
  }

  #answerLater(): void {
    if (this.#willAnswer) return
    this.#willAnswer = true
    this.#options.later(ACKNOWLEDGED_MS, () => {
      this.#willAnswer = false
      if (this.#unanswered > 0 && this.state !== 'closed') this.#answerSlices()
    })
  }

  #answerSlices(): void {
    this.#unanswered = 0
    this.#answeredAt = this.#options.now()
    const count = new Uint8Array(ACKNOWLEDGEMENT_BYTES)
    new DataView(count.buffer).setUint32(0, this.#received, true)
    this.#put(count)
  }

  #handshake(text: string): void {
    const [, version, link] = LISTENING.exec(text) ?? []
    if (version === undefined || link === undefined || this.state !== 'opening') {
      fail('net.handshake', `${this.partner} said something that is no handshake.`, 'Its link is dialled again.')
    }
    if (version !== String(PROTOCOL_VERSION)) {
      fail('net.version', `${this.partner} speaks protocol ${version}, we ${PROTOCOL_VERSION}.`, 'Reload both pages.')
    }
    this.partnerLink = link
    if (this.#options.dialled) this.#announce()
    this.state = 'established'
    this.usedAt = this.#establishedAt = this.#options.now()
    this.#options.established(this)
  }

  #acknowledge(count: number): void {
    const more = (count - this.#acknowledged) >>> 0
    if (more === 0 || more > this.#underWay.length || this.state !== 'established') {
      fail('net.acknowledgement', `${this.partner} has received what was never sent.`, 'Its link is dialled again.')
    }
    this.#acknowledged = count
    const now = this.#options.now()
    this.#acknowledgedAt = now
    for (const { sent } of this.#underWay.splice(0, more)) this.#pace.acknowledge(sent, now)
    this.#options.roomAgain(this)
  }

  #end(error: SkeinError | null): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    this.#options.closed(this, error)
  }
}
