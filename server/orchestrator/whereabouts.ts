/** Owns where the tensors of a claim are: who made what went in and who took what came out, and who of them is here. */
import type { ExhibitKind } from '../../src/protocol/audit.ts'
import { claimedRun } from './claims.ts'
import type { OrchestratorState } from './types.ts'
import type { WorkClaim } from './workClaim.ts'

/** Whether the node is in the run and was heard lately. */
export function isHeard({ nodes }: OrchestratorState, runId: string, nodeId: string): boolean {
  const node = nodes.get(nodeId)
  return node?.runId === runId && !node.suspect
}

/**
 * Who was given what the claimant made, and is heard: of each kind those who are likeliest to have it come first. Who takes part
 * in the merge comes after those whom nobody can ask to judge the claim.
 */
export function outputTakers(
  state: OrchestratorState,
  claim: WorkClaim,
  { microbatch, shard }: { readonly microbatch: number; readonly shard: number },
): { kind: ExhibitKind; nodeId: string }[] {
  const run = claimedRun(state, claim)
  const entry = claim.entries.find((candidate) => candidate.microbatch === microbatch)
  if (!run || !entry) return []
  const { first, stages } = run.round!
  const place = microbatch - first
  const of: Record<ExhibitKind, (string | null | undefined)[]> = {
    activation: entry.activationMade === null ? [] : [entry.down, stages[claim.stage + 1]?.owner[place]],
    gradient: entry.gradientMade === null ? [] : [entry.up, stages[claim.stage - 1]?.owner[place]],
    share: run.owners[claim.stage]![shard] ?? [],
  }
  return (Object.keys(of) as ExhibitKind[]).flatMap((kind) =>
    [...new Set(of[kind])].flatMap((nodeId) =>
      nodeId && nodeId !== claim.nodeId && isHeard(state, run.id, nodeId) ? [{ kind, nodeId }] : [],
    ),
  )
}

/**
 * Who can give an input of a claim: whoever made it; or made it again and signed for the same bytes; or the claimant, which
 * took it. The claimant's word alone is not believed: whoever made it has to have signed for these bytes.
 */
export function inputHolder(
  state: OrchestratorState,
  claim: WorkClaim,
  microbatch: number,
  direction: 'activation' | 'gradient',
): string | null {
  const run = claimedRun(state, claim)
  const entry = claim.entries.find((candidate) => candidate.microbatch === microbatch)
  const forward = direction === 'activation'
  const maker = forward ? entry?.up : entry?.down
  const taken = forward ? entry?.activationTaken : entry?.gradientTaken
  if (!run || !maker || !taken) return null
  if (isHeard(state, run.id, maker)) return maker
  const { first, stages } = run.round!
  const progress = stages[claim.stage + (forward ? -1 : 1)]
  const place = microbatch - first
  const owner = progress?.owner[place] ?? ''
  const signed = (nodeId: string) => {
    const book = progress?.receipts.get(nodeId)
    const made = book?.refused === null ? book.entries.get(place) : undefined
    return (forward ? made?.activationMade : made?.gradientMade) === taken
  }
  const again = signed(owner)
  if (again && isHeard(state, run.id, owner)) return owner
  return (again || signed(maker)) && isHeard(state, run.id, claim.nodeId) ? claim.nodeId : null
}
