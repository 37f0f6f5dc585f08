/** Owns a step's way to its commit: gather losses and shard norms, clip over all stages, apply, commit, checkpoint, score. */
import type { ClientMessage, StageCheckpoint } from '../../src/protocol/control.ts'
import type { ErrorBody } from '../../src/protocol/errors.ts'
import { ownerOf } from '../../src/protocol/routing.ts'
import { learningRate } from '../../src/model/learningRate.ts'
import { memoryAfterFailure } from '../../src/model/memory.ts'
import { isComplete, proposeSeats } from './formation.ts'
import { end, failGeneration, giveUpCheckpoint, keepCheckpoint, reseat } from './generations.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run } from './types.ts'

/** Microbatches of one evaluation round: bounds what can queue up at a stage, at the price of one drained pipeline each. */
const EVALUATION_ROUND = 64

type Commands = OrchestratorCommand[]
type RunMessage = Extract<ClientMessage, { generation: number }>

export function onRunMessage(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: RunMessage,
  now: number,
  commands: Commands,
): void {
  switch (message.type) {
    case 'ready':
      run.ready.add(node.id)
      if (run.state !== 'preparing' || run.ready.size < run.members.flat().length) return
      commands.push({ type: 'tell', runId: run.id, step: run.step, text: 'Every link is open; training goes on.' })
      resumeAfterCheckpoint(state, run, now, commands)
      return
    case 'failed': {
      // A link has two ends, and often the other one is at fault; anything else is this node's own doing.
      const { code } = message.error
      if (!code.startsWith('net.')) node.penaltyUntil = now + state.timing.failurePenaltyMs
      const stage = run.members.findIndex((ids) => ids.includes(node.id))
      if (code.startsWith('gpu.')) node.gpuFailures.set(run.id, (node.gpuFailures.get(run.id) ?? 0) + 1)
      if (code === 'gpu.out_of_memory') node.memoryBytes = memoryAfterFailure(node.memoryBytes, run.stageBytes[stage]!)
      const text = `A volunteer of stage ${stage + 1} cannot go on: ${message.error.message}`
      failGeneration(state, run, text, now, commands)
      return
    }
    case 'loss':
      onLoss(state, run, node, message, now, commands)
      return
    case 'shardReduced':
      onShardReduced(state, run, node, message, now, commands)
      return
    case 'stepApplied':
      onStepApplied(state, run, node, message, now, commands)
      return
    case 'shardSaved':
      onShardSaved(state, run, node, message, now, commands)
  }
}

/** Goes on where a generation stands: the next step, or the scoring once all are done. */
export function resumeAfterCheckpoint(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  if (run.step >= run.config.steps) startEvaluation(state, run, now, commands)
  else startStep(run, now, commands)
}

function startStep(run: Run, now: number, commands: Commands): void {
  const step = run.step + 1
  setState(run, 'training', commands)
  run.lastProgress = now
  run.progress = {
    step,
    startedAt: now,
    losses: new Map(),
    squaredNorms: new Map(),
    applied: new Set(),
    gradNorm: null,
  }
  const microbatches = run.config.batch / run.config.microbatch
  broadcast(run, commands, { type: 'step', generation: run.generation, step, mode: 'train', first: 0, microbatches })
}

function onLoss(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Extract<RunMessage, { type: 'loss' }>,
  now: number,
  commands: Commands,
): void {
  const { step, microbatch, lossSum: sum, tokens } = message
  if (ownerOf(run.members, microbatch, run.members.length - 1) !== node.id) return
  const { progress, evaluation } = run
  const end = progress ? run.config.batch / run.config.microbatch : (evaluation?.roundEnd ?? 0)
  const round = progress ?? evaluation
  if (!round || round.step !== step || microbatch < (evaluation?.done ?? 0) || microbatch >= end) return
  if (round.losses.has(microbatch)) return
  round.losses.set(microbatch, { sum, tokens })
  run.lastProgress = now
  if (progress) applyWhenWhole(state, run, now, commands)
  else nextRoundWhenWhole(state, run, now, commands)
}

function onShardReduced(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Extract<RunMessage, { type: 'shardReduced' }>,
  now: number,
  commands: Commands,
): void {
  const stage = run.members.findIndex((ids) => ids[message.shard] === node.id)
  if (stage < 0 || run.progress?.step !== message.step) return
  run.progress.squaredNorms.set(`${stage}:${message.shard}`, message.squaredNorm)
  run.lastProgress = now
  applyWhenWhole(state, run, now, commands)
}

/** Once every loss and every shard's norm is in: the norm over all stages, its clipping, and the word to apply. */
function applyWhenWhole(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { progress, config } = run
  if (!progress || progress.gradNorm !== null) return
  if (progress.losses.size < config.batch / config.microbatch) return
  if (progress.squaredNorms.size < run.members.flat().length) return
  // Summed in the order of stages and shards, whichever came first, so that a repeated step clips alike.
  let total = 0
  run.members.forEach((ids, stage) =>
    ids.forEach((_, shard) => (total += progress.squaredNorms.get(`${stage}:${shard}`)!)),
  )
  const gradNorm = Math.sqrt(total)
  if (!Number.isFinite(gradNorm) || !Number.isFinite(meanLoss(progress.losses))) {
    const text = `Step ${progress.step} diverged: its loss or gradient is not finite. Launch it again with a lower learning rate.`
    end(state, run, 'failed', null, text, commands)
    return
  }
  progress.gradNorm = gradNorm
  run.lastProgress = now
  const { gradClip } = config.optimizer
  const scale = gradClip > 0 ? Math.min(1, gradClip / (gradNorm + 1e-6)) : 1
  const lr = learningRate(config.optimizer, progress.step, config.steps)
  broadcast(run, commands, { type: 'apply', generation: run.generation, step: progress.step, lr, scale })
}

function onStepApplied(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Extract<RunMessage, { type: 'stepApplied' }>,
  now: number,
  commands: Commands,
): void {
  const { progress, config } = run
  if (progress?.step !== message.step || progress.gradNorm === null) return
  progress.applied.add(node.id)
  run.lastProgress = now
  if (progress.applied.size < run.members.flat().length) return
  const { step, gradNorm } = progress
  run.step = step
  run.progress = null
  run.brokenInARow = 0
  for (const id of run.members.flat()) {
    const member = state.nodes.get(id)!
    member.troubles = 0
    member.gpuFailures.delete(run.id)
  }
  commands.push({
    type: 'commitStep',
    runId: run.id,
    metric: {
      step,
      loss: meanLoss(progress.losses),
      gradNorm,
      lr: learningRate(config.optimizer, step, config.steps),
      tokens: config.batch * config.model.blockSize,
      durationMs: now - progress.startedAt,
      at: now,
    },
  })
  if (step % config.checkpointEvery === 0 || step === config.steps) {
    run.saving = { step, shards: new Map(), publishing: null }
    broadcast(run, commands, { type: 'save', generation: run.generation, step })
  } else resumeAfterCheckpoint(state, run, now, commands)
}

function onShardSaved(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Extract<RunMessage, { type: 'shardSaved' }>,
  now: number,
  commands: Commands,
): void {
  const { saving } = run
  const stage = run.members.findIndex((ids) => ids[message.shard] === node.id)
  if (!saving || saving.step !== message.step || saving.publishing || stage < 0) return
  saving.shards.set(`${stage}:${message.shard}`, message)
  run.lastProgress = now
  if (saving.shards.size < run.members.flat().length) return
  for (const [s, ids] of run.members.entries()) {
    const hashes = new Set(ids.map((_, shard) => saving.shards.get(`${s}:${shard}`)!.parametersHash))
    if (hashes.size === 1) continue
    failGeneration(
      state,
      run,
      `The replicas of stage ${s + 1} hold different weights at step ${saving.step}.`,
      now,
      commands,
    )
    return
  }
  const stages: StageCheckpoint[] = run.members.map((ids, s) => ({
    stage: s,
    chunks: ids.flatMap((_, shard) => saving.shards.get(`${s}:${shard}`)!.chunks),
  }))
  saving.publishing = stages
  commands.push({ type: 'publishCheckpoint', runId: run.id, step: saving.step, stages })
}

export function onCheckpointPublished(
  state: OrchestratorState,
  runId: string,
  checkpoint: { step: number; stages: StageCheckpoint[] },
  now: number,
  commands: Commands,
): void {
  const run = state.runs.get(runId)
  const saving = run?.saving
  if (!saving?.publishing || saving.step !== checkpoint.step) return
  // The answer to an attempt that was given up may come while the same step is being saved again.
  if (!sameChunks(saving.publishing, checkpoint.stages)) return
  keepCheckpoint(run!, checkpoint)
  run!.lastProgress = now
  if (run!.members.length > 0) goOnFromCheckpoint(state, run!, now, commands)
}

/** Seats a standby where a replica is missing, now that nothing is lost by it; else the next step. */
function goOnFromCheckpoint(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const vacant = run.step < run.config.steps && !isComplete(run, run.members)
  const better = () => proposeSeats(state, run, now).seats.flat().length > run.members.flat().length
  if (vacant && better()) reseat(state, run, now, commands)
  else resumeAfterCheckpoint(state, run, now, commands)
}

function sameChunks(asked: readonly StageCheckpoint[], kept: readonly StageCheckpoint[]): boolean {
  const hashes = (stages: readonly StageCheckpoint[]) =>
    stages.map(({ chunks }) => chunks.map(({ hash }) => hash).join())
  return hashes(asked).join(';') === hashes(kept).join(';')
}

export function onCheckpointRefused(
  state: OrchestratorState,
  runId: string,
  step: number,
  error: ErrorBody,
  now: number,
  commands: Commands,
): void {
  const run = state.runs.get(runId)
  if (!run?.saving?.publishing || run.saving.step !== step) return
  const text = `The checkpoint of step ${step} could not be kept: ${error.message}`
  if (run.members.length === 0) return giveUpCheckpoint(run, text, commands)
  run.saving = null
  failGeneration(state, run, text, now, commands)
}

function startEvaluation(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const total = Math.ceil(run.evalWindows / run.config.microbatch)
  if (total === 0) {
    end(state, run, 'finished', null, `Finished after ${run.step} steps; there is no held-out text to score.`, commands)
    return
  }
  setState(run, 'evaluating', commands)
  run.evaluation = { done: 0, total, step: run.config.steps, roundEnd: 0, losses: new Map(), lossSum: 0, tokens: 0 }
  nextRound(run, now, commands)
}

function nextRound(run: Run, now: number, commands: Commands): void {
  const evaluation = run.evaluation!
  const { done: first, total } = evaluation
  const microbatches = Math.min(EVALUATION_ROUND, total - first)
  evaluation.step += 1
  evaluation.roundEnd = first + microbatches
  evaluation.losses.clear()
  run.lastProgress = now
  run.detail = describeScoring(run)
  commands.push({ type: 'runChanged', runId: run.id })
  const { generation } = run
  broadcast(run, commands, { type: 'step', generation, step: evaluation.step, mode: 'evaluate', first, microbatches })
}

/** How far the scoring is, in words; empty while a run trains. */
export function describeScoring({ evaluation }: Run): string {
  return evaluation ? `Scoring held-out text: ${evaluation.done} of ${evaluation.total} microbatches.` : ''
}

function nextRoundWhenWhole(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const evaluation = run.evaluation!
  if (evaluation.losses.size < evaluation.roundEnd - evaluation.done) return
  for (let m = evaluation.done; m < evaluation.roundEnd; m++) {
    const loss = evaluation.losses.get(m)!
    evaluation.lossSum += loss.sum
    evaluation.tokens += loss.tokens
  }
  evaluation.done = evaluation.roundEnd
  if (evaluation.done < evaluation.total) {
    nextRound(run, now, commands)
    return
  }
  const valLoss = evaluation.lossSum / evaluation.tokens
  if (Number.isFinite(valLoss)) {
    const text = `Finished after ${run.step} steps; validation loss ${valLoss.toFixed(4)} nats a token.`
    end(state, run, 'finished', valLoss, text, commands)
  } else end(state, run, 'failed', null, 'The held-out score is not a finite number.', commands)
}

function meanLoss(losses: ReadonlyMap<number, { sum: number; tokens: number }>): number {
  let sum = 0
  let tokens = 0
  for (const m of [...losses.keys()].sort((a, b) => a - b)) {
    sum += losses.get(m)!.sum
    tokens += losses.get(m)!.tokens
  }
  return sum / tokens
}

function setState(run: Run, state: 'training' | 'evaluating', commands: Commands): void {
  if (run.state === state) return
  run.state = state
  run.detail = ''
  commands.push({ type: 'runChanged', runId: run.id })
}

function broadcast(
  run: Run,
  commands: Commands,
  message: Extract<OrchestratorCommand, { type: 'send' }>['message'],
): void {
  for (const nodeId of run.members.flat()) commands.push({ type: 'send', nodeId, message })
}
