/**
 * Owns the audits of a live server: draws them, hears claimants and jurors, and carries out what the pure core decides, in the
 * ledger, in the store and in the runs.
 *
 * A verdict is in the store, with its rows of the ledger, before anybody acts on it.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { evidenceFloats } from '../../src/audit/evidence.ts'
import type { AuditView, Incident, StandingView } from '../../src/protocol/auditApi.ts'
import type { ClientMessage, EvidenceMessage, ExhibitKind, ServerMessage } from '../../src/protocol/control.ts'
import { fail, SkeinError, toErrorBody, type ErrorBody } from '../../src/protocol/errors.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { AuditStore, Closing } from '../db/auditStore.ts'
import type { Decision, Ledger } from '../ledger/ledger.ts'
import type { WorkClaim } from '../orchestrator/types.ts'
import { decideAudits, initialAudits, standingOf } from './audits.ts'
import { distancesFound } from './distances.ts'
import { digestOf, exhibitsOf, isWhole, shardsToDraw, type Drawn, type Exhibit } from './exhibits.ts'
import { auditRate, type AuditPolicy } from './policy.ts'
import type { AuditedRuns } from './port.ts'
import { convictedError, shutOutError } from './refusals.ts'
import type { Audit, AuditCommand, AuditDraw, AuditEvent, AuditState, Evidence, Party, Standing } from './types.ts'

type Jury = Extract<ClientMessage, { type: 'recomputed' | 'declined' }>
type Closed = Extract<AuditCommand, { type: 'closed' }>
type DistributedEvent = AuditEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

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

/** One audit under way, with what the pure core need not know. */
interface Case {
  readonly claim: WorkClaim
  readonly config: RunConfig
  readonly drawn: Drawn
  /** What has not been shown. */
  readonly awaited: Map<ExhibitKind, Exhibit>
  readonly shown: Map<Exhibit['tensor'], Float32Array>
  /** By device: the node of each replica that may be asked. */
  readonly nodes: ReadonlyMap<string, string>
  /** Devices that were asked, in that order, and whether they answered. */
  readonly asked: Map<string, boolean>
  /** The run was told that nothing waits for it. */
  released: boolean
}

/** The core's commands up to the end of one audit. */
interface Outcome {
  readonly commands: readonly AuditCommand[]
  readonly closed: Closed
}

export class AuditDesk {
  readonly #options: DeskOptions
  readonly #now: () => number
  readonly #state: AuditState
  readonly #cases = new Map<string, Case>()
  #incident: Incident | null = null
  #taking = 0
  #turn: Promise<unknown> = Promise.resolve()
  #ticker: ReturnType<typeof setInterval> | null = null

  constructor(options: DeskOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#state = initialAudits(options.policy)
  }

  /** Takes up what is known of devices; audits that were under way when the server went are left open. */
  async open(): Promise<void> {
    const { store, log } = this.#options
    for (const [device, standing] of await store.standings()) this.#state.standings.set(device, standing)
    this.#state.convictions.push(...(await store.convictions()))
    this.#incident = await store.incident()
    if (this.#incident) this.#state.incident = { reason: this.#incident.reason, since: this.#incident.since }
    const claimants = await store.interrupt('The server was started again before it was settled.', this.#now())
    if (claimants.length > 0) {
      log.info({ claimants: claimants.length }, 'audits were interrupted')
      this.#tell({ type: 'disputed', devices: claimants })
      await store.keepStandings(this.#standingsOf(claimants))
    }
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
  }

  /** Lets what was decided be written, and begins nothing more. */
  async close(): Promise<void> {
    if (this.#ticker) clearInterval(this.#ticker)
    await this.settled()
  }

  /** Resolves when nothing that was decided waits to be written. */
  async settled(): Promise<void> {
    for (let turn; turn !== this.#turn;) {
      turn = this.#turn
      await turn
    }
  }

  /** A node has committed to its work: decides whether somebody computes it again. Answered once by `claimSettled`. */
  async claimed(claim: WorkClaim, replicas: readonly { nodeId: string; device: string }[]): Promise<void> {
    const { runs, walletOf } = this.#options
    try {
      const config = runs.configOf(claim.runId)
      const claimant = await this.#partyOf(claim, claim)
      const shards = config ? shardsToDraw(config, claim.stage) : []
      if (this.#cases.has(claim.receipt)) return
      if (!config || !claimant || shards.length === 0) return this.#answer(claim)
      this.#supersede(claim)
      const bench: Party[] = []
      for (const replica of replicas) {
        const deviceClass = runs.classOf(replica.nodeId, claim.runId)
        const { device } = replica
        if (deviceClass) bench.push({ device, wallet: await walletOf(device), class: deviceClass })
      }
      const nodes = new Map(replicas.map(({ device, nodeId }) => [device, nodeId]))
      const draw = drawAudit()
      const { microbatch } = claim.entries[randomInt(claim.entries.length)]!
      const drawn = { microbatch, shard: shards[randomInt(shards.length)]!, seed: draw.seed }
      const exhibits = exhibitsOf(config, claim, drawn)
      const awaited = new Map(exhibits.map((exhibit) => [exhibit.kind, exhibit]))
      const about = { claim, config, drawn, awaited, nodes, released: false }
      this.#cases.set(claim.receipt, { ...about, shown: new Map(), asked: new Map() })
      this.#tell({ type: 'claimed', claim: coreClaim(claim, claimant), draw, replicas: bench })
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
      // Its leases may be others by now, which a later claim shows; else the deadline counts against it.
      if (message.type === 'declined') this.#release(open)
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
    const { store } = this.#options
    this.#write(() => store.keepStandings(this.#standingsOf(devices)), 'standings could not be kept')
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
    const { awaited, shown, claim } = this.#cases.get(audit)!
    if (digestOf(bytes) !== exhibit.digest) {
      this.#tell({ type: 'unshown', audit })
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

  get incident(): Incident | null {
    return this.#incident
  }

  /** Something of ours is broken: nobody is punished from now on, and convictions since `since` are void. */
  declareIncident(reason: string, since: number): Promise<Incident> {
    return this.#inTurn(async () => {
      const { store, ledger } = this.#options
      const incident = { reason, since, declaredAt: this.#now() }
      await store.declareIncident(incident)
      this.#incident = incident
      const waived = decideAudits(this.#state, { type: 'incident', reason, since, now: incident.declaredAt })
      const devices = waived.flatMap((command) => (command.type === 'waive' ? [command.device] : []))
      const rows = devices.map((device) => ({ kind: 'waiver', device, reason, since }) as const)
      const standings = this.#standingsOf(devices)
      await ledger.settle(rows, (entries, at, after) => store.waive({ standings, since, entries, at, after }))
      this.#options.log.info({ reason, since, devices: devices.length }, 'an incident is declared')
      return incident
    })
  }

  endIncident(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#options.store.endIncident(this.#now())
      decideAudits(this.#state, { type: 'incidentOver', now: this.#now() })
      this.#incident = null
    })
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
    if (open && open.claim.nodeId !== nodeId)
      return fail(
        'audit.exhibit_stranger',
        'Only the node whose claim is audited can show what it made.',
        'Reload the page: a new session gets a new token.',
      )
    return (
      open?.awaited.get(kind) ??
      fail('audit.unknown', 'No audit waits for this exhibit.', 'Nothing to do: it is settled, or it was shown before.')
    )
  }

  #tick(): void {
    for (const [audit, { claim, asked, nodes }] of this.#cases) {
      if (!this.#state.audits.has(audit)) continue
      if (!this.#options.runs.isCurrent(claim.runId, claim.generation)) {
        this.#tell({ type: 'withdrawn', audit })
        continue
      }
      for (const [device, answered] of [...asked])
        if (!answered && !this.#options.runs.classOf(nodes.get(device)!, claim.runId))
          this.#tell({ type: 'excused', audit, device })
    }
    this.#tell({ type: 'tick' })
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
        this.#end({ commands: pending, closed: command })
        pending = []
      } else pending.push(command)
    }
  }

  #begin({ id, credit, openedAt }: Audit): void {
    const open = this.#cases.get(id)!
    const { claim, drawn } = open
    const { runId: run, generation, step, stage, device: claimant, receipt, entries, nodeId } = claim
    const { microbatch, shard } = drawn
    const about = { id, run, generation, step, stage, claimant, receipt, openedAt, credit: String(credit) }
    const audit = { ...about, microbatches: entries.length, shown: { microbatch, shard } }
    this.#write(() => this.#options.store.open(audit), 'an audit could not be kept')
    this.#options.runs.send(nodeId, { type: 'show', generation, step, audit: id, microbatch, shard })
  }

  #ask({ id }: Audit, { device }: Party): void {
    const open = this.#cases.get(id)!
    open.asked.set(device, false)
    this.#options.runs.send(open.nodes.get(device)!, recomputeMessage(id, open))
  }

  #end({ commands, closed }: Outcome): void {
    const { audit, outcome } = closed
    const open = this.#cases.get(audit.id)
    if (!open || open.asked.size === 0) return
    this.#cases.delete(audit.id)
    this.#write(() => this.#settle(open, commands, closed), 'a verdict could not be kept').finally(() => {
      this.#act(open, commands, outcome.verdict)
      this.#release(open)
    })
  }

  /** Keeps a verdict with its rows of the ledger; where the ledger is damaged, without them. */
  async #settle(open: Case, commands: readonly AuditCommand[], { audit, outcome }: Closed): Promise<void> {
    const { store, ledger, log } = this.#options
    const decisions = this.#decisions(commands)
    const convictions = commands.flatMap((command) => (command.type === 'convict' ? [command.conviction] : []))
    const concerned = [open.claim.device, ...open.asked.keys()]
    const waived = commands.find((command) => command.type === 'waive')
    const why = outcome.verdict === 'convicted' ? outcome.reason : outcome.verdict === 'open' ? openWords(open) : ''
    const closing: Omit<Closing, 'entries' | 'after' | 'at'> = {
      id: audit.id,
      verdict: outcome.verdict,
      reason: waived ? `${why}; not punished: ${waived.reason}` : why,
      jurors: [...open.asked].map(([device, answered]) => ({ device, answered })),
      distances: distancesFound(audit),
      standings: this.#standingsOf(concerned),
      convictions,
    }
    try {
      await ledger.settle(decisions, (entries, at, after) => store.close({ ...closing, entries, at, after }))
    } catch (caught) {
      if (!(caught instanceof SkeinError) || caught.code !== 'ledger.fault') throw caught
      log.error({ err: caught, audit: audit.id }, 'a verdict is not in the ledger, which is damaged')
      await store.close({ ...closing, entries: [], at: this.#now(), after: 0 })
    }
  }

  #decisions(commands: readonly AuditCommand[]): Decision[] {
    const { runs, log } = this.#options
    const decisions: Decision[] = []
    for (const command of commands) {
      if (command.type === 'credit') {
        const { device, place, credit } = command
        const { run, step, stage } = place
        if (runs.creditAudit(run, credit))
          decisions.push({ kind: 'audit', run, step, stage, device, credit: String(credit) })
        else log.info({ run, device }, 'the budget does not reach for a recomputation')
      } else if (command.type === 'convict') {
        const { device, run, fromStep, toStep, reason } = command.conviction
        decisions.push({ kind: 'conviction', device, run, fromStep, toStep, reason })
      }
    }
    return decisions
  }

  #act({ claim }: Case, commands: readonly AuditCommand[], verdict: AuditView['verdict']): void {
    const { runs, expel, metrics, log } = this.#options
    const { runId, generation, step, stage } = claim
    const place = { runId, generation, step, stage }
    metrics.audited(verdict ?? 'open')
    const convicted = new Set<string>()
    for (const command of commands) {
      if (command.type !== 'convict') continue
      const { device, reason } = command.conviction
      const error = convictedError(reason, command.shutUntil)
      convicted.add(device)
      log.info({ runId, step, stage, device, reason, shutUntil: command.shutUntil }, 'a device is convicted')
      runs.convicted(place, device, error)
      expel(device, error)
    }
    for (const command of commands)
      if (command.type === 'redo' && !convicted.has(command.device)) runs.redo(place, command.device)
  }

  /** Copies, for the standings go on changing while they wait to be written. */
  #standingsOf(devices: Iterable<string>): Map<string, Standing> {
    const copies = new Map<string, Standing>()
    for (const device of devices) {
      const standing = standingOf(this.#state, device)
      copies.set(device, { ...standing, cleared: new Map(standing.cleared) })
    }
    return copies
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }

  #write(work: () => Promise<void>, failure: string): Promise<void> {
    return this.#inTurn(work).catch((caught: unknown) => {
      this.#options.log.error({ err: caught, code: toErrorBody(caught).code }, failure)
    })
  }
}

/** Drawn after the claim was made, by what nobody can know before. */
function drawAudit(): AuditDraw {
  const bytes = randomBytes(16)
  const unit = (at: number) => bytes.readUInt32LE(at) / 2 ** 32
  return { whether: unit(0), who: unit(4), seed: [bytes.readUInt32LE(8), bytes.readUInt32LE(12)] }
}

function coreClaim(claim: WorkClaim, claimant: Party) {
  const { runId: run, generation, step, stage, receipt, neighbours, entries, codec, credit } = claim
  const glances = entries.flatMap(({ activationMade, gradientMade }) => [
    ...(activationMade === null
      ? []
      : [{ kind: 'activation', finite: true, rms: null, digest: activationMade } as const]),
    ...(gradientMade === null
      ? []
      : [{ kind: 'inputGradient', finite: true, rms: null, digest: gradientMade } as const]),
  ])
  const microbatches = entries.map(({ microbatch }) => microbatch)
  return { run, generation, step, stage, receipt, claimant, neighbours, microbatches, codec, credit, glances }
}

function recomputeMessage(audit: string, { claim, drawn }: Case): ServerMessage {
  const { generation, step, entries } = claim
  const peers = [...new Set(entries.flatMap(({ up, down }) => [up, down]).filter((node) => node !== null))]
  const placeOf = (node: string | null) => (node === null ? -1 : peers.indexOf(node))
  const leases = entries.map(
    ({
      microbatch,
      up,
      down,
      activationTaken,
      gradientTaken,
    }): [number, number, number, string | null, string | null] => [
      microbatch,
      placeOf(up),
      placeOf(down),
      activationTaken,
      gradientTaken,
    ],
  )
  const { microbatch, shard, seed } = drawn
  return { type: 'recompute', generation, step, audit, peers, leases, microbatch, shard, seed: [...seed] }
}

/** Null where it is no numbers. */
function evidenceOf(message: EvidenceMessage): Evidence | null {
  try {
    return Object.fromEntries(
      Object.entries(message).flatMap(([kind, text]) => (text === undefined ? [] : [[kind, evidenceFloats(text)]])),
    )
  } catch {
    return null
  }
}

function openWords({ awaited, asked }: Case): string {
  if (awaited.size > 0) return 'The claimant did not show in time what it had signed for, or was given other work.'
  if ([...asked.values()].some((answered) => answered)) return 'The recomputations did not settle it.'
  return 'Nobody recomputed it in time.'
}
