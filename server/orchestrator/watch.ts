/** Owns what the passing of time means: silence, slowness, links that do not open, work that does not move. */
import type { ServerMessage } from '../../src/protocol/control.ts'
import { adopt } from './leases.ts'
import { synced } from './owners.ts'
import { beginAgain } from './recovery.ts'
import { dismiss, relieve, suspect } from './departures.ts'
import { balance, lend } from './membership.ts'
import { onCheckpointRefused, giveUpSaving } from './checkpoints.ts'
import { giveUpRecut } from './recutting.ts'
import { goOn } from './commit.ts'
import { giveUpHeirless } from './heirs.ts'
import { dropLaggards, replaceMute } from './laggards.ts'
import { onWaitingForLost } from './losses.ts'
import { sumWhenWhole } from './merge.ts'
import { relieveDeadLinks } from './deadLinks.ts'
import { watchPresumed, patience, unstick, WAITING_HOLDS_MS } from './stalls.ts'
import { settleLateTallies } from './tallies.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** A node that others wait for is asked for a sign of life after this much silence. */
const PING_AFTER_MS = 1000
/** Steps by which a standby may be behind. */
const STEPS_BEHIND = 4

export function onWaiting(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  on: readonly string[],
  now: number,
  commands: Commands,
): void {
  node.waitingAt = now
  node.waitingOn = on
  for (const id of on) {
    ping(state, id, now, commands)
    onWaitingForLost(state, run, id, now, commands)
  }
}

/** Asks for a sign of life where there was none for a moment; the mailbox tells when it does not come. */
export function ping(state: OrchestratorState, id: string, now: number, commands: Commands): void {
  const node = state.nodes.get(id)
  if (!node || node.suspect || now - Math.max(node.lastHeard, node.pingedAt) < PING_AFTER_MS) return
  node.pingedAt = now
  const message: ServerMessage = { type: 'ping' }
  commands.push({ type: 'send', nodeId: id, message })
}

/** @returns the nodes that were silent for so long that they are gone */
export function watchNodes(state: OrchestratorState, now: number, commands: Commands): FleetNode[] {
  const { evictMs, suspectMs, resumeMs } = state.timing
  const gone: FleetNode[] = []
  for (const node of state.nodes.values()) {
    const silent = now - node.lastHeard
    if (silent >= evictMs || (node.detachedAt !== null && now - node.detachedAt >= evictMs)) gone.push(node)
    else if (node.suspect) continue
    else if (node.detachedAt !== null && now - node.detachedAt >= resumeMs)
      suspect(state, node, 'silent', 'lost its connection', now, commands)
    else if (silent >= suspectMs)
      suspect(state, node, 'silent', `was silent for ${Math.round(silent / 1000)} s`, now, commands)
  }
  return gone
}

export function watchRun(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { stallMs, saveMs } = state.timing
  if (run.saving && now - run.saving.startedAt >= saveMs) {
    const text = `The checkpoint of step ${run.saving.step} took over ${Math.round(saveMs / 60_000)} minutes.`
    if (run.saving.publishing) {
      const error = { code: 'checkpoint.slow', message: text, remedy: 'Check the disk of the server.' }
      onCheckpointRefused(state, run.id, run.saving.step, error, now, commands)
    } else giveUpSaving(run, text, now, commands)
  }
  if (run.members.length === 0) return
  dismissIdlePreparers(state, run, now, commands)
  if (run.members.length === 0) return
  balance(state, run, now, commands)
  lend(state, run, now, commands)
  if (run.members.length === 0) return
  if (run.recut && now - run.lastProgress >= stallMs) giveUpRecut(run, 'it took too long.', commands)
  if (!run.round) {
    goOn(state, run, now, commands)
    if (run.round === null && run.evaluation === null && run.state !== 'preparing')
      describeWaiting(state, run, commands)
  } else watchRound(state, run, now, commands)
  const scored = run.evaluation !== null && run.evaluation.done >= run.evaluation.total
  // Who comes and goes meanwhile moves nothing: only the step's own work counts.
  const movedAt = run.round ? run.round.movedAt : run.lastProgress
  if (run.members.length > 0 && !scored && now - movedAt >= patience(run, stallMs)) unstick(state, run, now, commands)
}

/** Whoever makes no headway in loading and compiling gives its place to another. */
function dismissIdlePreparers(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { prepareMs, failurePenaltyMs } = state.timing
  for (const id of run.members.flat()) {
    const node = state.nodes.get(id)
    if (!node || node.ready !== null || now - node.lastProgress < prepareMs) continue
    const { generation } = run
    node.penaltyUntil = now + failurePenaltyMs
    node.troubles += 1
    commands.push({ type: 'send', nodeId: id, message: { type: 'release', generation, reason: 'no headway' } })
    const why = `it made no headway in preparing for ${Math.round(prepareMs / 1000)} s`
    if (!dismiss(state, run, node, 'failed', why, now, commands)) return
  }
}

function watchRound(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const round = run.round!
  noteBlame(state, run, now)
  for (const [stage, progress] of round.stages.entries()) {
    if (progress.orphans.length > 0 && isDeadlocked(state, run, stage)) {
      const text = `Everybody left in stage ${stage + 1} lost its part in step ${round.step}.`
      if (beginAgain(state, run, text, now, commands)) {
        run.brokenInARow += 1
        return
      }
    }
    if (adopt(state, run, stage, now, commands)) continue
    if (progress.pending.size === 0) {
      // Its audits may have taken too long.
      sumWhenWhole(state, run, stage, now, commands)
      continue
    }
    for (const id of [...progress.pending]) {
      const node = state.nodes.get(id)
      if (!node) continue
      // Nobody could take its leases when it fell silent; perhaps somebody can now.
      if (node.suspect) relieve(state, run, node, 'is still silent', now, commands)
      else if (isStraggler(state, run, stage, node, now)) {
        if (relieve(state, run, node, `is much slower than its stage at step ${round.step}`, now, commands)) {
          progress.slow += 1
          round.movedAt = now
        }
      }
      if (run.round !== round) return
    }
    sumWhenWhole(state, run, stage, now, commands)
  }
  for (let stage = 0; stage < round.stages.length; stage++) {
    settleLateTallies(state, run, stage, now, commands)
    if (run.round !== round) return
    dropLaggards(state, run, stage, now, commands)
    if (run.round !== round) return
    replaceMute(state, run, stage, now, commands)
    giveUpHeirless(state, run, stage, now, commands)
    if (run.round !== round) return
  }
  dismissTheLate(state, run, now, commands)
  if (run.round === round) watchPresumed(state, run, now, commands)
  if (run.round === round) relieveDeadLinks(state, run, now, commands)
}

/** A standby says after each step that it has followed; one that has not for several cannot be counted on. */
function dismissTheLate(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  for (const [stage, ids] of run.members.entries()) {
    for (const id of ids) {
      const node = state.nodes.get(id)
      if (!node || node.ready === null || node.suspect || run.step - node.ready <= STEPS_BEHIND) continue
      if (run.round!.stages[stage]!.work.has(id)) continue
      const { generation } = run
      node.penaltyUntil = now + state.timing.failurePenaltyMs
      commands.push({ type: 'send', nodeId: id, message: { type: 'release', generation, reason: 'too far behind' } })
      const why = `it is ${run.step - node.ready} steps behind`
      dismiss(state, run, node, 'failed', why, now, commands)
      return
    }
  }
}

/** Whom others wait for that does not wait itself: slow, or hung. */
function noteBlame(state: OrchestratorState, run: Run, now: number): void {
  const blamed = new Set<string>()
  for (const id of run.members.flat()) {
    const node = state.nodes.get(id)
    if (node && now - node.waitingAt < WAITING_HOLDS_MS) for (const other of node.waitingOn) blamed.add(other)
  }
  for (const id of run.members.flat()) {
    const node = state.nodes.get(id)
    if (!node) continue
    const waits = now - node.waitingAt < WAITING_HOLDS_MS
    if (!blamed.has(id) || waits) node.blamedSince = null
    else node.blamedSince ??= now
  }
}

/** Nobody can take what is left over: who is there was revoked in this step. A step that is begun again has room for all. */
function isDeadlocked(state: OrchestratorState, run: Run, stage: number): boolean {
  const nodes = synced(state, run, stage)
  return nodes.length > 0 && nodes.every(({ id }) => run.round!.stages[stage]!.revoked.has(id))
}

/**
 * Half of its stage finished long ago, and it does not itself wait for anybody; or others have waited for it alone for
 * longer than several of its microbatches take. Who took leases over has its own time for them. No more than a quarter of a
 * stage is called slow while the step gets on: then it is something else that is slow.
 */
function isStraggler(state: OrchestratorState, run: Run, stage: number, node: FleetNode, now: number): boolean {
  const { startedAt, stages, microbatches, movedAt } = run.round!
  const { stragglerMs } = state.timing
  const { halfAt, work, slow } = stages[stage]!
  const own = work.get(node.id)
  if (!own || now - node.waitingAt < WAITING_HOLDS_MS) return false
  const stuck = now - movedAt >= 2 * stragglerMs
  if (slow >= Math.max(1, Math.floor(work.size / 4)) && !stuck) return false
  const { blamedSince, busyMs } = node
  if (stuck && blamedSince !== null && now - blamedSince >= Math.max(stragglerMs, 4 * (busyMs ?? 0))) return true
  if (halfAt === null) return false
  const half = halfAt - startedAt
  const fair = (half * own.added * work.size) / microbatches
  const due = Math.max(halfAt, own.since + fair)
  return now >= due + Math.max(stragglerMs, 0.5 * half)
}

function describeWaiting(state: OrchestratorState, run: Run, commands: Commands): void {
  const empty = run.members.flatMap((ids, stage) =>
    ids.some((id) => state.nodes.get(id)?.ready !== null && !state.nodes.get(id)?.suspect) ? [] : [stage + 1],
  )
  if (empty.length === 0) return
  const text = `Stage ${empty.join(', ')} waits: its volunteers have fallen silent or still load.`
  if (run.detail === text) return
  run.detail = text
  commands.push({ type: 'runChanged', runId: run.id })
}
