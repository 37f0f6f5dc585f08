/** Owns the node's control WebSocket: says hello, checks what the server says, and dials again when the line drops. */
import { backoffMs } from '../net/backoff.ts'
import { serverMessageSchema, type ClientMessage, type ServerMessage } from '../protocol/control.ts'
import type { ErrorBody } from '../protocol/errors.ts'

const REDIAL_FIRST_MS = 500
const REDIAL_LONGEST_MS = 15_000
/** A socket that neither opens nor fails in this time is given up. */
const OPEN_DEADLINE_MS = 10_000
const CLOSE_DEADLINE_MS = 1000

/** Rejections that a later attempt of the same code cannot mend. */
const FINAL = new Set(['control.protocol', 'control.invalid', 'control.replaced'])

export interface ControlHandlers {
  message(message: ServerMessage): void
  /** The line is down; everything the server gave us is void. */
  lost(): void
  /** Only a person can help. */
  refused(error: ErrorBody): void
}

export class ControlSocket {
  readonly #url: string
  readonly #hello: Extract<ClientMessage, { type: 'hello' }>
  readonly #handlers: ControlHandlers
  #socket: WebSocket | null = null
  #timer: ReturnType<typeof setTimeout> | undefined
  #failures = 0
  #closed = false

  constructor(url: string, hello: Extract<ClientMessage, { type: 'hello' }>, handlers: ControlHandlers) {
    this.#url = url
    this.#hello = hello
    this.#handlers = handlers
    this.#dial()
  }

  /** Drops the message when the line is down: whatever it was about is void by then. */
  send(message: ClientMessage): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message))
  }

  /** Dials no more. Resolves once what was sent has left, or the server has not answered the goodbye in time. */
  close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
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
    const deadline = setTimeout(() => socket.close(), OPEN_DEADLINE_MS)
    socket.onopen = () => {
      clearTimeout(deadline)
      this.send(this.#hello)
    }
    socket.onmessage = ({ data }) => this.#receive(socket, data)
    socket.onclose = () => {
      clearTimeout(deadline)
      if (this.#socket !== socket) return
      this.#socket = null
      if (this.#closed) return
      this.#failures += 1
      this.#handlers.lost()
      this.#timer = setTimeout(() => this.#dial(), backoffMs(this.#failures, REDIAL_FIRST_MS, REDIAL_LONGEST_MS))
    }
  }

  #receive(socket: WebSocket, data: unknown): void {
    if (this.#socket !== socket) return
    const message = parse(data)
    if (message === null) {
      // A server that speaks otherwise is a newer one: only a newer page or agent understands it.
      void this.close()
      this.#handlers.refused({
        code: 'control.invalid',
        message: 'The server said something this client does not understand.',
        remedy: 'Reload the page to get the current version; agents are updated and started again.',
      })
      return
    }
    if (message.type === 'welcome') this.#failures = 0
    if (message.type !== 'rejected') return this.#handlers.message(message)
    if (!FINAL.has(message.error.code)) return socket.close()
    void this.close()
    this.#handlers.refused(message.error)
  }
}

function parse(data: unknown): ServerMessage | null {
  try {
    return serverMessageSchema.safeParse(JSON.parse(String(data))).data ?? null
  } catch {
    return null
  }
}
