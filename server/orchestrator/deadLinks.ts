/** Owns what becomes of nodes that are heard and cannot reach each other: who of them the step does without. */
import { relieve } from './departures.ts'
import { failGeneration } from './generations.ts'
import { WAITING_HOLDS_MS } from './stalls.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** In `linkMs`: how long a link that nobody can do without may be dead before what came after the checkpoint is given up for it. */
const LINKS_LOST = 3

/**
 * Two nodes that are both heard and yet wait for each other have no link that works: one of them leaves the step, the
 * one whose stage can spare it. Where neither stage can, the run goes back to its checkpoint, and that is put off for as long as
 * a link may come back in, unless nothing came after the checkpoint.
 */
export function relieveDeadLinks(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { linkMs } = state.timing
  const round = run.round!
  if (now - round.movedAt < linkMs) return
  const isPart = (node: FleetNode | undefined): node is FleetNode =>
    node?.runId === run.id && !node.suspect && now - node.waitingAt < WAITING_HOLDS_MS
  for (const [stage, { pending }] of round.stages.entries()) {
    for (const id of pending) {
      const node = state.nodes.get(id)
      if (!isPart(node)) continue
      const other = node.waitingOn
        .map((peer) => state.nodes.get(peer))
        .filter(isPart)
        .find((peer) => peer.waitingOn.includes(id) && now - couldReachSince(run, node, peer) >= linkMs)
      if (!other) continue
      const why = `cannot reach a volunteer of stage ${stage + 1}`
      // The end that had such links before is more likely at fault.
      const [worse, better] = node.deadLinks > other.deadLinks ? [node, other] : [other, node]
      const isLost = run.step === run.checkpoint.step || now - couldReachSince(run, node, other) >= LINKS_LOST * linkMs
      const relieved = relieve(state, run, worse, why, now, commands) || relieve(state, run, better, why, now, commands)
      if (!relieved && !isLost) continue
      node.deadLinks += 1
      other.deadLinks += 1
      if (relieved) {
        round.movedAt = now
        return
      }
      // Neither stage has anybody else: one of the two has to sit elsewhere.
      worse.penaltyUntil = now + state.timing.failurePenaltyMs * Math.max(1, worse.deadLinks - better.deadLinks)
      run.reservations.delete(node.deviceId)
      run.reservations.delete(other.deviceId)
      const text = `Two volunteers of stages ${stage + 1} and ${other.stage + 1} cannot reach each other.`
      failGeneration(state, run, text, now, commands)
      return
    }
  }
  relieveTheUnreachable(state, run, now, commands)
}

/** Since when nothing but their link can keep two nodes: both are heard, and have the leases that they have now. */
function couldReachSince({ round }: Run, ...nodes: FleetNode[]): number {
  const times = nodes.map(({ id, stage, backAt }) => Math.max(backAt, round!.stages[stage]!.work.get(id)?.since ?? 0))
  return Math.max(round!.movedAt, ...times)
}

/** Of the nodes that the step waits for, the one that most links failed with: others of its stage do without it. */
function relieveTheUnreachable(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const round = run.round!
  const involved = new Set<FleetNode>()
  for (const { pending } of round.stages) {
    for (const id of pending) {
      const node = state.nodes.get(id)
      if (!node || now - node.waitingAt >= WAITING_HOLDS_MS) continue
      for (const other of [id, ...node.waitingOn]) {
        const end = state.nodes.get(other)
        if (end?.runId === run.id && !end.suspect && end.deadLinks > 0) involved.add(end)
      }
    }
  }
  for (const node of [...involved].sort((a, b) => b.deadLinks - a.deadLinks)) {
    if (!relieve(state, run, node, 'cannot be reached by those who need it', now, commands)) continue
    node.penaltyUntil = now + state.timing.failurePenaltyMs * Math.min(30, node.deadLinks)
    round.movedAt = now
    return
  }
}
