/** Owns the life of a generation: a run is submitted, seated, broken by a loss, seated again, and ends. */
import type { Members } from '../../src/protocol/control.ts'
import { candidates, describeShortage, isComplete, isRunnable, seat } from './formation.ts'
import type { OrchestratorCommand, OrchestratorState, Run, RunSubmission } from './types.ts'

/** Generations in a row that may break without a commit before the run is called failed. */
const MAX_BROKEN_IN_A_ROW = 20

export function submit(
  state: OrchestratorState,
  submission: RunSubmission,
  now: number,
  commands: OrchestratorCommand[],
): void {
  if (state.runs.has(submission.id)) return
  const run: Run = {
    ...submission,
    state: 'waiting',
    detail: 'Waiting for volunteers.',
    members: [],
    ready: new Set(),
    progress: null,
    evaluation: null,
    saving: null,
    waitingSince: now,
    lastProgress: now,
    brokenInARow: 0,
    lastSeats: new Map(),
  }
  state.runs.set(run.id, run)
  state.lastGeneration = Math.max(state.lastGeneration, run.generation)
  if (run.step > run.checkpoint.step) rollBack(run, commands)
  commands.push({ type: 'runChanged', runId: run.id })
}

/** Starts a generation when its seats are full, or when every stage has somebody and the wait is over. */
export function form(state: OrchestratorState, run: Run, now: number, commands: OrchestratorCommand[]): void {
  const pool = candidates(state, run, now)
  const seats = seat(run, pool)
  const waited = now - run.waitingSince >= state.timing.formationMs
  if (!isRunnable(seats) || !(isComplete(run, seats) || waited)) {
    const detail = describeShortage(run, seats, pool)
    if (detail !== run.detail) {
      run.detail = detail
      commands.push({ type: 'runChanged', runId: run.id })
    }
    return
  }
  startGeneration(state, run, seats, now, commands)
}

function startGeneration(
  state: OrchestratorState,
  run: Run,
  members: Members,
  now: number,
  commands: OrchestratorCommand[],
): void {
  state.lastGeneration += 1
  run.generation = state.lastGeneration
  run.members = members
  run.state = 'preparing'
  run.detail = 'Volunteers load weights and connect to each other.'
  run.ready.clear()
  run.lastProgress = now
  run.lastSeats = new Map(members.flatMap((ids, stage) => ids.map((id) => [id, stage] as const)))
  const { id: runId, name: runName, generation, config, dataset, checkpoint } = run
  members.forEach((ids, stage) =>
    ids.forEach((nodeId, replica) => {
      state.nodes.get(nodeId)!.runId = run.id
      commands.push({
        type: 'send',
        nodeId,
        message: {
          type: 'assign',
          assignment: {
            runId,
            runName,
            generation,
            stage,
            replica,
            config,
            members,
            dataset,
            checkpoint: { step: checkpoint.step, stage: checkpoint.stages[stage]! },
          },
        },
      })
    }),
  )
  const count = members.flat().length
  const from = checkpoint.step > 0 ? ` from the checkpoint of step ${checkpoint.step}` : ''
  commands.push({ type: 'runChanged', runId })
  commands.push({ type: 'tell', runId, step: run.step, text: `${count} volunteers take their places${from}.` })
}

/**
 * Ends the generation: everything since the last checkpoint is void, the members are freed and seated anew.
 * A run that keeps breaking without a commit is called failed instead of trying for ever.
 */
export function breakGeneration(
  state: OrchestratorState,
  run: Run,
  reason: string,
  now: number,
  commands: OrchestratorCommand[],
): void {
  if (run.members.length === 0) return
  free(state, run, reason, commands)
  run.state = 'waiting'
  run.detail = reason
  run.waitingSince = now
  run.brokenInARow += 1
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: reason })
  if (run.step > run.checkpoint.step) rollBack(run, commands)
  if (run.brokenInARow > MAX_BROKEN_IN_A_ROW) {
    end(state, run, 'failed', null, `${MAX_BROKEN_IN_A_ROW} attempts in a row broke off; the last: ${reason}`, commands)
    return
  }
  commands.push({ type: 'runChanged', runId: run.id })
}

/** Frees the members at a checkpoint, where nothing is lost, so that a standby can be seated. */
export function reseat(state: OrchestratorState, run: Run, now: number, commands: OrchestratorCommand[]): void {
  free(state, run, 'a volunteer joins at this checkpoint', commands)
  run.state = 'waiting'
  run.waitingSince = now
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
  for (const nodeId of run.members.flat()) {
    const node = state.nodes.get(nodeId)
    if (node?.runId !== run.id) continue
    node.runId = null
    commands.push({ type: 'send', nodeId, message: { type: 'release', generation: run.generation, reason } })
  }
  run.members = []
  run.ready.clear()
  run.progress = null
  run.evaluation = null
  run.saving = null
}

function rollBack(run: Run, commands: OrchestratorCommand[]): void {
  const { id: runId, step } = run
  run.step = run.checkpoint.step
  const text = `Back from step ${step} to the checkpoint of step ${run.step}.`
  commands.push({ type: 'tell', runId, step: run.step, text })
  commands.push({ type: 'rollBack', runId, toStep: run.step })
}
