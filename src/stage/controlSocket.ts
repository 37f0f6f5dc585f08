/** Owns the node's control line: one session with the server over as many sockets as it takes. */
import { bytesToHex } from '@noble/hashes/utils.js'
import { backoffMs } from '../net/backoff.ts'
import { serverMessageSchema, type ClientMessage, type ServerMessage } from '../protocol/control.ts'
import { toErrorBody, type ErrorBody } from '../protocol/errors.ts'
import { sessionText } from '../protocol/identity.ts'
import { envelopeSchema, envelopeText, Mailbox, type Envelope } from '../protocol/mailbox.ts'
import type { DeviceKey } from '../store/deviceKey.ts'

const REDIAL_FIRST_MS = 200
const REDIAL_LONGEST_MS = 15_000
/** Each pause is this much longer or shorter by chance: nodes that lost the same server do not come back as one. */
const REDIAL_SPREAD = 0.25
/** A socket that neither opens nor brings a `welcome` in this time is given up. */
const OPEN_DEADLINE_MS = 10_000
const CLOSE_DEADLINE_MS = 1000
/** A socket on which nothing was acknowledged for so long is dead, whatever the system says; heartbeats see to it that something is due. */
const DEAD_LINE_MS = 4000
const WATCH_MS = 1000

/** Rejections that a later attempt of the same code cannot mend. */
const FINAL = new Set([
  'control.protocol',
  'control.invalid',
  'control.replaced',
  'identity.audience',
  'identity.device_key',
  'identity.device_revoked',
  'audit.convicted',
  'audit.shut_out',
  'identity.session_device',
  'identity.signature',
])

export type Hello = Extract<ClientMessage, { type: 'hello' }>
/** What the node says of itself at each dial; who it is, and in which session, the socket says. */
export type Presentation = Omit<Hello, 'deviceId' | 'proof' | 'session'>
export type Welcome = Extract<ServerMessage, { type: 'welcome' }>

export interface ControlHandlers {
  /**
   * Each message of the server once and in order. `welcome` comes with every socket: with `resumed` the session goes on and
   * nothing was lost in either direction; without it, it is a new one, and what was sent and not answered is void.
   */
  message(message: ServerMessage): void
  /** The line is down and will be dialled again; what is sent meanwhile goes out when the session is resumed. */
  lost(): void
  /** Only a person can help. */
  refused(error: ErrorBody): void
}

interface Session {
  token: string
  readonly mailbox: Mailbox<string, ServerMessage>
}

const answerSchema = envelopeSchema(serverMessageSchema)

export class ControlSocket {
  readonly #url: string
  readonly #key: DeviceKey
  readonly #hello: () => Presentation
  readonly #handlers: ControlHandlers
  #socket: WebSocket | null = null
  #session: Session | null = null
  /** Whether `#socket` carries the session: its `welcome` has come. */
  #welcomed = false
  #redial: ReturnType<typeof setTimeout> | undefined
  #acknowledge: ReturnType<typeof setTimeout> | undefined
  readonly #watch: ReturnType<typeof setInterval>
  #watchedAt = performance.now()
  #failures = 0
  #closed = false

  /** @param hello is asked before each dial: what the node holds changes from one to the next */
  constructor(url: string, key: DeviceKey, hello: () => Presentation, handlers: ControlHandlers) {
    this.#url = url
    this.#key = key
    this.#hello = hello
    this.#handlers = handlers
    this.#watch = setInterval(() => this.#giveUpDeadLine(), WATCH_MS)
    this.#dial()
  }

  /**
   * Sends now, or as soon as the session is resumed. Before the first `welcome` there is no session: the message is dropped,
   * since there is nothing yet that it could be about.
   */
  send(message: ClientMessage): void {
    if (!this.#session || this.#closed) return
    try {
      const envelope = this.#session.mailbox.post(JSON.stringify(message), performance.now())
      if (this.#welcomed) this.#put(envelope)
    } catch {
      this.#abandonSession()
    }
  }

  /** Dials no more. Resolves once what was sent has left, or the server has not answered the goodbye in time. */
  close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#redial)
    clearTimeout(this.#acknowledge)
    clearInterval(this.#watch)
    const socket = this.#socket
    if (!socket || socket.readyState === WebSocket.CLOSED) return Promise.resolve()
    return new Promise((resolve) => {
      const late = setTimeout(resolve, CLOSE_DEADLINE_MS)
      socket.addEventListener('close', () => (clearTimeout(late), resolve()))
      socket.close()
    })
  }

  #dial(): void {
    const socket = new WebSocket(this.#url)
    this.#socket = socket
    this.#welcomed = false
    const deadline = setTimeout(() => this.#drop(socket), OPEN_DEADLINE_MS)
    let challenged = false
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return
      if (this.#welcomed) return this.#receive(data)
      const answer = serverMessageSchema.safeParse(json(data)).data
      if (answer?.type === 'challenge' && !challenged) {
        challenged = true
        return void this.#prove(socket, answer.nonce)
      }
      clearTimeout(deadline)
      this.#greet(socket, answer)
    }
    socket.onclose = () => {
      clearTimeout(deadline)
      this.#drop(socket)
    }
  }

  /** Says who this is. */
  async #prove(socket: WebSocket, nonce: string): Promise<void> {
    const { id: deviceId } = this.#key
    const said = { audience: new URL(this.#url).host, nonce }
    let signature: string
    try {
      signature = bytesToHex(await this.#key.sign(sessionText(said, deviceId)))
    } catch (caught) {
      return this.#refuse(toErrorBody(caught))
    }
    if (this.#socket !== socket || socket.readyState !== WebSocket.OPEN) return
    const session = this.#session && { token: this.#session.token, received: this.#session.mailbox.received }
    socket.send(JSON.stringify({ ...this.#hello(), deviceId, proof: { ...said, signature }, session } satisfies Hello))
  }

  /** This socket carries nothing any more, even if it has not noticed; another one is dialled. */
  #drop(socket: WebSocket): void {
    if (this.#socket !== socket) return
    this.#socket = null
    this.#welcomed = false
    socket.close()
    if (this.#closed) return
    this.#failures += 1
    const spread = 1 + REDIAL_SPREAD * (2 * Math.random() - 1)
    const pause = spread * backoffMs(this.#failures, REDIAL_FIRST_MS, REDIAL_LONGEST_MS)
    this.#redial = setTimeout(() => this.#dial(), pause)
    this.#handlers.lost()
  }

  /** Takes the answer to `hello`, which is no part of the session. */
  #greet(socket: WebSocket, answer: ServerMessage | undefined): void {
    if (answer?.type === 'rejected') return this.#rejected(socket, answer.error)
    if (answer?.type !== 'welcome') return this.#refuse(NOT_UNDERSTOOD)
    this.#failures = 0
    const { token, resumed, received } = answer
    let rest: Envelope<string>[] = []
    try {
      if (resumed && this.#session) rest = this.#session.mailbox.resumeAt(received, performance.now())
      else this.#session = { token, mailbox: new Mailbox({ wire: 'ordered', size: (text) => text.length }) }
    } catch {
      return this.#abandonSession()
    }
    this.#session.token = token
    this.#welcomed = true
    for (const envelope of rest) this.#put(envelope)
    this.#handlers.message(answer)
  }

  #receive(data: unknown): void {
    const value = json(data)
    const envelope = answerSchema.safeParse(value).data
    if (!envelope) {
      const { data: raw } = serverMessageSchema.safeParse(value)
      if (raw?.type === 'rejected') return this.#rejected(this.#socket!, raw.error)
      return this.#refuse(NOT_UNDERSTOOD)
    }
    const { mailbox } = this.#session!
    let messages: ServerMessage[]
    try {
      messages = mailbox.receive(envelope, performance.now())
    } catch {
      return this.#abandonSession()
    }
    this.#scheduleAcknowledgement(mailbox)
    for (const message of messages) {
      if (message.type === 'token') this.#session!.token = message.token
      if (message.type !== 'ping') this.#handlers.message(message)
    }
  }

  #put(envelope: Envelope<string>): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(envelopeText(envelope))
  }

  #scheduleAcknowledgement(mailbox: Session['mailbox']): void {
    const at = mailbox.nextDue()
    if (at === null || this.#acknowledge !== undefined) return
    this.#acknowledge = setTimeout(
      () => {
        this.#acknowledge = undefined
        if (this.#session?.mailbox !== mailbox || !this.#welcomed) return
        for (const envelope of mailbox.due(performance.now())) this.#put(envelope)
        this.#scheduleAcknowledgement(mailbox)
      },
      Math.max(0, at - performance.now()),
    )
  }

  /** A broken path can keep a socket open for minutes without a word; another socket takes its place. */
  #giveUpDeadLine(): void {
    const now = performance.now()
    // After a sleep or a long task the answers are there, but not yet read.
    const late = now - this.#watchedAt > 2 * WATCH_MS
    this.#watchedAt = now
    if (late || !this.#welcomed || this.#session!.mailbox.oldestUnacked(now) <= DEAD_LINE_MS) return
    this.#drop(this.#socket!)
  }

  /** The two sides no longer agree on what was said: they start anew. */
  #abandonSession(): void {
    this.#session = null
    if (this.#socket) this.#drop(this.#socket)
  }

  #rejected(socket: WebSocket, error: ErrorBody): void {
    if (FINAL.has(error.code)) this.#refuse(error)
    else this.#drop(socket)
  }

  #refuse(error: ErrorBody): void {
    void this.close()
    this.#handlers.refused(error)
  }
}

/** A server that speaks otherwise is a newer one: only a newer page or agent understands it. */
const NOT_UNDERSTOOD: ErrorBody = {
  code: 'control.invalid',
  message: 'The server said something this client does not understand.',
  remedy: 'Reload the page to get the current version; agents are updated and started again.',
}

function json(data: unknown): unknown {
  try {
    return JSON.parse(String(data))
  } catch {
    return null
  }
}
