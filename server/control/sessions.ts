/** Owns the sessions of nodes: who has which mailbox, over which socket, and whether the node still answers. */
import { randomBytes } from 'node:crypto'
import type { WebSocket } from 'ws'
import type { ClientMessage, ServerMessage } from '../../src/protocol/control.ts'
import { SkeinError } from '../../src/protocol/errors.ts'
import { envelopeText, Mailbox, type Envelope } from '../../src/protocol/mailbox.ts'
import type { IssuingTokens } from './tokens.ts'

/** How long a message may stay unacknowledged on an open socket before the node counts as unresponsive. */
export const UNRESPONSIVE_MS = 1500

export interface Session {
  /** Another for each session of a node. */
  readonly id: string
  readonly nodeId: string
  readonly deviceId: string
  readonly mailbox: Mailbox<string, ClientMessage>
  /** Null while the node is away. */
  socket: WebSocket | null
  unresponsive: boolean
}

type Claim = Extract<ClientMessage, { type: 'hello' }>['session']

/** Pure bookkeeping but for the sockets it writes to; times are milliseconds of one clock. */
export class Sessions {
  readonly #sessions = new Map<string, Session>()
  /** Those that have something to acknowledge. */
  readonly #owing = new Set<Session>()
  readonly #tokens: IssuingTokens
  readonly #maxUnsentBytes: number

  constructor(tokens: IssuingTokens, maxUnsentBytes: number) {
    this.#tokens = tokens
    this.#maxUnsentBytes = maxUnsentBytes
  }

  get size(): number {
    return this.#sessions.size
  }

  of(nodeId: string): Session | undefined {
    return this.#sessions.get(nodeId)
  }

  all(): Session[] {
    return [...this.#sessions.values()]
  }

  /** Whether this session is still the one of its node, on this socket. */
  carries(session: Session, socket: WebSocket): boolean {
    return this.#sessions.get(session.nodeId) === session && session.socket === socket
  }

  /** Whether a hello with this claim adds a session to those that are kept. */
  isNew(claim: Claim): boolean {
    const nodeId = claim && this.#tokens.nodeOf(claim.token)
    return nodeId === null || !this.#sessions.has(nodeId)
  }

  /**
   * The session that the hello of a device claims, or a new one: of the same node where the token holds, since a server that was started
   * again knows its nodes by their tokens alone. A node whose `welcome` to a new session was lost claims the one before it, whose
   * messages are counted otherwise. `replaced` is the socket that carried the node's session until now.
   */
  open(
    claim: Claim,
    deviceId: string,
    now: number,
  ): { session: Session; resumed: boolean; rest: Envelope<string>[]; replaced: WebSocket | null } {
    const proven = claim && this.#tokens.holderOf(claim.token)
    const known = proven ? this.#sessions.get(proven.nodeId) : undefined
    const replaced = known?.socket ?? null
    if (known && claim && known.id === proven?.sessionId) {
      try {
        return { session: known, resumed: true, rest: known.mailbox.resumeAt(claim.received, now), replaced }
      } catch (caught) {
        // The two sides do not agree on what was said: the node starts anew under its old name.
        if (!(caught instanceof SkeinError)) throw caught
      }
    }
    if (known) this.#owing.delete(known)
    const nodeId = proven?.nodeId ?? `n${randomBytes(12).toString('hex')}`
    const mailbox = new Mailbox<string, ClientMessage>({ wire: 'ordered', size: (text) => text.length })
    const id = randomBytes(9).toString('base64url')
    const session: Session = { id, nodeId, deviceId, mailbox, socket: null, unresponsive: false }
    this.#sessions.set(nodeId, session)
    return { session, resumed: false, rest: [], replaced }
  }

  ofDevice(deviceId: string): Session[] {
    return this.all().filter((session) => session.deviceId === deviceId)
  }

  drop(session: Session): void {
    this.#owing.delete(session)
    if (this.#sessions.get(session.nodeId) === session) this.#sessions.delete(session.nodeId)
  }

  clear(): void {
    this.#sessions.clear()
    this.#owing.clear()
  }

  /** @throws SkeinError `control.backlog` when the node has left too much unacknowledged */
  post(session: Session, message: ServerMessage, now: number): void {
    this.put(session, session.mailbox.post(JSON.stringify(message), now))
  }

  /** @throws SkeinError `control.sequence` */
  receive(session: Session, envelope: Envelope<ClientMessage>, now: number): ClientMessage[] {
    const messages = session.mailbox.receive(envelope, now)
    if (session.mailbox.nextDue() !== null) this.#owing.add(session)
    return messages
  }

  put(session: Session, envelope: Envelope<string>): void {
    const { socket } = session
    if (!socket || socket.readyState !== socket.OPEN) return
    if (socket.bufferedAmount > this.#maxUnsentBytes) socket.terminate()
    else socket.send(envelopeText(envelope))
  }

  /** Sends the acknowledgements that found no message to ride on. */
  acknowledge(now: number): void {
    for (const session of this.#owing) {
      for (const envelope of session.mailbox.due(now)) this.put(session, envelope)
      if (session.mailbox.nextDue() === null) this.#owing.delete(session)
    }
  }

  /** Nodes whose socket is open and who have left a message unacknowledged for too long; each is named once per episode. */
  unresponsive(now: number): string[] {
    const found: string[] = []
    for (const session of this.#sessions.values()) {
      const silent = session.socket !== null && session.mailbox.oldestUnacked(now) > UNRESPONSIVE_MS
      if (silent && !session.unresponsive) found.push(session.nodeId)
      session.unresponsive = silent
    }
    return found
  }
}
