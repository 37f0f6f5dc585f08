/**
 * Owns what an audit does about somebody that it needs and that is gone or silent: whoever holds the same bytes is asked. Bytes
 * are believed by the digests that were signed for, whoever brings them.
 */
import type { ExhibitKind } from '../../../src/protocol/audit.ts'
import type { WorkClaim } from '../../orchestrator/types.ts'
import type { AuditEvent } from '../types.ts'
import { recomputeMessage } from './case.ts'
import type { Drawn } from './exhibits.ts'
import type { AuditedRuns } from './port.ts'

/** An audit under way, as far as it needs others. */
export interface Attended {
  readonly claim: WorkClaim
  readonly drawn: Drawn
  /** What has not been shown. */
  readonly awaited: Pick<ReadonlyMap<ExhibitKind, unknown>, 'size' | 'keys'>
  /** By device: the node of each replica that may be asked. */
  readonly nodes: ReadonlyMap<string, string>
  /** Devices that were asked, in that order, and whether they answered. */
  readonly asked: ReadonlyMap<string, boolean>
  /** Who was asked to show what it took of the claimant, for each kind. */
  readonly lenders: Map<ExhibitKind, Set<string>>
  /** By `activation MICROBATCH` and `gradient MICROBATCH`: who gives the input instead of who made it; null: nobody can. */
  readonly sources: Map<string, string | null>
  /** The claimant said that it cannot show what it made, or showed something else. */
  withheld: boolean
  /** When it was first seen that the step is over. */
  overSince: number | null
}

type Runs = Pick<AuditedRuns, 'isCurrent' | 'isUnderWay' | 'isHere' | 'takersOf' | 'holderOf' | 'send'>
type Found = { [T in 'withdrawn' | 'outlived' | 'excused']: Omit<Extract<AuditEvent, { type: T }>, 'now'> }
type Happened = Found[keyof Found]

/** What was said before a step ended may still be on its way for so long. */
const LAST_WORDS_MS = 500

/**
 * Looks whether those are here whom the audit needs, and asks others where they are not; to be called again and again.
 * @returns what the pure core has to hear
 */
export function attend(
  audit: string,
  open: Attended,
  runs: Runs,
  { now, openedAt, patienceMs }: { now: number; openedAt: number; patienceMs: number },
): Happened[] {
  const { claim, asked, nodes } = open
  const { runId, generation, nodeId } = claim
  if (!runs.isCurrent(runId, generation)) return [{ type: 'withdrawn', audit }]
  if (!runs.isUnderWay(claim)) {
    open.overSince ??= now
    return now - open.overSince < LAST_WORDS_MS ? [] : [{ type: 'outlived', audit }]
  }
  if (open.withheld || now - openedAt >= patienceMs || !runs.isHere(nodeId, runId)) askLenders(audit, open, runs)
  const pending = [...asked].flatMap(([device, answered]) => (answered ? [] : [device]))
  if (findInputs(open, runs)) for (const device of pending) runs.send(nodes.get(device)!, recomputeMessage(audit, open))
  return pending.flatMap((device): Happened[] =>
    runs.isHere(nodes.get(device)!, runId) ? [] : [{ type: 'excused', audit, device }],
  )
}

/**
 * Asks who took what the claimant made to show it, one at a time for each kind: what a claimant that crashes, or says that it
 * cannot, had given to others is looked at all the same.
 */
export function askLenders(
  audit: string,
  { claim, drawn, awaited, lenders }: Attended,
  runs: Pick<Runs, 'takersOf' | 'send'>,
): void {
  if (awaited.size === 0) return
  const { generation, step, nodeId: maker } = claim
  const { microbatch, shard } = drawn
  const takers = runs.takersOf(claim, drawn)
  for (const kind of awaited.keys()) {
    const asked = lenders.get(kind) ?? new Set()
    const next = takers.find((taker) => taker.kind === kind && taker.nodeId !== maker && !asked.has(taker.nodeId))
    if (!next) continue
    lenders.set(kind, asked.add(next.nodeId))
    runs.send(next.nodeId, { type: 'showTaken', generation, step, audit, kind, maker, microbatch, shard })
  }
}

/** Looks where the inputs of the claim are now. @returns whether jurors have to ask others than before */
export function findInputs({ claim, sources }: Attended, runs: Pick<Runs, 'holderOf'>): boolean {
  let moved = false
  const look = (direction: 'activation' | 'gradient', microbatch: number, maker: string | null) => {
    if (maker === null) return
    const key = `${direction} ${microbatch}`
    const holder = runs.holderOf(claim, microbatch, direction)
    if (holder === (sources.has(key) ? sources.get(key) : maker)) return
    sources.set(key, holder)
    moved ||= holder !== null
  }
  for (const { microbatch, up, down } of claim.entries) {
    look('activation', microbatch, up)
    look('gradient', microbatch, down)
  }
  return moved
}
