/** Owns the simulated audits: the decisions that ship, put before claims in integers, whose randomness is the world's. */
import { decideAudits, initialAudits, standingOf } from '../../server/audits/audits.ts'
import { attend, findInputs, type Attended } from '../../server/audits/desk/absence.ts'
import { recomputeMessage } from '../../server/audits/desk/case.ts'
import type { AuditPolicy } from '../../server/audits/policy.ts'
import type { AuditCommand, AuditEvent, Evidence, Party } from '../../server/audits/types.ts'
import type { ClaimPlace, WorkClaim } from '../../server/orchestrator/workClaim.ts'
import { auditedRuns } from '../../server/runs/auditedRuns.ts'
import { evidenceFloats } from '../../src/audit/evidence.ts'
import type { ExhibitKind } from '../../src/protocol/audit.ts'
import type { ClientMessage } from '../../src/protocol/control.ts'
import type { Digest } from '../../src/protocol/receipt.ts'
import { sketchRow, sketchShare } from './integerEvidence.ts'
import { demand } from './invariants.ts'
import type { SimNode } from './node.ts'
import type { Tensor } from './tenure.ts'
import type { World } from './world.ts'

type Said<K extends ClientMessage['type']> = Extract<ClientMessage, { type: K }>
type Told = AuditEvent extends infer E ? (E extends unknown ? Omit<E, 'now'> : never) : never

interface Replica {
  nodeId: string
  device: string
}

interface Docket extends Attended {
  readonly entry: WorkClaim['entries'][number]
  readonly awaited: Map<ExhibitKind, Digest>
  readonly asked: Map<string, boolean>
  readonly shown: Map<ExhibitKind, Tensor>
}

const CLASS = { vendor: 'sim', architecture: '', products: 'f32' } as const
/** Longer than an answer takes, shorter than the merge waits. */
const POLICY: Partial<AuditPolicy> = { answerMs: 4000 }
const ERROR = { code: 'audit.convicted', message: 'What this device computed was false.', remedy: 'None.' }

export class AuditDesk {
  readonly state
  /** Devices, in the order they were convicted in. */
  readonly convicted: string[] = []
  /** Devices that were named for contradicting others. */
  readonly disputed = new Set<string>()
  readonly closed = { passed: 0, convicted: 0, open: 0 }
  readonly #world: World
  readonly #dockets = new Map<string, Docket>()

  constructor(world: World, policy: Partial<AuditPolicy>) {
    this.#world = world
    this.state = initialAudits({ ...POLICY, ...policy })
  }

  claimed(claim: WorkClaim, replicas: readonly Replica[], reserves: readonly Replica[]): void {
    const { random } = this.#world
    const lengths = this.#world.nodes.get(claim.nodeId)?.tenure?.ranges.map(({ length }) => length) ?? [1]
    const shards = claim.shares.flatMap((_, shard) => (lengths[shard]! > 0 ? [shard] : []))
    const seed = [Math.floor(random.next() * 2 ** 32), Math.floor(random.next() * 2 ** 32)] as const
    const entry = random.pick(claim.entries)!
    const shard = random.pick(shards)!
    const committed = { activation: entry.activationMade, gradient: entry.gradientMade, share: claim.shares[shard]! }
    const awaited = new Map<ExhibitKind, Digest>()
    for (const [kind, digest] of Object.entries(committed))
      if (digest !== null) awaited.set(kind as ExhibitKind, digest)
    this.#dockets.set(claim.receipt, {
      ...{ claim, entry, awaited, withheld: false, overSince: null },
      drawn: { microbatch: entry.microbatch, shard, seed },
      nodes: new Map([...replicas, ...reserves].map(({ device, nodeId }) => [device, nodeId])),
      ...{ asked: new Map(), lenders: new Map(), sources: new Map(), shown: new Map() },
    })
    const { runId: run, generation, step, stage, receipt, device, neighbours, entries, codec, credit } = claim
    this.#tell({
      type: 'claimed',
      claim: {
        ...{ run, generation, step, stage, receipt, neighbours, codec, credit },
        claimant: partyOf(device),
        microbatches: entries.map(({ microbatch }) => microbatch),
        // Integers have no norm that could be odd.
        glances: [],
      },
      draw: { whether: random.next(), who: random.next(), seed },
      replicas: replicas.map((replica) => partyOf(replica.device)),
      reserves: reserves.map((replica) => partyOf(replica.device)),
    })
    if (!this.state.audits.has(receipt)) this.#settle(receipt)
  }

  /** Bytes that a claimant shows: they are believed as far as the digest of them is in its receipt. */
  exhibit(node: SimNode, audit: string, kind: ExhibitKind, tensor: Tensor): void {
    const docket = this.#dockets.get(audit)
    if (!docket) return
    const { claim, awaited, drawn, lenders, shown } = docket
    const { seed } = drawn
    const mayShow = claim.device === node.deviceId || lenders.get(kind)?.has(node.id)
    if (!mayShow || awaited.get(kind) !== tensor.digest) return
    shown.set(kind, tensor)
    awaited.delete(kind)
    if (awaited.size > 0) return
    const row = (wanted: ExhibitKind) => shown.get(wanted) && sketchRow(shown.get(wanted)!.values, seed)
    const [activation, inputGradient] = [row('activation'), row('gradient')]
    const evidence: Evidence = {
      ...(activation && { activation }),
      ...(inputGradient && { inputGradient }),
      parameterGradient: sketchShare(shown.get('share')!.values, seed),
      ...(claim.losses.length > 0 && { loss: Float32Array.from(claim.losses) }),
    }
    this.#tell({ type: 'testified', audit, evidence })
  }

  heard(node: SimNode, message: Said<'recomputed'> | Said<'declined'>): void {
    const { audit } = message
    const { deviceId: device } = node
    const docket = this.#dockets.get(audit)
    if (!docket) return
    if (message.type === 'declined' && device === docket.claim.device) docket.withheld = true
    if (message.type === 'declined') return this.#tell({ type: 'excused', audit, device })
    if (docket.asked.has(device)) docket.asked.set(device, true)
    const evidence = Object.fromEntries(
      Object.entries(message.evidence).map(([kind, text]) => [kind, evidenceFloats(text)]),
    )
    this.#tell({ type: 'answered', audit, device, evidence })
  }

  watch(devices: readonly string[]): void {
    for (const device of devices) {
      this.disputed.add(device)
      standingOf(this.state, device).watched = this.state.policy.watch
    }
  }

  isShut(device: string): boolean {
    return (this.state.standings.get(device)?.shutUntil ?? 0) > this.#world.clock.now
  }

  tick(): void {
    const { clock } = this.#world
    const { patienceMs } = this.state.policy
    const runs = this.#runs
    for (const [audit, docket] of this.#dockets) {
      const { openedAt } = this.state.audits.get(audit)!
      for (const event of attend(audit, docket, runs, { now: clock.now, openedAt, patienceMs })) this.#tell(event)
    }
    this.#tell({ type: 'tick' })
  }

  /** The process died: who is shut out stays so. */
  forget(): void {
    this.state.audits.clear()
    this.#dockets.clear()
  }

  /** Of the server as it is: one that died is replaced. */
  get #runs() {
    const { server } = this.#world
    return auditedRuns(server.state, (event) => server.soon(event), (id, message) => server.send(id, message)) // prettier-ignore
  }

  #tell(event: Told): void {
    const { now } = this.#world.clock
    for (const command of decideAudits(this.state, { ...event, now } as AuditEvent)) this.#carryOut(command)
  }

  #carryOut(command: AuditCommand): void {
    switch (command.type) {
      case 'testify': {
        const { claim, drawn } = this.#dockets.get(command.audit.id)!
        const { generation, step, nodeId, receipt: audit } = claim
        const { microbatch, shard } = drawn
        this.#world.server.send(nodeId, { type: 'show', generation, step, audit, microbatch, shard })
        return
      }
      case 'recompute':
        return this.#recompute(command.audit.id, command.juror)
      case 'convict': {
        const { device } = command.conviction
        const { watch, server } = this.#world
        demand(watch.liars.has(device), () => `an honest device is convicted: ${command.conviction.reason}`)
        if (this.convicted.includes(device)) return
        this.convicted.push(device)
        const { run: runId, toStep: step } = command.conviction
        const place: ClaimPlace = { runId, generation: 0, step, stage: 0 }
        server.soon({ type: 'convicted', ...place, device, error: ERROR })
        return
      }
      case 'closed':
        this.closed[command.outcome.verdict]++
        this.#settle(command.audit.id)
    }
  }

  #recompute(audit: string, juror: Party): void {
    const docket = this.#dockets.get(audit)!
    docket.asked.set(juror.device, false)
    findInputs(docket, this.#runs)
    this.#world.server.send(docket.nodes.get(juror.device)!, recomputeMessage(audit, docket))
  }

  #settle(receipt: string): void {
    const docket = this.#dockets.get(receipt)
    if (!docket) return
    this.#dockets.delete(receipt)
    const { runId, generation, step, stage } = docket.claim
    this.#world.server.soon({ type: 'claimSettled', runId, generation, step, stage, receipt })
  }
}

const partyOf = (device: string): Party => ({ device, wallet: null, class: CLASS })
