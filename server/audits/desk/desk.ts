/**
 * Owns the audits of a live server: draws them, hears claimants and jurors, and carries out what the pure core decides, in the
 * ledger, in the store and in the runs.
 *
 * A verdict is in the store, with its rows of the ledger, before anybody acts on it.
 */
import { randomInt } from 'node:crypto'
import type { Incident, StandingView } from '../../../src/protocol/auditApi.ts'
import type { ExhibitKind } from '../../../src/protocol/audit.ts'
import type { ClientMessage } from '../../../src/protocol/control.ts'
import { fail, type ErrorBody } from '../../../src/protocol/errors.ts'
import type { AuditStore } from '../../db/auditStore.ts'
import type { Ledger } from '../../ledger/ledger.ts'
import type { WorkClaim } from '../../orchestrator/types.ts'
import { decideAudits, initialAudits, standingOf } from '../audits.ts'
import { auditRate, type AuditPolicy } from '../policy.ts'
import type { Audit, AuditCommand, AuditEvent, AuditState, Party, RouteLoss } from '../types.ts'
import { askLenders, attend, findInputs } from './absence.ts'
import { coreClaim, drawAudit, evidenceOf, recomputeMessage, type Case } from './case.ts'
import { digestOf, exhibitsOf, isWhole, shardsToDraw, type Exhibit } from './exhibits.ts'
import type { AuditedRuns } from './port.ts'
import { shutOutError } from './refusals.ts'
import { Verdicts, type Closed } from './verdicts.ts'

type Jury = Extract<ClientMessage, { type: 'recomputed' | 'declined' }>
type DistributedEvent = AuditEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

interface Replica {
  nodeId: string
  device: string
}

const TICK_MS = 500
/** Bodies of exhibits that are taken at one time. */
const MOST_AT_ONCE = 16

export interface DeskOptions {
  store: AuditStore
  ledger: Pick<Ledger, 'settle'>
  runs: AuditedRuns
  /** Whom a device earns for. */
  walletOf: (device: string) => Promise<string | null>
  /** Ends every session of a device. */
  expel: (device: string, error: ErrorBody) => void
  metrics: { audited(verdict: string): void }
  log: { info(fields: object, text: string): void; error(fields: object, text: string): void }
  policy?: Partial<AuditPolicy>
  /** Unix milliseconds. */
  now?: () => number
}

export class AuditDesk {
  readonly #options: DeskOptions
  readonly #now: () => number
  readonly #state: AuditState
  readonly #cases = new Map<string, Case>()
  readonly #verdicts: Verdicts
  #taking = 0
  #ticker: ReturnType<typeof setInterval> | null = null

  constructor(options: DeskOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#state = initialAudits(options.policy)
    this.#verdicts = new Verdicts(options, this.#state, this.#now)
  }

  /** Takes up what is known of devices; audits that were under way when the server went are left open. */
  async open(): Promise<void> {
    const { store, log } = this.#options
    await this.#verdicts.open()
    const claimants = await store.interrupt('The server was started again before it was settled.', this.#now())
    if (claimants.length > 0) {
      log.info({ claimants: claimants.length }, 'audits were interrupted')
      this.#tell({ type: 'disputed', devices: claimants })
      await store.keepStandings(this.#verdicts.standingsOf(claimants))
    }
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
  }

  /** Lets what was decided be written, and begins nothing more. */
  async close(): Promise<void> {
    if (this.#ticker) clearInterval(this.#ticker)
    await this.#verdicts.settled()
  }

  /** Resolves when nothing that was decided waits to be written. */
  settled(): Promise<void> {
    return this.#verdicts.settled()
  }

  /** A node has committed to its work: decides whether somebody computes it again. Answered once by `claimSettled`. */
  async claimed(claim: WorkClaim, replicas: readonly Replica[], reserves: readonly Replica[] = []): Promise<void> {
    const { runs } = this.#options
    try {
      const config = runs.configOf(claim.runId)
      const claimant = await this.#partyOf(claim, claim)
      const shards = config ? shardsToDraw(config, claim.stage) : []
      if (this.#cases.has(claim.receipt)) return
      if (!config || !claimant || shards.length === 0) return this.#answer(claim)
      this.#supersede(claim)
      const bench = await this.#partiesOf(claim, replicas)
      const second = await this.#partiesOf(claim, reserves)
      const nodes = new Map([...replicas, ...reserves].map(({ device, nodeId }) => [device, nodeId]))
      const draw = drawAudit()
      const { microbatch } = claim.entries[randomInt(claim.entries.length)]!
      const drawn = { microbatch, shard: shards[randomInt(shards.length)]!, seed: draw.seed }
      const exhibits = exhibitsOf(config, claim, drawn)
      const awaited = new Map(exhibits.map((exhibit) => [exhibit.kind, exhibit]))
      const about = { claim, config, drawn, awaited, nodes, withheld: false, overSince: null, released: false }
      const heard = { shown: new Map(), asked: new Map(), lenders: new Map(), sources: new Map() }
      this.#cases.set(claim.receipt, { ...about, ...heard })
      this.#tell({ type: 'claimed', claim: coreClaim(claim, claimant), draw, replicas: bench, reserves: second })
      if (this.#state.audits.has(claim.receipt)) return
      this.#cases.delete(claim.receipt)
      this.#answer(claim)
    } catch (caught) {
      this.#options.log.error({ err: caught, runId: claim.runId }, 'a claim could not be looked at')
      this.#cases.delete(claim.receipt)
      this.#answer(claim)
    }
  }

  /** What a node answers to `show` and `recompute`. */
  said(nodeId: string, message: Jury): void {
    const open = this.#cases.get(message.audit)
    if (!open || message.generation !== open.claim.generation || message.step !== open.claim.step) return
    if (nodeId === open.claim.nodeId) {
      if (message.type === 'declined') this.#withhold(message.audit, open)
      return
    }
    const device = [...open.asked.keys()].find((juror) => open.nodes.get(juror) === nodeId)
    if (device === undefined) return
    const evidence = message.type === 'recomputed' ? evidenceOf(message.evidence) : null
    const whole = evidence !== null && isWhole(open.config, open.claim, open.drawn.shard, evidence)
    if (message.type === 'declined') this.#options.log.info({ audit: message.audit, device }, message.reason)
    else if (!whole) this.#options.log.info({ audit: message.audit, device }, 'a recomputation is not whole')
    if (whole) open.asked.set(device, true)
    const about = { audit: message.audit, device }
    this.#tell(whole ? { type: 'answered', ...about, evidence } : { type: 'excused', ...about })
  }

  /** Devices whose receipts contradict each other. */
  disputed(devices: readonly string[]): void {
    this.#tell({ type: 'disputed', devices })
    this.#keepStandings(devices)
  }

  /** What the microbatches of a committed step came to: whoever is on the routes of high losses is looked at. */
  scored(run: string, losses: readonly RouteLoss[]): void {
    this.#tell({ type: 'scored', run, losses })
  }

  /**
   * What is awaited of a claimant, so that nothing else is read off the network.
   * @throws SkeinError `audit.unknown`, `audit.exhibit_stranger`, `audit.exhibit_size`, `audit.busy`
   */
  expect(audit: string, kind: ExhibitKind, nodeId: string, bytes: number | null): void {
    const { bytes: due } = this.#awaited(audit, kind, nodeId)
    if (bytes !== due)
      fail(
        'audit.exhibit_size',
        `This exhibit has ${due} bytes; the request says ${bytes ?? 'nothing'} of its length.`,
        'Send the tensor that was asked for as it is, with its Content-Length.',
      )
    if (this.#taking >= MOST_AT_ONCE)
      fail('audit.busy', 'The server takes as many exhibits as it can at a time.', 'Send it again in a moment.')
  }

  /** Counts a body that is on its way. @returns what to call when it is there, or is not coming */
  taking(): () => void {
    this.#taking += 1
    let over = false
    return () => {
      if (!over) this.#taking -= 1
      over = true
    }
  }

  /**
   * Takes bytes that a claimant shows.
   * @throws SkeinError `audit.unknown`, `audit.exhibit_stranger`; `audit.exhibit_digest` when they are not what was signed for
   */
  show(audit: string, kind: ExhibitKind, nodeId: string, bytes: Uint8Array): void {
    const exhibit = this.#awaited(audit, kind, nodeId)
    const open = this.#cases.get(audit)!
    const { awaited, shown, claim } = open
    if (digestOf(bytes) !== exhibit.digest) {
      if (nodeId === claim.nodeId && !this.#withhold(audit, open)) this.#tell({ type: 'unshown', audit })
      fail(
        'audit.exhibit_digest',
        'These are not the bytes that the receipt was signed for.',
        'Nothing to do if this is rare; if it persists, reload the page.',
      )
    }
    shown.set(exhibit.tensor, exhibit.sketch(bytes))
    awaited.delete(kind)
    if (awaited.size > 0) return
    const loss = claim.losses.length > 0 ? { loss: Float32Array.from(claim.losses) } : {}
    this.#tell({ type: 'testified', audit, evidence: { ...Object.fromEntries(shown), ...loss } })
  }

  /** Why a device may not come in now; null: it may. */
  barred(device: string): ErrorBody | null {
    const standing = this.#state.standings.get(device)
    if (!standing || standing.shutUntil <= this.#now()) return null
    return shutOutError(this.#reasonOf(device), standing.shutUntil)
  }

  /** Something of ours is broken, and nobody is punished for it; null when all is well. */
  get incident(): Incident | null {
    return this.#verdicts.incident
  }

  /** Nobody is punished from now on, and convictions since `since` are void. */
  declareIncident(reason: string, since?: number): Promise<Incident> {
    return this.#verdicts.declareIncident(reason, since ?? this.#now())
  }

  endIncident(): Promise<void> {
    return this.#verdicts.endIncident()
  }

  async standing(device: string): Promise<StandingView> {
    const { store } = this.#options
    const standing = this.#state.standings.get(device)
    const { audits: audited, passed } = await store.totals({ run: null, device })
    const of = standing ?? standingOf(initialAudits(), device)
    const shut = of.shutUntil > this.#now()
    return {
      device,
      audited,
      passed,
      rate: auditRate(this.#state.policy, of),
      watched: of.watched,
      convictions: of.convictions,
      shutUntil: shut ? of.shutUntil : null,
      reason: shut ? this.#reasonOf(device) : null,
    }
  }

  #reasonOf(device: string): string {
    return this.#state.convictions.findLast((conviction) => conviction.device === device)?.reason ?? 'false work'
  }

  #awaited(audit: string, kind: ExhibitKind, nodeId: string): Exhibit {
    const open = this.#cases.get(audit)
    if (open && open.claim.nodeId !== nodeId && !open.lenders.get(kind)?.has(nodeId))
      return fail(
        'audit.exhibit_stranger',
        'Only the node whose claim is audited can show what it made, or who took it and was asked.',
        'Reload the page: a new session gets a new token.',
      )
    return (
      open?.awaited.get(kind) ??
      fail('audit.unknown', 'No audit waits for this exhibit.', 'Nothing to do: it is settled, or it was shown before.')
    )
  }

  #tick(): void {
    for (const [audit, open] of this.#cases) if (this.#state.audits.has(audit)) this.#look(audit, open)
    this.#tell({ type: 'tick' })
  }

  /** Whether those that the audit needs are here; who is not is done without. */
  #look(audit: string, open: Case): void {
    const { openedAt } = this.#state.audits.get(audit)!
    const { patienceMs } = this.#state.policy
    const found = attend(audit, open, this.#options.runs, { now: this.#now(), openedAt, patienceMs })
    for (const event of found) this.#tell(event)
  }

  /** The claimant shows nothing: those who took it are asked. @returns whether there is anybody */
  #withhold(audit: string, open: Case): boolean {
    open.withheld = true
    askLenders(audit, open, this.#options.runs)
    if (open.lenders.size > 0) return true
    // Its leases may be others by now, which a later claim shows; else the deadline counts against it.
    this.#release(open)
    return false
  }

  /** An earlier claim of the same node for the same step is void: it was given other leases since. */
  #supersede({ runId, generation, step, stage, nodeId, receipt }: WorkClaim): void {
    for (const [audit, { claim }] of this.#cases)
      if (
        audit !== receipt &&
        claim.nodeId === nodeId &&
        claim.runId === runId &&
        claim.generation === generation &&
        claim.step === step &&
        claim.stage === stage
      )
        this.#tell({ type: 'withdrawn', audit })
  }

  async #partiesOf(claim: WorkClaim, replicas: readonly Replica[]): Promise<Party[]> {
    const parties = []
    for (const replica of replicas) parties.push(await this.#partyOf(replica, claim))
    return parties.filter((party) => party !== null)
  }

  async #partyOf(
    { nodeId, device }: Pick<WorkClaim, 'nodeId' | 'device'>,
    { runId }: WorkClaim,
  ): Promise<Party | null> {
    const deviceClass = this.#options.runs.classOf(nodeId, runId)
    return deviceClass && { device, wallet: await this.#options.walletOf(device), class: deviceClass }
  }

  /** Nothing waits for the claim any more. */
  #release(open: Case): void {
    if (!open.released) this.#answer(open.claim)
    open.released = true
  }

  #answer({ runId, generation, step, stage, receipt }: WorkClaim): void {
    this.#options.runs.claimSettled({ runId, generation, step, stage }, receipt)
  }

  #tell(event: DistributedEvent): void {
    const commands = decideAudits(this.#state, { ...event, now: this.#now() } as AuditEvent)
    let pending: AuditCommand[] = []
    for (const command of commands) {
      if (command.type === 'testify') this.#begin(command.audit)
      else if (command.type === 'recompute') this.#ask(command.audit, command.juror)
      else if (command.type === 'closed') {
        this.#end(pending, command)
        pending = []
      } else if (command.type === 'watched') this.#keepStandings([command.device])
      else pending.push(command)
    }
  }

  #keepStandings(devices: readonly string[]): void {
    const kept = () => this.#options.store.keepStandings(this.#verdicts.standingsOf(devices))
    void this.#verdicts.write(kept, 'standings could not be kept')
  }

  #begin({ id, credit, openedAt }: Audit): void {
    const open = this.#cases.get(id)!
    const { claim, drawn } = open
    const { runId: run, generation, step, stage, device: claimant, receipt, entries, nodeId } = claim
    const { microbatch, shard } = drawn
    const about = { id, run, generation, step, stage, claimant, receipt, openedAt, credit: String(credit) }
    const audit = { ...about, microbatches: entries.length, shown: { microbatch, shard } }
    void this.#verdicts.write(() => this.#options.store.open(audit), 'an audit could not be kept')
    this.#options.runs.send(nodeId, { type: 'show', generation, step, audit: id, microbatch, shard })
  }

  #ask({ id }: Audit, { device }: Party): void {
    const open = this.#cases.get(id)!
    open.asked.set(device, false)
    findInputs(open, this.#options.runs)
    this.#options.runs.send(open.nodes.get(device)!, recomputeMessage(id, open))
  }

  #end(commands: readonly AuditCommand[], closed: Closed): void {
    const { id } = closed.audit
    const open = this.#cases.get(id)
    if (!open || open.asked.size === 0) return
    this.#cases.delete(id)
    void this.#verdicts.end(open, commands, closed).then(() => this.#release(open))
  }
}
