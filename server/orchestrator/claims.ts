/** Owns the claims of a step: when they are handed to the audits, how long a merge waits for those, and what a false one costs. */
import { microbatchCredit } from '../../src/model/credit.ts'
import { MAX_RECEIPT_MICROBATCHES } from '../../src/protocol/receipt.ts'
import { moveLeases } from './leases.ts'
import { sumWhenWhole } from './merge.ts'
import { synced } from './owners.ts'
import { beginAgain } from './recovery.ts'
import type { StageProgress } from './round.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'
import type { ClaimPlace, WorkClaim } from './workClaim.ts' // prettier-ignore

type Commands = OrchestratorCommand[]

/** It takes two recomputations that agree to contradict a claim: it is handed out once so many are free, or all there are. */
const JURY = 2
/** How long, in `failurePenaltyMs`, others come before who does not sign. */
const UNSIGNED = 30

/** Whether claims of the run are handed out at all: with local steps only whoever took a lane's earlier steps can compute a later one. */
export function isAudited({ timing }: OrchestratorState, { config }: Run): boolean {
  return timing.auditMs > 0 && config.sync === 'exact'
}

/** Hands out what was finished, as soon as there is somebody free to recompute it. */
export function offerClaims(state: OrchestratorState, run: Run, stage: number, commands: Commands): void {
  const progress = run.round!.stages[stage]!
  for (const id of progress.unoffered) {
    const claim = claimOf(state, run, stage, id)
    if (!claim) {
      progress.unoffered.delete(id)
      continue
    }
    const others = replicasOf(state, run, stage, claim.device)
    const free = others.filter((node) => isFree(progress, node.id))
    // Who is still at work may be all there will be.
    if (others.length === 0 || free.length < Math.min(JURY, others.length)) continue
    progress.unoffered.delete(id)
    progress.audits.set(claim.receipt, { nodeId: id, version: progress.work.get(id)!.version })
    const named = (nodes: FleetNode[]) => nodes.map(({ id: nodeId, deviceId: device }) => ({ nodeId, device }))
    const reserves = named(others.filter((node) => !isFree(progress, node.id)))
    commands.push({ type: 'claimed', runId: run.id, claim, replicas: named(free), reserves })
  }
}

function isFree({ work }: StageProgress, id: string): boolean {
  const own = work.get(id)
  return !own || own.finished === own.version
}

/** Who else of the stage has the weights that the claim was made with. */
function replicasOf(state: OrchestratorState, run: Run, stage: number, but: string): FleetNode[] {
  const { work, revoked } = run.round!.stages[stage]!
  return synced(state, run, stage).filter(
    ({ id, deviceId, ready }) => deviceId !== but && !revoked.has(id) && (work.has(id) || ready === run.step),
  )
}

/**
 * Where claims are audited nobody gets around that by not signing: such work is done again by others, as long as there are
 * any, and they come first for a while. @returns whether its leases moved
 */
export function redoUnsigned(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  now: number,
  commands: Commands,
): boolean {
  const { work, receipts } = run.round!.stages[node.stage]!
  const { version, microbatches } = work.get(node.id)!
  const book = receipts.get(node.id)
  const signed =
    book?.version === version && !book.refused && [...microbatches].every((place) => book.entries.has(place))
  if (signed || moveLeases(state, run, node.stage, node.id, 'failed', now, commands) === 0) return false
  node.penaltyUntil = Math.max(node.penaltyUntil, now + UNSIGNED * state.timing.failurePenaltyMs)
  const text = `A volunteer of stage ${node.stage + 1} did not sign for its work; others do it again.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  return true
}

/** What a node finished and signed for in one receipt, whole; null where there is no such thing. */
function claimOf(state: OrchestratorState, run: Run, stage: number, nodeId: string): WorkClaim | null {
  const { id: runId, generation, config, round } = run
  const { first, step, stages } = round!
  const { work, receipts } = stages[stage]!
  const own = work.get(nodeId)
  const book = receipts.get(nodeId)
  if (!own || own.finished !== own.version || book?.version !== own.version || book.refused) return null
  const [receipt, ...more] = book.receipts
  const places = [...own.microbatches].sort((a, b) => a - b)
  const whole = receipt && more.length === 0 && places.every((place) => book.entries.has(place))
  if (!whole || book.shares.length === 0 || places.length > MAX_RECEIPT_MICROBATCHES) return null
  const losses = new Map(own.losses.map(([microbatch, sum, tokens]) => [microbatch, sum / tokens]))
  const neighbours = new Set<string>()
  for (const other of [stage - 1, stage + 1]) {
    const { owner, work: theirs } = stages[other] ?? { owner: [], work: new Map<string, { device: string }>() }
    for (const place of places) {
      const { up, down } = book.entries.get(place)!
      for (const id of [owner[place], other < stage ? up : down]) {
        const device = id ? (theirs.get(id)?.device ?? state.nodes.get(id)?.deviceId) : undefined
        if (device) neighbours.add(device)
      }
    }
  }
  return {
    ...{ runId, generation, step, stage, nodeId },
    device: own.device,
    receipt: receipt.hash,
    entries: places.map((place) => book.entries.get(place)!),
    shares: book.shares,
    losses: stage === config.stages - 1 ? places.map((place) => losses.get(first + place)!) : [],
    credit: microbatchCredit(config, stage) * BigInt(places.length),
    neighbours: [...neighbours],
    codec: config.codec,
  }
}

/** Whether the merge of a stage whose leases are all finished still waits for audits of them. */
export function awaitsAudits(
  state: OrchestratorState,
  run: Run,
  stage: number,
  now: number,
  commands: Commands,
): boolean {
  const progress = run.round!.stages[stage]!
  const { audits, work } = progress
  // What was claimed of leases that changed since is in no sum.
  for (const [receipt, { nodeId, version }] of audits) if (work.get(nodeId)?.version !== version) audits.delete(receipt)
  if (audits.size === 0) return false
  progress.wholeAt ??= now
  if (now - progress.wholeAt < state.timing.auditMs) return true
  const open = audits.size === 1 ? 'An audit' : `${audits.size} audits`
  const text = `${open} in stage ${stage + 1} took too long for step ${run.round!.step}, which goes on without the outcome.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  audits.clear()
  return false
}

export function onClaimSettled(
  state: OrchestratorState,
  { receipt, ...place }: ClaimPlace & { receipt: string },
  now: number,
  commands: Commands,
): void {
  const run = claimedRun(state, place)
  if (!run?.round!.stages[place.stage]?.audits.delete(receipt)) return
  sumWhenWhole(state, run, place.stage, now, commands)
}

/** The run whose round under way the claim is of. */
export function claimedRun({ runs }: OrchestratorState, { runId, generation, step }: ClaimPlace): Run | null {
  const run = runs.get(runId)
  return run?.generation === generation && run.round?.step === step && run.round.mode === 'train' ? run : null
}

/**
 * What a convicted device sent to others is in their work as well, and nobody can tell how far: a step that it has part in
 * begins again without it, unless it is applied already.
 */
export function voidSteps(state: OrchestratorState, device: string, now: number, commands: Commands): void {
  for (const run of [...state.runs.values()]) {
    let leases = 0
    run.round?.stages.forEach(({ work }) => {
      for (const of of work.values()) if (of.device === device) leases += of.microbatches.size
    })
    if (leases === 0) continue
    const text = 'An audit found the work of a volunteer false; it is shut out.'
    if (!beginAgain(state, run, text, now, commands)) continue
    run.recovered += leases
    commands.push({ type: 'recovered', runId: run.id, leases, cause: 'false' })
  }
}

/** Others compute what a device claimed; it sits out. */
export function redoWork(
  state: OrchestratorState,
  place: ClaimPlace & { device: string },
  now: number,
  commands: Commands,
): void {
  const run = claimedRun(state, place)
  if (!run) return
  for (const [id, { device }] of run.round!.stages[place.stage]?.work ?? []) {
    if (device !== place.device) continue
    if (moveLeases(state, run, place.stage, id, 'false', now, commands) === 0) continue
    const text = `An audit found the work of a volunteer of stage ${place.stage + 1} false; others do it again.`
    commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  }
}
