/** Owns the life of a generation: a run is submitted, seated, started from a checkpoint, broken by a loss, and ends. */
import { shardCount } from '../../src/protocol/routing.ts'
import { describeShortage, isComplete, isRunnable, proposeSeats } from './formation.ts'
import { assign } from './membership.ts'
import { spreadOwners } from './owners.ts'
import { rest, shortfall } from './purse.ts'
import { recover } from './recovery.ts'
import type { OrchestratorCommand, OrchestratorState, Run, RunSubmission } from './types.ts'

/** Generations in a row that may fail without a commit before the run is called failed. */
const MAX_BROKEN_IN_A_ROW = 20
/** The pause between attempts stops growing at this many times `retryMs`. */
const LONGEST_RETRY = 60
/** Characters of a reason that the protocol lets through. */
const REASON_LENGTH = 300

export const PREPARING = 'Volunteers load weights and connect to each other.'

export function submit(
  state: OrchestratorState,
  submission: RunSubmission,
  now: number,
  commands: OrchestratorCommand[],
): void {
  if (state.runs.has(submission.id)) return
  const { recovering, reservations, purse, ...given } = submission
  const run: Run = {
    ...given,
    reservations: new Map(reservations),
    purse: purse && { ...purse },
    state: 'waiting',
    detail: 'Waiting for volunteers.',
    members: [],
    owners: [],
    holders: [],
    round: null,
    lanes: { pairings: [], remeasured: false },
    evaluation: null,
    saving: null,
    saveSoon: false,
    recoverUntil: null,
    recut: null,
    usualMs: null,
    restartMs: null,
    waitingSince: now,
    runnableSince: null,
    retryAt: now,
    lastProgress: now,
    brokenInARow: 0,
  }
  state.runs.set(run.id, run)
  state.lastGeneration = Math.max(state.lastGeneration, run.generation)
  // Its nodes may still hold what was committed after the checkpoint: they are waited for before anything is given up.
  if (recovering && run.generation > 0) run.recoverUntil = now + state.timing.recoveryMs
  else rollBackWhenDue(run, commands)
  commands.push({ type: 'runChanged', runId: run.id })
}

/** Starts a generation when its seats are full, or when every stage has had somebody for long enough. */
export function form(state: OrchestratorState, run: Run, now: number, commands: OrchestratorCommand[]): void {
  // A checkpoint that the store is reading back decides where the next generation begins.
  if (run.saving || now < run.retryAt) return
  if (run.recoverUntil !== null && !recover(state, run, now, commands)) return
  if (run.members.length > 0) return
  const short = shortfall(run)
  if (short !== null) return rest(run, short, commands)
  const seating = proposeSeats(state, run, now)
  const { seats } = seating
  if (isRunnable(seats)) {
    run.runnableSince ??= now
    if (isComplete(run, seats) || now - run.runnableSince >= state.timing.formationMs) {
      startGeneration(state, run, seats, now, commands)
      return
    }
  } else run.runnableSince = null
  const detail = describeShortage(run, seating)
  if (detail === run.detail) return
  run.detail = detail
  commands.push({ type: 'runChanged', runId: run.id })
}

/** Numbers a new generation: its number is durable before anybody hears it. */
export function nextGeneration(state: OrchestratorState, run: Run, now: number, commands: OrchestratorCommand[]): void {
  // Counted over all runs: a frame or a report of another run never passes for one of this generation.
  state.lastGeneration += 1
  run.generation = state.lastGeneration
  run.state = 'preparing'
  run.detail = PREPARING
  run.lastProgress = now
  run.waitingSince = now
  run.runnableSince = null
  run.recoverUntil = null
  const { stages } = run.config
  run.members = Array.from({ length: stages }, () => [])
  run.owners = Array.from({ length: stages }, () => [])
  run.holders = Array.from({ length: stages }, () =>
    Array.from({ length: shardCount(run.config) }, () => new Map<string, number>()),
  )
  commands.push({ type: 'runChanged', runId: run.id })
}

function startGeneration(
  state: OrchestratorState,
  run: Run,
  seats: readonly (readonly string[])[],
  now: number,
  commands: OrchestratorCommand[],
): void {
  nextGeneration(state, run, now, commands)
  const { checkpoint } = run
  seats.forEach((ids, stage) => {
    for (const id of ids) assign(run, state.nodes.get(id)!, stage, 'checkpoint', null, now, commands)
    run.owners[stage] = spreadOwners(run, ids)
  })
  const count = seats.flat().length
  const from = checkpoint.step > 0 ? ` from the checkpoint of step ${checkpoint.step}` : ''
  const who = count === 1 ? '1 volunteer takes its place' : `${count} volunteers take their places`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: `${who}${from}.` })
}

/**
 * Ends the generation because a stage, or the only copies of a shard, are gone: what follows the last checkpoint is void,
 * the members are freed and seated anew. A checkpoint that is already with the store still counts if the store keeps it.
 */
export function breakGeneration(
  state: OrchestratorState,
  run: Run,
  reason: string,
  now: number,
  commands: OrchestratorCommand[],
): void {
  if (run.members.length === 0) return
  const { saving } = run
  free(state, run, reason, commands)
  run.state = 'waiting'
  run.detail = reason
  run.waitingSince = now
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: reason })
  if (saving?.publishing) run.saving = saving
  else rollBackWhenDue(run, commands)
  commands.push({ type: 'runChanged', runId: run.id })
}

/**
 * Ends the generation because it cannot go on with everybody still there. Every attempt that fails makes the pause before
 * the next one longer, and a run that keeps failing without a commit is called failed instead of trying for ever.
 */
export function failGeneration(
  state: OrchestratorState,
  run: Run,
  reason: string,
  now: number,
  commands: OrchestratorCommand[],
): void {
  if (run.members.length === 0) return
  for (const nodeId of run.members.flat()) {
    const node = state.nodes.get(nodeId)
    if (node) node.troubles += 1
  }
  run.retryAt = now + state.timing.retryMs * Math.min(LONGEST_RETRY, 2 ** run.brokenInARow)
  run.brokenInARow += 1
  breakGeneration(state, run, reason, now, commands)
  if (run.brokenInARow <= MAX_BROKEN_IN_A_ROW) return
  end(state, run, 'failed', null, `${run.brokenInARow} attempts in a row broke off; the last: ${reason}`, commands)
}

export function cancel(state: OrchestratorState, runId: string, commands: OrchestratorCommand[]): void {
  const run = state.runs.get(runId)
  if (run) end(state, run, 'cancelled', null, `Cancelled after step ${run.step}.`, commands)
}

export function end(
  state: OrchestratorState,
  run: Run,
  how: 'finished' | 'cancelled' | 'failed',
  valLoss: number | null,
  detail: string,
  commands: OrchestratorCommand[],
): void {
  free(state, run, detail, commands)
  run.state = how
  run.detail = detail
  state.runs.delete(run.id)
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: detail })
  commands.push({ type: 'runEnded', runId: run.id, state: how, valLoss })
}

function free(state: OrchestratorState, run: Run, reason: string, commands: OrchestratorCommand[]): void {
  const { generation } = run
  const message = { type: 'release', generation, reason: reason.slice(0, REASON_LENGTH) } as const
  for (const nodeId of run.members.flat()) {
    const node = state.nodes.get(nodeId)
    if (node?.runId !== run.id) continue
    node.runId = null
    node.stage = -1
    node.ready = null
    commands.push({ type: 'send', nodeId, message })
  }
  run.members = []
  run.owners = []
  run.holders = []
  run.round = null
  run.evaluation = null
  run.saving = null
  run.saveSoon = false
  run.recut = null
  run.unapplied = null
}

/** Goes back to the last checkpoint, if anything was committed after it. */
export function rollBackWhenDue(run: Run, commands: OrchestratorCommand[]): void {
  const { id: runId, step } = run
  run.unapplied = null
  // A checkpoint that was published while the server went down: its weights are the truth.
  if (step <= run.checkpoint.step) {
    run.step = run.checkpoint.step
    return
  }
  run.step = run.checkpoint.step
  const text = `Back from step ${step} to the checkpoint of step ${run.step}.`
  commands.push({ type: 'tell', runId, step: run.step, text })
  commands.push({ type: 'rollBack', runId, toStep: run.step })
}
