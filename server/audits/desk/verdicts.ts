/**
 * Owns what follows from decisions: each verdict in the store with its rows of the ledger, and only then in the runs and at the
 * gate.
 */
import type { AuditVerdict, Incident } from '../../../src/protocol/auditApi.ts'
import { SkeinError, toErrorBody } from '../../../src/protocol/errors.ts'
import type { Closing } from '../../db/auditStore.ts'
import type { Decision } from '../../ledger/ledger.ts'
import { decideAudits, standingOf } from '../audits.ts'
import type { AuditCommand, AuditState, Standing } from '../types.ts'
import { openWords, type Case } from './case.ts'
import type { DeskOptions } from './desk.ts'
import { distancesFound } from './distances.ts'
import { convictedError } from './refusals.ts'

export type Closed = Extract<AuditCommand, { type: 'closed' }>

type VerdictOptions = Pick<DeskOptions, 'store' | 'ledger' | 'runs' | 'expel' | 'metrics' | 'log'>

export class Verdicts {
  readonly #options: VerdictOptions
  readonly #state: AuditState
  readonly #now: () => number
  #incident: Incident | null = null
  #turn: Promise<unknown> = Promise.resolve()

  /** @param state the pure core's */
  constructor(options: VerdictOptions, state: AuditState, now: () => number) {
    this.#options = options
    this.#state = state
    this.#now = now
  }

  /** Takes up what is known of devices, and the incident that is on. */
  async open(): Promise<void> {
    const { store } = this.#options
    for (const [device, standing] of await store.standings()) this.#state.standings.set(device, standing)
    this.#state.convictions.push(...(await store.convictions()))
    this.#incident = await store.incident()
    if (this.#incident) this.#state.incident = { reason: this.#incident.reason, since: this.#incident.since }
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
      const standings = this.standingsOf(devices)
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

  /** Keeps what the core decided at the end of an audit, and then acts on it. Never rejects. */
  async end(open: Case, commands: readonly AuditCommand[], closed: Closed): Promise<void> {
    await this.write(() => this.#settle(open, commands, closed), 'a verdict could not be kept')
    this.#act(open, commands, closed.outcome.verdict)
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
      standings: this.standingsOf(concerned),
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

  #act({ claim }: Case, commands: readonly AuditCommand[], verdict: AuditVerdict): void {
    const { runs, expel, metrics, log } = this.#options
    const { runId, generation, step, stage } = claim
    const place = { runId, generation, step, stage }
    metrics.audited(verdict)
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
  standingsOf(devices: Iterable<string>): Map<string, Standing> {
    const copies = new Map<string, Standing>()
    for (const device of devices) {
      const standing = standingOf(this.#state, device)
      copies.set(device, { ...standing, cleared: new Map(standing.cleared) })
    }
    return copies
  }

  /** Resolves when nothing that was decided waits to be written. */
  async settled(): Promise<void> {
    for (let turn; turn !== this.#turn;) {
      turn = this.#turn
      await turn
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }

  /** Writes come one after another, in the order of the calls; what fails is told. */
  write(work: () => Promise<void>, failure: string): Promise<void> {
    return this.#inTurn(work).catch((caught: unknown) => {
      this.#options.log.error({ err: caught, code: toErrorBody(caught).code }, failure)
    })
  }
}
