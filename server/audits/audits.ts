/**
 * Owns the decisions about audits: which claims are recomputed, by whom, who is convicted and what that costs.
 *
 * A pure core: no clock, no randomness, no I/O. `decideAudits` changes the state it is given and returns the commands that
 * follow. A claim is committed to by the digests in its receipt before `draw` is made for it.
 */
import { attribute, oddityOf } from './oddities.ts'
import { auditRate, DEFAULT_POLICY, freshStanding, shutOutMs, type AuditPolicy } from './policy.ts'
import { benchOf, sameHands, settle } from './settlement.ts'
import type {
  Audit,
  AuditCommand,
  AuditDraw,
  AuditEvent,
  AuditState,
  Claim,
  MergeClaim,
  Party,
  Place,
  Standing,
  Verdict,
  WorkAudit,
} from './types.ts'

export function initialAudits(policy: Partial<AuditPolicy> = {}): AuditState {
  return {
    policy: { ...DEFAULT_POLICY, ...policy },
    standings: new Map(),
    audits: new Map(),
    bounds: new Map(),
    digests: new Map(),
    attributions: new Map(),
    convictions: [],
    incident: null,
  }
}

export function standingOf({ standings }: AuditState, device: string): Standing {
  let standing = standings.get(device)
  if (!standing) standings.set(device, (standing = freshStanding()))
  return standing
}

export function decideAudits(state: AuditState, event: AuditEvent): AuditCommand[] {
  const commands: AuditCommand[] = []
  const { now } = event
  switch (event.type) {
    case 'claimed':
      onClaim(state, event, commands)
      break
    case 'merged':
      onMerge(state, event, commands)
      break
    case 'testified': {
      const audit = state.audits.get(event.audit)
      if (!audit || audit.claimed) break
      audit.claimed = event.evidence
      advance(state, audit, now, commands)
      break
    }
    case 'answered': {
      const audit = state.audits.get(event.audit)
      const juror = audit?.jurors.find(({ party }) => party.device === event.device)
      if (!audit || !juror || juror.evidence) break
      juror.evidence = event.evidence
      advance(state, audit, now, commands)
      break
    }
    case 'excused': {
      const audit = state.audits.get(event.audit)
      if (audit) excuse(state, audit, (device) => device === event.device, now, commands)
      break
    }
    case 'unshown': {
      const audit = state.audits.get(event.audit)
      if (audit && !audit.claimed) notShown(state, audit, now, commands)
      break
    }
    case 'outlived': {
      const audit = state.audits.get(event.audit)
      if (audit?.claimed) unsettled(state, audit, commands)
      break
    }
    case 'withdrawn': {
      const audit = state.audits.get(event.audit)
      if (audit) close(state, audit, { verdict: 'open' }, commands)
      break
    }
    case 'disputed':
      for (const device of event.devices) watch(state, device)
      break
    case 'scored':
      for (const device of attribute(state, event.losses)) {
        watch(state, device)
        commands.push({ type: 'watched', device })
      }
      break
    case 'incident':
      state.incident = { reason: event.reason, since: event.since }
      waiveSince(state, commands)
      break
    case 'incidentOver':
      state.incident = null
      break
    case 'tick':
      for (const audit of [...state.audits.values()]) expire(state, audit, now, commands)
      break
  }
  return commands
}

const placeOf = ({ run, generation, step, stage }: Place): Place => ({ run, generation, step, stage })

function watch(state: AuditState, device: string): void {
  const standing = standingOf(state, device)
  standing.watched = Math.max(standing.watched, state.policy.watch)
}

function onClaim(
  state: AuditState,
  { claim, draw, replicas, reserves = [], now }: Extract<AuditEvent, { type: 'claimed' }>,
  commands: AuditCommand[],
): void {
  const { claimant, neighbours, receipt, microbatches, codec, credit } = claim
  if (state.audits.has(receipt)) return
  if (oddityOf(state, claim)) watch(state, claimant.device)
  const standing = standingOf(state, claimant.device)
  const rate = auditRate(state.policy, standing)
  if (standing.watched > 0) standing.watched--
  if (draw.whether >= rate) return
  const bench = [replicas, reserves].flatMap((some) => benchOf(state, some, [claimant], neighbours, draw.who, now))
  const base = begun(claim, draw, bench, now)
  open(state, { ...base, of: 'work', id: receipt, accused: [claimant], microbatches, codec, credit }, now, commands)
}

function onMerge(
  state: AuditState,
  { claim, draw, replicas, now }: Extract<AuditEvent, { type: 'merged' }>,
  commands: AuditCommand[],
): void {
  const { run, generation, step, stage, shard, owners, agreed } = claim
  const id = `${run} ${generation} ${step} ${stage} ${shard}`
  if (owners.length === 0 || state.audits.has(id) || (agreed && draw.whether >= state.policy.mergeRate)) return
  const bench = benchOf(state, replicas, owners, [], draw.who, now)
  const base = begun(claim, draw, bench, now)
  open(state, { ...base, of: 'merge', id, accused: owners, shard, codec: 'f32', credit: 0n }, now, commands)
}

function begun(claim: Claim | MergeClaim, { seed }: AuditDraw, bench: Party[], now: number) {
  return { ...placeOf(claim), seed, openedAt: now, claimed: null, jurors: [], bench }
}

function open(state: AuditState, audit: Audit, now: number, commands: AuditCommand[]): void {
  if (audit.bench.length === 0) return close(state, audit, { verdict: 'open' }, commands)
  state.audits.set(audit.id, audit)
  commands.push({ type: 'testify', audit })
  askNext(audit, now, commands)
}

/** Asks the next of the bench who is in nobody's hands that judges already; whether there was one. */
function askNext(audit: Audit, now: number, commands: AuditCommand[]): boolean {
  const place = audit.bench.findIndex((party) => !audit.jurors.some((juror) => sameHands(juror.party, party)))
  if (place < 0) return false
  const [juror] = audit.bench.splice(place, 1)
  audit.jurors.push({ party: juror!, askedAt: now, evidence: null, late: false })
  commands.push({ type: 'recompute', audit, juror: juror! })
  return true
}

function advance(state: AuditState, audit: Audit, now: number, commands: AuditCommand[]): void {
  const settlement = settle(audit)
  switch (settlement.type) {
    case 'waiting': {
      // One word against the claim stands, and whoever could confirm it is late: somebody else may.
      const heard = audit.claimed && audit.jurors.some(({ evidence }) => evidence !== null)
      const late = audit.jurors.every(({ evidence, late }) => evidence !== null || late)
      if (heard && late && audit.jurors.length < state.policy.mostJurors) askNext(audit, now, commands)
      return
    }
    case 'another':
      if (audit.jurors.length < state.policy.mostJurors && askNext(audit, now, commands)) return
      return unsettled(state, audit, commands)
    case 'passed':
      return pass(state, audit, new Set(), commands)
    case 'settled': {
      const { claim, falseJurors } = settlement
      const liars = new Set(falseJurors.map(({ party }) => party.device))
      for (const device of liars) convict(state, audit, device, 'a false recomputation', now, commands)
      if (!claim) return pass(state, audit, liars, commands)
      const reason = `${claim.kind} beyond tolerance (${claim.quantile})`
      for (const { device } of audit.accused) convict(state, audit, device, reason, now, commands)
      if (audit.of === 'merge') commands.push({ type: 'redoMerge', place: placeOf(audit), shard: audit.shard })
      else redo(audit, commands)
      creditJurors(state, audit, liars, commands)
      return close(state, audit, { verdict: 'convicted', reason }, commands)
    }
  }
}

function redo(audit: WorkAudit, commands: AuditCommand[]): void {
  const [{ device }] = audit.accused
  commands.push({ type: 'redo', place: placeOf(audit), device, microbatches: audit.microbatches })
}

function pass(state: AuditState, audit: Audit, liars: ReadonlySet<string>, commands: AuditCommand[]): void {
  if (audit.of === 'work') {
    const standing = standingOf(state, audit.accused[0].device)
    standing.passed++
    standing.cleared.set(audit.run, Math.max(audit.step, standing.cleared.get(audit.run) ?? 0))
  }
  creditJurors(state, audit, liars, commands)
  close(state, audit, { verdict: 'passed' }, commands)
}

function creditJurors(state: AuditState, audit: Audit, liars: ReadonlySet<string>, commands: AuditCommand[]): void {
  const credit = (audit.credit * state.policy.creditPercent) / 100n
  if (credit === 0n) return
  for (const { party, evidence } of audit.jurors) {
    if (!evidence || liars.has(party.device)) continue
    commands.push({ type: 'credit', place: placeOf(audit), device: party.device, credit })
  }
}

function close({ audits }: AuditState, audit: Audit, outcome: Verdict, commands: AuditCommand[]): void {
  audits.delete(audit.id)
  commands.push({ type: 'closed', audit, outcome })
}

/** From the step after the last that was seen to be right, to the one that was not. */
function convict(
  state: AuditState,
  { run, step }: Audit,
  device: string,
  reason: string,
  now: number,
  commands: AuditCommand[],
): void {
  if (state.incident) {
    commands.push({ type: 'waive', device, reason: state.incident.reason })
    return
  }
  const standing = standingOf(state, device)
  const cleared = standing.cleared.get(run) ?? 0
  const fromStep = cleared < step ? cleared + 1 : step
  const conviction = { device, run, fromStep, toStep: step, at: now, reason }
  // What it claimed before it was shut out is void as well, and no second offence.
  if (standing.shutUntil <= now) {
    standing.convictions++
    standing.passed = 0
    standing.unshown = 0
    standing.shutUntil = now + shutOutMs(state.policy, standing.convictions)
    state.convictions.push(conviction)
  }
  commands.push({ type: 'convict', conviction, shutUntil: standing.shutUntil })
}

function waiveSince(state: AuditState, commands: AuditCommand[]): void {
  const { reason, since } = state.incident!
  const waived = state.convictions.filter(({ at }) => at >= since)
  for (const device of new Set(waived.map((conviction) => conviction.device))) {
    const standing = standingOf(state, device)
    standing.convictions -= waived.filter((conviction) => conviction.device === device).length
    standing.shutUntil = 0
    commands.push({ type: 'waive', device, reason })
  }
  state.convictions.splice(0, state.convictions.length, ...state.convictions.filter(({ at }) => at < since))
}

/** Takes jurors that will not answer off the audit, and asks others in their stead. */
function excuse(
  state: AuditState,
  audit: Audit,
  gone: (device: string) => boolean,
  now: number,
  commands: AuditCommand[],
): void {
  const absent = audit.jurors.filter(({ party, evidence }) => evidence === null && gone(party.device))
  if (absent.length === 0) return
  for (const juror of absent) audit.jurors.splice(audit.jurors.indexOf(juror), 1)
  // Beside one that was late another is asked already.
  const replaced = absent.every(({ late }) => late) && audit.jurors.length > 0
  if (!replaced && askNext(audit, now, commands)) return
  if (audit.jurors.length > 0) advance(state, audit, now, commands)
  else unsettled(state, audit, commands)
}

/**
 * Ends an audit that nobody can settle. Word against word convicts nobody, and none of them is believed unseen for a while.
 * Where nobody gave his word the claimant loses of its record, and its next claim is looked at for sure: else it would pay to
 * have every juror fail, and to claim falsely.
 */
function unsettled(state: AuditState, audit: Audit, commands: AuditCommand[]): void {
  const witnesses = audit.jurors.filter(({ evidence }) => evidence !== null)
  if (audit.claimed && witnesses.length > 0)
    for (const { device } of [...audit.accused, ...witnesses.map(({ party }) => party)]) watch(state, device)
  for (const { device } of audit.accused) {
    const standing = standingOf(state, device)
    standing.passed = Math.max(0, standing.passed - state.policy.halving)
    standing.watched = Math.max(standing.watched, 1)
  }
  close(state, audit, { verdict: 'open' }, commands)
}

function expire(state: AuditState, audit: Audit, now: number, commands: AuditCommand[]): void {
  const { answerMs, patienceMs, mostLate, mostJurors } = state.policy
  if (!audit.claimed && now - audit.openedAt > answerMs) return notShown(state, audit, now, commands)
  const late = new Set(audit.jurors.filter(({ askedAt }) => now - askedAt > answerMs).map(({ party }) => party.device))
  excuse(state, audit, (device) => late.has(device), now, commands)
  if (!state.audits.has(audit.id)) return
  for (const juror of [...audit.jurors]) {
    const { askedAt, evidence } = juror
    if (juror.late || evidence || now - askedAt < patienceMs) continue
    if (audit.jurors.filter((other) => other.late).length >= mostLate || audit.jurors.length >= mostJurors) return
    juror.late = askNext(audit, now, commands)
  }
}

/**
 * Whoever cannot show what it signed for is looked at again, and soon. That can happen to anybody; to whom it happens often, it
 * happens when it would be caught.
 */
function notShown(state: AuditState, audit: Audit, now: number, commands: AuditCommand[]): void {
  let convicted = false
  for (const { device } of audit.accused) {
    const standing = standingOf(state, device)
    standing.unshown++
    watch(state, device)
    const { mostUnshown, passedPerUnshown } = state.policy
    if (audit.of !== 'work' || standing.unshown <= mostUnshown + standing.passed / passedPerUnshown) continue
    convict(state, audit, device, UNSHOWN, now, commands)
    redo(audit, commands)
    convicted = true
  }
  close(state, audit, convicted ? { verdict: 'convicted', reason: UNSHOWN } : { verdict: 'open' }, commands)
}

const UNSHOWN = 'did not show what it had signed for, again and again'
