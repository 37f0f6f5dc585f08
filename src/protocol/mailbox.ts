/** Owns how control messages come through a line that breaks: numbered, acknowledged, each delivered once and in order. */
import { z } from 'zod'
import { fail } from './errors.ts'

/** First wait for an acknowledgement on a lossy wire; it doubles with each resend, up to the longest. */
export const RESEND_FIRST_MS = 400
export const RESEND_LONGEST_MS = 3000
/** How long an acknowledgement waits for a message that could carry it. */
export const ACK_DELAY_MS = 100

/** `n` numbers the messages of one direction from 1; `a` is how many of the other direction have come. Without `m`: `a` alone. */
export type Envelope<M> = { a: number; n: number; m: M } | { a: number; n?: undefined; m?: undefined }

export interface MailboxOptions<Out> {
  /**
   * `ordered`: a socket, which loses nothing while it lives; what is unacknowledged goes out again after a resume alone, and a
   * gap in the numbers is an error. `lossy`: messages may be lost, repeated and reordered; `due` sends them again.
   */
  wire?: 'ordered' | 'lossy'
  /** What a message counts against `maxBytes`; without it only their number is bounded. */
  size?: (message: Out) => number
  /** Bounds on what the other side has not acknowledged. */
  maxQueue?: number
  maxBytes?: number
  /** How many numbers ahead a message that overtook others is kept; one further ahead has to be sent again. */
  maxAhead?: number
}

interface Unacknowledged<Out> {
  readonly message: Out
  readonly bytes: number
  /** When it was posted, or when the line came back with it. */
  since: number
  dueAt: number
  wait: number
}

/** One end of a session; it keeps what it sent until the other end has it, through any number of sockets. Times are milliseconds. */
export class Mailbox<Out, In = Out> {
  readonly #lossy: boolean
  readonly #size: (message: Out) => number
  readonly #maxQueue: number
  readonly #maxBytes: number
  readonly #maxAhead: number
  /** Messages `#acknowledged + 1` and on, from `#head` of the array. */
  #queue: (Unacknowledged<Out> | undefined)[] = []
  #head = 0
  #acknowledged = 0
  #bytes = 0
  /** No message has to be sent again before this time; it may be earlier than the first that has to. */
  #resendAt = Infinity
  #received = 0
  readonly #ahead = new Map<number, In>()
  #owedSince: number | null = null

  constructor({ wire = 'lossy', size, maxQueue, maxBytes, maxAhead }: MailboxOptions<Out> = {}) {
    this.#lossy = wire === 'lossy'
    this.#size = size ?? (() => 0)
    this.#maxQueue = maxQueue ?? 4096
    this.#maxBytes = maxBytes ?? 8 * 1024 * 1024
    this.#maxAhead = maxAhead ?? 1024
  }

  /** Messages of the other end that came, without a gap. */
  get received(): number {
    return this.#received
  }

  /** Messages posted that the other end has not acknowledged. */
  get pending(): number {
    return this.#queue.length - this.#head
  }

  /** Puts a message on its way; the envelope is to be sent now. @throws SkeinError `control.backlog`: the session cannot go on */
  post(message: Out, now: number): Envelope<Out> {
    const bytes = this.#size(message)
    if (this.pending >= this.#maxQueue || this.#bytes + bytes > this.#maxBytes)
      fail(
        'control.backlog',
        `${this.pending} control messages of ${this.#bytes} bytes wait for an acknowledgement; no more are kept.`,
        'The other side does not listen: a new session is needed. Reload the page.',
      )
    this.#bytes += bytes
    this.#queue.push({ message, bytes, since: now, dueAt: now + RESEND_FIRST_MS, wait: RESEND_FIRST_MS })
    if (this.#resendAt > now + RESEND_FIRST_MS) this.#resendAt = now + RESEND_FIRST_MS
    return this.#envelope(this.#acknowledged + this.pending, message)
  }

  /**
   * Takes in what came and returns the messages that are next in order.
   * @throws SkeinError `control.sequence` when the other end acknowledges what was never sent, or leaves a gap on an ordered wire
   */
  receive(envelope: Envelope<In>, now: number): In[] {
    this.#acknowledge(envelope.a)
    if (envelope.n === undefined) return []
    const { n, m } = envelope
    this.#owedSince ??= now
    if (n <= this.#received) return []
    if (n > this.#received + 1) {
      if (!this.#lossy) fail('control.sequence', `Control message ${n} came after message ${this.#received}.`, RELOAD)
      if (n <= this.#received + this.#maxAhead) this.#ahead.set(n, m)
      return []
    }
    this.#received = n
    if (this.#ahead.size === 0) return [m]
    const messages = [m]
    for (let next = n + 1; this.#ahead.has(next); next += 1) {
      messages.push(this.#ahead.get(next)!)
      this.#ahead.delete(next)
      this.#received = next
    }
    return messages
  }

  /** What is to be sent by now: on a lossy wire messages that were not acknowledged in time, else at most an acknowledgement. */
  due(now: number): Envelope<Out>[] {
    const again: Envelope<Out>[] = []
    if (this.#lossy && now >= this.#resendAt) {
      let next = Infinity
      for (let i = this.#head; i < this.#queue.length; i += 1) {
        const entry = this.#queue[i]!
        if (now >= entry.dueAt) {
          again.push(this.#envelope(this.#acknowledged + 1 + i - this.#head, entry.message))
          entry.wait = Math.min(2 * entry.wait, RESEND_LONGEST_MS)
          entry.dueAt = now + entry.wait
        }
        if (entry.dueAt < next) next = entry.dueAt
      }
      this.#resendAt = next
    }
    if (this.#owedSince !== null && now >= this.#owedSince + ACK_DELAY_MS) {
      this.#owedSince = null
      again.push({ a: this.#received })
    }
    return again
  }

  /** Before this time `due` has nothing to send, unless something is posted or comes; null when nothing is waited for. */
  nextDue(): number | null {
    const acknowledge = this.#owedSince === null ? Infinity : this.#owedSince + ACK_DELAY_MS
    const resend = this.#lossy && this.pending > 0 ? this.#resendAt : Infinity
    const next = Math.min(acknowledge, resend)
    return next === Infinity ? null : next
  }

  /** For how long the oldest unacknowledged message has been on its way on this line; 0 without one. */
  oldestUnacked(now: number): number {
    const oldest = this.#queue[this.#head]
    return oldest ? now - oldest.since : 0
  }

  /**
   * The session goes on over a new line: the other end has `received` messages, the rest is returned to be sent again.
   * @throws SkeinError `control.sequence` when the other end lacks what it once acknowledged, or has what was never sent
   */
  resumeAt(received: number, now: number): Envelope<Out>[] {
    if (received < this.#acknowledged)
      fail('control.sequence', `Control messages after ${received} are wanted again, but no longer kept.`, RELOAD)
    this.#acknowledge(received)
    const rest: Envelope<Out>[] = []
    for (let i = this.#head; i < this.#queue.length; i += 1) {
      const entry = this.#queue[i]!
      Object.assign(entry, { since: now, dueAt: now + RESEND_FIRST_MS, wait: RESEND_FIRST_MS })
      rest.push(this.#envelope(this.#acknowledged + 1 + i - this.#head, entry.message))
    }
    this.#resendAt = rest.length > 0 ? now + RESEND_FIRST_MS : Infinity
    return rest
  }

  #envelope(n: number, m: Out): Envelope<Out> {
    this.#owedSince = null
    return { n, a: this.#received, m }
  }

  #acknowledge(count: number): void {
    if (count <= this.#acknowledged) return
    if (count > this.#acknowledged + this.pending)
      fail('control.sequence', `Control message ${count} is acknowledged, but was never sent.`, RELOAD)
    for (; this.#acknowledged < count; this.#acknowledged += 1) {
      this.#bytes -= this.#queue[this.#head]!.bytes
      this.#queue[this.#head] = undefined
      this.#head += 1
    }
    // The array is cut once half of it is behind, so that a message costs the same however long the queue is.
    if (2 * this.#head < this.#queue.length) return
    this.#queue = this.#queue.slice(this.#head)
    this.#head = 0
  }
}

const RELOAD = 'The two sides do not agree on their session: reload the page to start a new one.'

const count = z.int().min(0).max(0xffff_ffff)

/** The wire form of envelopes around `message`. Not a union: its errors are to name the field of the message that is wrong. */
export function envelopeSchema<M>(message: z.ZodType<M>): z.ZodType<Envelope<M>> {
  return z
    .object({ a: count, n: count.min(1).optional(), m: message.optional() })
    .refine(({ n, m }) => (n === undefined) === (m === undefined), 'A message and its number come together.') as never
}

/** An envelope as JSON, whose message is JSON already: it is written once, however often it is sent. */
export function envelopeText({ a, n, m }: Envelope<string>): string {
  return n === undefined ? `{"a":${a}}` : `{"n":${n},"a":${a},"m":${m}}`
}
