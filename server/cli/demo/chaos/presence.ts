/** Owns what one loaded page is to the run, as its own control line tells: its stage, its leases, its first work. */
import {
  clientMessageSchema,
  serverMessageSchema,
  type ClientMessage,
  type ServerMessage,
  type ShardOwners,
} from '../../../../src/protocol/control.ts'

/** All times are Unix milliseconds. */
export class Presence {
  readonly openedAt: number
  nodeId: string | null = null
  /** The last that it was assigned to. */
  stage: number | null = null
  /** The newest training step that it was told of, its microbatches there, and of which generation they are. */
  step = 0
  generation = 0
  leases: ReadonlySet<number> = new Set()
  /** Set while it is not to be counted on: dead, standing still, paused or gone. */
  away = false
  /** Shards of its stage that it owns, and the step since which; see `ShardOwners`. */
  readonly owned = new Map<number, number>()
  /** Shards of its stage in all. */
  shards = 0
  /** When it first had a stage, stood ready, had a lease, and had computed one. */
  assignedAt: number | null = null
  readyAt: number | null = null
  leasedAt: number | null = null
  computedAt: number | null = null
  /** When a step began without a lease for it although it was ready: from then on it stood by. */
  sparedAt: number | null = null
  #backSince = 0

  constructor(openedAt: number) {
    this.openedAt = openedAt
  }

  /** It is there again, and may lack what happened up to this committed step. */
  back(committed: number): void {
    this.away = false
    this.owned.clear()
    this.#backSince = committed + 1
  }

  /** Takes one frame of the control WebSocket, as text. What is no message of this protocol is let pass. */
  sent(text: string, at: number): void {
    const parsed = clientMessageSchema.safeParse(bodyOf(text))
    if (parsed.success) this.#said(parsed.data, at)
  }

  received(text: string, at: number): void {
    const parsed = serverMessageSchema.safeParse(bodyOf(text))
    if (parsed.success) this.#heard(parsed.data, at)
  }

  /**
   * Seconds from the opening of the page to its first computed microbatch, less the time for which it stood by, ready, because
   * its stage was full; null until then.
   */
  firstMicrobatchSeconds(): number | null {
    const { openedAt, computedAt, leasedAt, sparedAt } = this
    if (computedAt === null) return null
    const stoodBy = sparedAt === null || leasedAt === null ? 0 : Math.max(0, leasedAt - sparedAt)
    return (computedAt - openedAt - stoodBy) / 1000
  }

  #said(message: ClientMessage, at: number): void {
    switch (message.type) {
      case 'ready':
        this.readyAt ??= at
        break
      case 'finished':
        if (this.leases.size > 0) this.computedAt ??= at
        break
      case 'heartbeat':
        if (message.stats.tokens > 0) this.computedAt ??= at
    }
  }

  #heard(message: ServerMessage, at: number): void {
    switch (message.type) {
      case 'welcome':
        this.nodeId = message.nodeId
        break
      case 'assign':
        this.assignedAt ??= at
        this.stage = message.assignment.stage
        this.generation = message.assignment.generation
        if (message.assignment.source !== 'held') this.owned.clear()
        break
      case 'standby':
      case 'release':
        this.owned.clear()
        this.leases = new Set()
        break
      case 'step':
        if (message.mode === 'evaluate') break
        this.step = message.step
        this.#leased(message, at)
        this.#owns(message.owners)
        if (this.readyAt !== null && this.leasedAt === null) this.sparedAt ??= at
        break
      case 'leases':
        if (message.step === this.step) this.#leased(message, at)
        break
      case 'revoked':
        if (message.step === this.step) this.leases = new Set()
        break
      case 'owners':
        this.#owns(message.owners)
    }
  }

  #owns(owners: ShardOwners): void {
    this.shards = owners.length
    for (const [shard, ids] of owners.entries()) {
      if (this.nodeId === null || !ids.includes(this.nodeId)) this.owned.delete(shard)
      else if (!this.owned.has(shard)) this.owned.set(shard, Math.max(this.step, this.#backSince))
    }
  }

  #leased({ leases }: { leases: readonly (readonly [number, number, number])[] }, at: number): void {
    this.leases = new Set(leases.map(([microbatch]) => microbatch))
    if (leases.length > 0) this.leasedAt ??= at
  }
}

/** The message of an envelope (see `Mailbox`), or the bare message that greets. */
function bodyOf(text: string): unknown {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return null
  }
  return typeof body === 'object' && body !== null && 'm' in body ? body.m : body
}
