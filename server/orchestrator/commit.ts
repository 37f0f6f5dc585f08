/** Owns the moment a step becomes final, and the start of whatever comes after it. */
import { stepMicrobatches } from '../../src/protocol/lanes.ts'
import { saveWhenDue } from './checkpoints.ts'
import { isAudited } from './claims.ts'
import { breakGeneration, end } from './generations.ts'
import { announceCredit, bookCredit } from './credit.ts'
import { newRound, sendStep } from './leases.ts'
import { chooseOwners, dropOpen, synced } from './owners.ts'
import { pause, shortfall } from './purse.ts'
import { recutWhenPays } from './recutting.ts'
import type { Round } from './round.ts'
import type { OrchestratorCommand, OrchestratorState, Run } from './types.ts'

type Commands = OrchestratorCommand[]

/** Microbatches of one round of scoring: bounds what can queue up at a stage, at the price of one drained pipeline each. */
const EVALUATION_ROUND = 64

/** Every shard of every stage is updated and compared: the step is final. */
export function commit(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { apply, step, startedAt, stages } = run.round!
  const metric = { ...apply!.metric, durationMs: now - startedAt, at: now }
  run.owners.forEach((shards, stage) =>
    shards.forEach((owners, shard) => {
      const { compared } = stages[stage]!
      const hold = owners.slice(0, compared[shard] ? 2 : 1)
      run.holders[stage]![shard] = new Map(hold.map((id) => [id, step]))
    }),
  )
  const losses = isAudited(state, run) ? routeLosses(run.round!) : []
  run.step = step
  run.round = null
  run.unapplied = null
  run.lastProgress = now
  run.usualMs = run.usualMs === null ? metric.durationMs : (run.usualMs + metric.durationMs) / 2
  run.brokenInARow = 0
  for (const id of run.members.flat()) {
    const node = state.nodes.get(id)
    if (!node) continue
    node.troubles = 0
    node.gpuFailures.delete(run.id)
  }
  const { work, attested, unattested, disputes } = apply!.settlement
  const claims = { attested, unattested, disputed: disputes.length }
  bookCredit(run, work)
  commands.push({ type: 'commitStep', runId: run.id, metric, work, claims })
  announceCredit(state, run, step, apply!.settlement, commands)
  const devices = [...new Set(disputes.flatMap(({ maker, taker }) => [maker, taker]))]
  if (devices.length > 0) commands.push({ type: 'disputed', runId: run.id, step, devices })
  if (losses.length > 0) commands.push({ type: 'scored', runId: run.id, step, losses })
  saveWhenDue(run, now, commands)
  recutWhenPays(state, run, metric.durationMs, commands)
  goOn(state, run, now, commands)
}

/** Whose work led to which loss. A device that is gone since is named by what its leases said. */
function routeLosses({ first, stages }: Round): { devices: string[]; loss: number }[] {
  return [...stages.at(-1)!.work.values()].flatMap(({ losses }) =>
    losses.map(([microbatch, sum, tokens]) => ({
      devices: stages.flatMap(({ owner, work }) => work.get(owner[microbatch - first]!)?.device ?? []),
      loss: sum / tokens,
    })),
  )
}

/** Goes on where a generation stands: the next step, or the scoring once all are done. */
export function goOn(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  // A run that is about to be cut anew goes on from there.
  if (run.round || run.members.length === 0 || run.recut) return
  if (!mayStart(state, run, now)) return
  for (let stage = 0; stage < run.config.stages; stage++) {
    const owners = chooseOwners(state, run, stage, now)
    if (!owners) {
      const text = `Both copies of a part of the optimizer's state in stage ${stage + 1} are gone.`
      breakGeneration(state, run, text, now, commands)
      return
    }
    run.owners[stage] = owners
  }
  dropOpen(state, run)
  const short = shortfall(run)
  if (short !== null) pause(state, run, short, now, commands)
  else if (run.step < run.config.steps) startStep(state, run, now, commands)
  else startScoring(state, run, now, commands)
}

/** A generation begins when everybody is ready, or when every stage has had somebody for long enough. */
function mayStart(state: OrchestratorState, run: Run, now: number): boolean {
  const there = run.members.map((_, stage) => synced(state, run, stage).length)
  if (there.some((count) => count === 0)) {
    run.runnableSince = null
    return false
  }
  if (run.state !== 'preparing') return true
  run.runnableSince ??= now
  const seats = run.members.map((ids) => Math.min(ids.length, run.config.replicas))
  return there.every((count, stage) => count >= seats[stage]!) || now - run.runnableSince >= state.timing.formationMs
}

function startStep(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const microbatches = stepMicrobatches(run.config)
  const what = { step: run.step + 1, mode: 'train', first: 0, microbatches } as const
  begin(state, run, what, now, commands)
}

function begin(
  state: OrchestratorState,
  run: Run,
  what: Parameters<typeof newRound>[2],
  now: number,
  commands: Commands,
): void {
  run.round = newRound(state, run, what, now)
  if (!run.round) return
  run.lastProgress = now
  if (run.state === 'preparing') {
    run.restartMs = now - run.waitingSince
    commands.push({ type: 'tell', runId: run.id, step: run.step, text: 'Every stage is ready; training goes on.' })
  }
  setState(run, what.mode === 'train' ? 'training' : 'evaluating', commands)
  run.members.forEach((ids, stage) => ids.forEach((id) => sendStep(run, id, stage, commands)))
}

function startScoring(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const total = Math.ceil(run.evalWindows / run.config.microbatch)
  run.evaluation ??= { done: 0, total, lossSum: 0, tokens: 0, step: run.config.steps }
  const { evaluation } = run
  // After a restart of the server the last checkpoint may not have been asked for yet.
  if (!run.saving) saveWhenDue(run, now, commands)
  if (evaluation.done >= total) return endWhenWhole(state, run, commands)
  const first = evaluation.done
  const microbatches = Math.min(Math.max(EVALUATION_ROUND, run.members.flat().length), total - first)
  evaluation.step += 1
  begin(state, run, { step: evaluation.step, mode: 'evaluate', first, microbatches }, now, commands)
  run.detail = describeScoring(run)
  commands.push({ type: 'runChanged', runId: run.id })
}

/** A round of scoring ends once every microbatch has its loss. */
export function scoreWhenWhole(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { round, evaluation } = run
  if (round?.mode !== 'evaluate' || !evaluation) return
  if (round.stages.some(({ pending, orphans }) => pending.size > 0 || orphans.length > 0)) return
  const losses = [...round.stages.at(-1)!.work.values()].flatMap((work) => work.losses).sort((a, b) => a[0] - b[0])
  for (const [, sum, tokens] of losses) {
    evaluation.lossSum += sum
    evaluation.tokens += tokens
  }
  evaluation.done += round.microbatches
  run.round = null
  run.lastProgress = now
  goOn(state, run, now, commands)
}

/** A run is over when it is scored and its last checkpoint is published. */
export function endWhenWhole(state: OrchestratorState, run: Run, commands: Commands): void {
  const { evaluation, config } = run
  if (!evaluation || evaluation.done < evaluation.total) return
  if (run.checkpoint.step < config.steps) {
    const text = 'Everything is computed; the last checkpoint is being kept.'
    if (run.detail === text) return
    run.detail = text
    commands.push({ type: 'runChanged', runId: run.id })
    return
  }
  if (evaluation.total === 0) {
    end(state, run, 'finished', null, `Finished after ${run.step} steps; there is no held-out text to score.`, commands)
    return
  }
  const valLoss = evaluation.lossSum / evaluation.tokens
  if (Number.isFinite(valLoss)) {
    const text = `Finished after ${run.step} steps; validation loss ${valLoss.toFixed(4)} nats a token.`
    end(state, run, 'finished', valLoss, text, commands)
  } else end(state, run, 'failed', null, 'The held-out score is not a finite number.', commands)
}

/** How far the scoring is, in words; empty while a run trains. */
export function describeScoring({ evaluation }: Run): string {
  return evaluation ? `Scoring held-out text: ${evaluation.done} of ${evaluation.total} microbatches.` : ''
}

function setState(run: Run, state: 'training' | 'evaluating', commands: Commands): void {
  if (run.state === state && (state === 'evaluating' || run.detail === '')) return
  run.state = state
  run.detail = ''
  commands.push({ type: 'runChanged', runId: run.id })
}
