/** Owns one audit under way: what the server knows of it beside the pure core, and what it is told in messages. */
import { randomBytes } from 'node:crypto'
import { evidenceFloats } from '../../../src/audit/evidence.ts'
import type { EvidenceMessage, ExhibitKind } from '../../../src/protocol/audit.ts'
import type { ServerMessage } from '../../../src/protocol/control.ts'
import type { RunConfig } from '../../../src/protocol/runConfig.ts'
import type { WorkClaim } from '../../orchestrator/types.ts'
import type { AuditDraw, Claim, Evidence, Party } from '../types.ts'
import type { Attended } from './absence.ts'
import type { Exhibit } from './exhibits.ts'

export interface Case extends Attended {
  readonly config: RunConfig
  /** What has not been shown. */
  readonly awaited: Map<ExhibitKind, Exhibit>
  readonly shown: Map<Exhibit['tensor'], Float32Array>
  /** Devices that were asked, in that order, and whether they answered. */
  readonly asked: Map<string, boolean>
  /** The run was told that nothing waits for it. */
  released: boolean
}

/** Drawn after the claim was made, by what nobody can know before. */
export function drawAudit(): AuditDraw {
  const bytes = randomBytes(16)
  const unit = (at: number) => bytes.readUInt32LE(at) / 2 ** 32
  return { whether: unit(0), who: unit(4), seed: [bytes.readUInt32LE(8), bytes.readUInt32LE(12)] }
}

/** As the pure core has it. */
export function coreClaim(claim: WorkClaim, claimant: Party): Claim {
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

/** What a juror is asked: to compute what the claimant did, of the same inputs, without what it made of them. */
export function recomputeMessage(
  audit: string,
  { claim, drawn, sources }: Pick<Attended, 'claim' | 'drawn' | 'sources'>,
): ServerMessage {
  const { generation, step } = claim
  const entries = claim.entries.map((entry) => ({
    ...entry,
    up: entry.up && (sources.get(`activation ${entry.microbatch}`) ?? entry.up),
    down: entry.down && (sources.get(`gradient ${entry.microbatch}`) ?? entry.down),
  }))
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
export function evidenceOf(message: EvidenceMessage): Evidence | null {
  try {
    return Object.fromEntries(
      Object.entries(message).flatMap(([kind, text]) => (text === undefined ? [] : [[kind, evidenceFloats(text)]])),
    )
  } catch {
    return null
  }
}

/** Why an audit was left open. */
export function openWords({ awaited, asked, lenders, sources }: Case): string {
  if (awaited.size > 0) {
    const nobodyElse = [...awaited.keys()].some((kind) => lenders.has(kind)) ? ', and nobody who had taken it did' : ''
    return `The claimant did not show in time what it had signed for, or was given other work${nobodyElse}.`
  }
  if ([...asked.values()].some((answered) => answered)) return 'The recomputations did not settle it.'
  if ([...sources.values()].includes(null))
    return 'An input of it is gone with the volunteer that made it, and nobody who is to be believed has it.'
  return 'Nobody recomputed it in time.'
}
