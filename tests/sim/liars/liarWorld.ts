/**
 * Owns the world of liars: nodes that claim work step after step, some of them falsely, before the audits that ship. Who
 * claims what, who is drawn and who judges is made up from a seed; every tensor they are judged by was computed by a stage.
 */
import type { SketchSeed } from '../../../src/audit/sketch.ts'
import type { CodecName } from '../../../src/protocol/runConfig.ts'
import { decideAudits, initialAudits, standingOf } from '../../../server/audits/audits.ts'
import type { AuditPolicy } from '../../../server/audits/policy.ts'
import type { Audit, AuditCommand, AuditEvent, Evidence, Party } from '../../../server/audits/types.ts'
import { LIES, type Lie } from './lies.ts'
import type { Character, Witnesses } from './witnesses.ts'

export interface LiarOptions {
  readonly nodes: number
  /** Share of the nodes that lie in every claim, from their first one on, and as jurors too. */
  readonly liars: number
  readonly steps: number
  readonly seed: number
  readonly policy: Partial<AuditPolicy>
  /** Of the run; null draws one for each claim. */
  readonly codec: CodecName | null
  /** Audits that every device passed before the first step: 0 for newcomers. */
  readonly record: number
}

export const LIAR_WORLD: LiarOptions = {
  ...{ nodes: 120, liars: 0.1, steps: 200, seed: 1, policy: {}, codec: 'f16', record: 0 },
}

export interface Fate {
  readonly lie: Lie | null
  /** Claims made, and recomputations that they were given. */
  claims: number
  recomputed: number
  /** Of its first conviction; null: never. */
  convictedAt: number | null
}

export interface LiarOutcome {
  readonly fates: readonly Fate[]
  readonly audits: number
  readonly f1: number
  readonly honestConvicted: number
  /** Microbatches recomputed over microbatches claimed: in the whole time, and in its last quarter. */
  readonly auditShare: number
  readonly steadyShare: number
}

interface Node extends Character {
  readonly party: Party
  readonly stage: number
  readonly fate: Fate
}

/** Seeds of sketches are drawn from a pool, so that evidence can be kept. */
const POOL: readonly SketchSeed[] = [0, 1, 2, 3].map(
  (i) => [0x51ed270b * (i + 1), 0xb492b66f ^ (i * 0x9e3779b9)] as const,
)
const STEP_MS = 10_000
/** Owners stand in pairs; each pair owns one shard of its stage. */
const OWNERS = 2

export function runLiarWorld(witnesses: Witnesses, options: LiarOptions): LiarOutcome {
  const random = mulberry32(options.seed)
  const state = initialAudits(options.policy)
  const nodes = population(witnesses, options, random)
  for (const { party } of nodes) standingOf(state, party.device).passed = options.record
  const byDevice = new Map(nodes.map((node) => [node.party.device, node]))
  const claims = new Map<string, { point: number; microbatch: number; codec: CodecName }>()
  const lateFrom = Math.floor(options.steps * 0.75)
  const count = { audits: 0, claimed: 0, recomputed: 0, lateClaimed: 0, lateRecomputed: 0 }
  let [step, now, receipts] = [0, 0, 0]

  const evidenceOf = (node: Node, audit: Audit): Evidence => {
    const { point, microbatch, codec } = claims.get(audit.id)!
    return audit.of === 'merge'
      ? witnesses.update(node, node.stage, point, audit.seed)
      : witnesses.work(node, node.stage, point, microbatch, codec, audit.seed)
  }
  const tell = (event: AuditEvent): void => {
    for (const command of decideAudits(state, event)) carryOut(command)
  }
  const carryOut = (command: AuditCommand): void => {
    switch (command.type) {
      case 'testify': {
        count.audits++
        const { audit } = command
        const accused = audit.accused.map(({ device }) => byDevice.get(device)!)
        // Two owners are needed for a false sum; one alone would be seen at once, and does as it should.
        const author = audit.of === 'work' || collude(accused) ? accused[0]! : { ...accused[0]!, lie: null }
        tell({ type: 'testified', now, audit: audit.id, evidence: evidenceOf(author, audit) })
        return
      }
      case 'recompute': {
        const { audit, juror } = command
        if (audit.of === 'work') {
          count.recomputed++
          byDevice.get(audit.accused[0].device)!.fate.recomputed++
          if (step >= lateFrom) count.lateRecomputed++
        }
        const { device } = juror
        tell({ type: 'answered', now, audit: audit.id, device, evidence: evidenceOf(byDevice.get(device)!, audit) })
        return
      }
      case 'convict': {
        const { fate } = byDevice.get(command.conviction.device)!
        fate.convictedAt ??= step
      }
    }
  }
  const draw = () => ({ whether: random(), who: random(), seed: POOL[Math.floor(random() * POOL.length)]! })

  for (step = 1; step <= options.steps; step++) {
    now = step * STEP_MS
    const point = Math.floor(((step - 1) / options.steps) * witnesses.pointCount)
    const present = nodes.filter(({ party }) => standingOf(state, party.device).shutUntil <= now)
    for (let stage = 0; stage < witnesses.stageCount; stage++) {
      const replicas = present.filter((node) => node.stage === stage)
      const parties = replicas.map(({ party }) => party)
      for (const node of replicas) {
        const microbatch = Math.floor(random() * witnesses.microbatchCount)
        const codec = options.codec ?? (['f32', 'f16', 'int8'] as const)[Math.floor(random() * 3)]!
        const receipt = `receipt ${++receipts}`
        claims.set(receipt, { point, microbatch, codec })
        node.fate.claims++
        count.claimed++
        if (step >= lateFrom) count.lateClaimed++
        // The cheap checks are not what is measured here: nothing is seen at a glance.
        const claim = {
          ...{ run: 'run', generation: 1, step, stage, receipt, claimant: node.party, neighbours: [] },
          ...{ microbatches: [microbatch], codec, credit: 1_000_000n, glances: [] },
        }
        tell({ type: 'claimed', now, claim, draw: draw(), replicas: parties })
      }
      for (let shard = 0; OWNERS * (shard + 1) <= replicas.length; shard++) {
        const owners = parties.slice(OWNERS * shard, OWNERS * (shard + 1))
        const claim = { run: 'run', generation: 1, step, stage, shard, owners, agreed: true }
        claims.set(`run 1 ${step} ${stage} ${shard}`, { point, microbatch: 0, codec: 'f32' })
        tell({ type: 'merged', now, claim, draw: draw(), replicas: parties })
      }
      claims.clear()
    }
  }
  const fates = nodes.map(({ fate }) => fate)
  return { fates, audits: count.audits, ...scores(fates), ...shares(count) }
}

const COLLUDING: Lie = 'colluding owners'
const collude = (owners: readonly Character[]) => owners.every(({ lie }) => lie === COLLUDING)

/** Stages in turn; the liars take the lies in turn, colluders two by two at one stage and at one shard. */
function population(witnesses: Witnesses, { nodes, liars }: LiarOptions, random: () => number): Node[] {
  const { stageCount, kernelCount } = witnesses
  const wanted = Math.round(nodes * liars)
  const cast: { stage: number; lie: Lie | null }[] = []
  for (let i = 0; cast.length < wanted; i++) {
    const lie = LIES[i % LIES.length]!
    const stage = (i + Math.floor(i / LIES.length)) % stageCount
    cast.push({ stage, lie })
    if (lie === COLLUDING) cast.push({ stage, lie })
  }
  const taken = (stage: number) => cast.filter((one) => one.stage === stage).length
  for (let stage = 0; cast.length < nodes; stage = (stage + 1) % stageCount)
    if (taken(stage) < Math.ceil(nodes / stageCount)) cast.push({ stage, lie: null })
  // Colluders come first: pairs of owners follow the order of the replicas.
  const order = cast.toSorted((a, b) => Number(b.lie === COLLUDING) - Number(a.lie === COLLUDING))
  return order.map(({ stage, lie }, i) => {
    const character = {
      kernels: Math.floor(random() * kernelCount),
      rounding: random() < 0.5 ? ('nearest' as const) : ('down' as const),
      lie,
    }
    const party = { device: i.toString(16).padStart(64, '0'), wallet: null, class: witnesses.classOf(character) }
    return { ...character, party, stage, fate: { lie, claims: 0, recomputed: 0, convictedAt: null } }
  })
}

function scores(fates: readonly Fate[]): { f1: number; honestConvicted: number } {
  const convicted = fates.filter(({ convictedAt }) => convictedAt !== null)
  const right = convicted.filter(({ lie }) => lie !== null).length
  const liars = fates.filter(({ lie }) => lie !== null).length
  return { f1: liars ? (2 * right) / (convicted.length + liars) : 1, honestConvicted: convicted.length - right }
}

function shares(count: { claimed: number; recomputed: number; lateClaimed: number; lateRecomputed: number }) {
  return { auditShare: count.recomputed / count.claimed, steadyShare: count.lateRecomputed / count.lateClaimed }
}

/** Values in [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
