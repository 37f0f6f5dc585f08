/** Owns a stage's way from its last backward to the commit: sum, compare, clip over all stages, apply, compare again. */
import { learningRate } from '../../src/model/learningRate.ts'
import type { ServerMessage } from '../../src/protocol/control.ts'
import { laneCount, overlaps, stepTokens } from '../../src/protocol/lanes.ts'
import { contributorsOf } from './ahead.ts'
import { awaitsAudits, offerClaims } from './claims.ts'
import { commit } from './commit.ts'
import { settleWork } from './credit.ts'
import { dismiss } from './departures.ts'
import { end, failGeneration } from './generations.ts'
import { ACTIVE, activeOwners } from './owners.ts'
import { standbyCredit } from './standby.ts'
import { awaitsTallies, settleTally, sumsWhatWasSigned } from './tallies.ts'
import type { Round } from './round.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run, RunMessage } from './types.ts'

type Commands = OrchestratorCommand[]
type Of<K extends RunMessage['type']> = Extract<RunMessage, { type: K }>

/** Two honest sums of the same shares differ by no more than the rounding of a norm. */
const NORM_TOLERANCE = 1e-3

/** Asks the owners of a stage for the sum, once no lease of it is open. */
export function sumWhenWhole(state: OrchestratorState, run: Run, stage: number, now: number, commands: Commands): void {
  const { round } = run
  const progress = round?.stages[stage]
  if (!round || !progress || round.mode !== 'train') return
  offerClaims(state, run, stage, commands)
  if (progress.pending.size > 0 || progress.orphans.length > 0 || progress.contributors) return
  if (awaitsAudits(state, run, stage, now, commands)) return
  // What owners have summed ahead with these same leases stands.
  if (progress.ahead === null) progress.attempt += 1
  progress.ahead = null
  progress.missing.clear()
  progress.movedAt = now
  // Those that are gone since they finished stay contributors as long as every owner has their share.
  for (const id of progress.lost) if (!progress.work.has(id)) progress.lost.delete(id)
  for (const norms of progress.norms) norms.clear()
  progress.tallies.clear()
  progress.contributors = contributorsOf(progress)
  for (const nodeId of activeOwners(run.owners[stage]!)) sendReduce(run, stage, nodeId, commands)
}

export function onReduced(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Of<'reduced'>,
  now: number,
  commands: Commands,
): void {
  const { round } = run
  const progress = round?.stages[node.stage]
  if (!round || !progress || round.step !== message.step) return
  const { attempt, shard, squaredNorm } = message
  if (!progress.contributors || progress.attempt !== attempt) return
  const places = run.owners[node.stage]?.[shard]
  if (!places?.slice(0, ACTIVE).includes(node.id)) return
  if (round.apply) {
    // It was not waited for. Should the first owner be lost it can take its place, if its sum is the same.
    const known = progress.norms[shard]!.get(places[0]!)
    if (known !== undefined && agree(known, squaredNorm)) progress.norms[shard]!.set(node.id, squaredNorm)
    return
  }
  progress.movedAt = now
  round.movedAt = now
  if (!sumsWhatWasSigned(run, node, message, commands)) return
  progress.norms[shard]!.set(node.id, squaredNorm)
  settleTally(state, run, node.stage, shard, false, now, commands)
  if (run.round !== round || !progress.contributors) return
  if (!settleSums(state, run, node.stage, shard, now, commands)) return
  applyWhenWhole(state, run, now, commands)
}

/**
 * Holds the sums of a shard's owners against each other. Where two differ the keeper sums as a third, and who stands
 * alone is out; where there is no third the generation fails.
 * @returns false when the sums differ and the matter is still open
 */
function settleSums(
  state: OrchestratorState,
  run: Run,
  stage: number,
  shard: number,
  now: number,
  commands: Commands,
): boolean {
  const progress = run.round!.stages[stage]!
  const norms = progress.norms[shard]!
  const owners = run.owners[stage]![shard]!
  const [first, second, third] = owners
  const same = (a?: string, b?: string) =>
    a !== undefined && b !== undefined && norms.has(a) && norms.has(b) && agree(norms.get(a)!, norms.get(b)!)
  if (!first || !second || !norms.has(first) || !norms.has(second)) return true
  const two = same(first, second)
  if (two && (!third || !norms.has(third) || same(first, third))) return true
  if (!third) {
    shutOut(state, [first, second], now)
    const text = `Two volunteers of stage ${stage + 1} got different sums of the same gradients at step ${run.round!.step}.`
    failGeneration(state, run, text, now, commands)
    return false
  }
  if (norms.has(third)) {
    // All three have spoken: the one that two others contradict is out.
    const odd = two ? third : same(first, third) ? second : same(second, third) ? first : null
    if (odd === null) {
      shutOut(state, owners, now)
      failGeneration(state, run, `Three sums of one gradient differ in stage ${stage + 1}.`, now, commands)
      return false
    }
    shutOut(state, [odd], now)
    const text = `A volunteer of stage ${stage + 1} got another sum than two others; its copy is no longer used.`
    commands.push({ type: 'tell', runId: run.id, step: run.step, text })
    run.holders[stage]![shard]!.delete(odd)
    run.owners[stage]![shard] = owners.filter((id) => id !== odd)
    tellOwners(run, stage, commands)
    return true
  }
  // The third joins the first two in turn: whoever is in the first two places sums.
  run.owners[stage]![shard] = [first, third, second]
  tellOwners(run, stage, commands)
  sendReduce(run, stage, third, commands)
  return false
}

function agree(a: number, b: number): boolean {
  // Neither sum is finite when a step diverges: that is no disagreement.
  if (!Number.isFinite(a) || !Number.isFinite(b)) return Number.isFinite(a) === Number.isFinite(b)
  return Math.abs(a - b) <= NORM_TOLERANCE * Math.max(Math.abs(a), Math.abs(b))
}

/** No shard is given to these for a good while. */
function shutOut(state: OrchestratorState, ids: readonly string[], now: number): void {
  for (const id of ids) {
    const node = state.nodes.get(id)
    if (!node) continue
    node.troubles += 1
    node.penaltyUntil = now + 30 * state.timing.failurePenaltyMs
  }
}

export function tellOwners(run: Run, stage: number, commands: Commands): void {
  const { generation, round } = run
  if (!round) return
  const message: ServerMessage = { type: 'owners', generation, step: round.step, owners: run.owners[stage]! }
  for (const nodeId of run.members[stage]!) commands.push({ type: 'send', nodeId, message })
}

export function sendReduce(run: Run, stage: number, nodeId: string, commands: Commands): void {
  const { generation, round } = run
  const { attempt, contributors, lost } = round!.stages[stage]!
  if (!contributors) return
  const { step } = round!
  commands.push({ type: 'send', nodeId, message: { type: 'reduce', generation, step, attempt, contributors } })
  for (const node of lost)
    commands.push({ type: 'send', nodeId, message: { type: 'lost', generation, step, attempt, node } })
}

export function isSummed(run: Run, stage: number): boolean {
  const progress = run.round!.stages[stage]!
  return (
    progress.contributors !== null &&
    !awaitsTallies(run, stage) &&
    run.owners[stage]!.every((owners, shard) => {
      const norms = progress.norms[shard]!
      const awaited = progress.waived[shard] ? 1 : ACTIVE
      return owners.slice(0, awaited).every((id) => norms.has(id))
    })
  )
}

/** Once every stage is summed: the norm over all of them, its clipping, and the word to make the step durable. */
export function applyWhenWhole(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const { round, config } = run
  if (!round || round.apply) return
  for (let stage = 0; stage < config.stages; stage++) if (!isSummed(run, stage)) return
  // Summed in the order of stages and shards, whichever came first, so that a repeated step clips alike.
  let total = 0
  round.stages.forEach(({ norms }, stage) =>
    run.owners[stage]!.forEach((owners, shard) => (total += norms[shard]!.get(owners[0]!)!)),
  )
  const { gradNorm, scale, lr } = updateOf(config, round.step, Math.sqrt(total))
  const loss = meanLoss(round)
  const { step } = round
  if (!Number.isFinite(gradNorm) || !Number.isFinite(loss)) {
    const text = `Step ${step} diverged: its loss or gradient is not finite. Launch it again with a lower learning rate.`
    end(state, run, 'failed', null, text, commands)
    return
  }
  run.lastProgress = now
  const tokens = stepTokens(config)
  const metric = { step, loss, gradNorm, lr, tokens, durationMs: now - round.startedAt, at: now }
  const settlement = settleWork(run, round)
  settlement.work.push(...standbyCredit(state, run, round, settlement.work))
  round.apply = { lr, scale, metric, settlement }
  const { work } = settlement
  commands.push({ type: 'prepareStep', runId: run.id, generation: run.generation, lr, scale, metric, work })
}

/** What the owners of all shards are to apply; with local steps the mean of what the lanes changed takes the gradient's place. */
function updateOf({ sync, local, optimizer, steps, replicas }: Run['config'], step: number, norm: number) {
  if (sync === 'local') {
    const scale = 1 / laneCount({ local, replicas })
    return { gradNorm: scale * norm, scale, lr: local.outer.lr }
  }
  const { gradClip } = optimizer
  const scale = gradClip > 0 ? Math.min(1, gradClip / (norm + 1e-6)) : 1
  return { gradNorm: norm, scale, lr: learningRate(optimizer, step, steps) }
}

/** The sum over all microbatches in their order, whoever computed them. */
export function meanLoss({ stages }: Round): number {
  const { work } = stages.at(-1)!
  const losses = [...work.values()].flatMap(({ losses }) => losses).sort((a, b) => a[0] - b[0])
  let sum = 0
  let tokens = 0
  for (const [, lossSum, count] of losses) {
    sum += lossSum
    tokens += count
  }
  return sum / tokens
}

/** The record of what is about to be applied is durable: from here on the step will be, even if the server dies. */
export function onStepPrepared(run: Run, step: number, now: number, commands: Commands): void {
  const { round } = run
  if (!round?.apply || round.prepared || round.step !== step) return
  round.prepared = true
  for (let stage = 0; stage < run.config.stages; stage++) {
    // Whoever has to update now has only heard of it.
    round.stages[stage]!.movedAt = now
    // Who was sent a mean ahead is to know that it is the step's.
    const others = overlaps(run.config) ? run.members[stage]! : []
    for (const id of new Set([...activeOwners(run.owners[stage]!), ...others])) sendApply(run, stage, id, commands)
  }
}

export function sendApply(run: Run, stage: number, nodeId: string, commands: Commands): void {
  const { generation, round } = run
  const { lr, scale } = round!.apply!
  const owners = run.owners[stage]!
  const receivers = run.members[stage]!
  const { attempt } = round!.stages[stage]!
  const { step } = round!
  const message: ServerMessage = { type: 'apply', generation, step, attempt, lr, scale, owners, receivers }
  commands.push({ type: 'send', nodeId, message })
}

export function onUpdated(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Of<'updated'>,
  now: number,
  commands: Commands,
): void {
  const progress = applied(run, node, message)
  const places = run.owners[node.stage]?.[message.shard]
  if (!progress || places?.[0] !== node.id) return
  progress.updated[message.shard] = true
  progress.movedAt = now
  if (places.length < ACTIVE) progress.compared[message.shard] = true
  run.round!.movedAt = now
  commitWhenWhole(state, run, now, commands)
}

export function onCompared(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Of<'compared'>,
  now: number,
  commands: Commands,
): void {
  // One that nobody waited for any more has followed after all: that is another copy.
  if (message.step === run.step && message.agrees && run.owners[node.stage]?.[message.shard]?.includes(node.id))
    run.holders[node.stage]![message.shard]!.set(node.id, run.step)
  const progress = applied(run, node, message)
  const places = run.owners[node.stage]?.[message.shard]
  if (!progress || places?.[1] !== node.id) return
  // Owner compare: bytes that a second owner does not get to by itself never become the step's.
  if (!message.agrees && !progress.norms[message.shard]!.has(node.id)) {
    // Nobody knows what it summed, and nobody waited for it: it alone begins anew.
    const { generation } = run
    commands.push({ type: 'send', nodeId: node.id, message: { type: 'release', generation, reason: 'other bytes' } })
    dismiss(state, run, node, 'failed', 'it came to other weights than the stage', now, commands)
    return
  }
  if (!message.agrees) {
    shutOut(state, places.slice(0, ACTIVE), now)
    const text = `Two volunteers of stage ${node.stage + 1} updated the same weights differently at step ${message.step}.`
    failGeneration(state, run, text, now, commands)
    return
  }
  progress.compared[message.shard] = true
  run.round!.movedAt = now
  commitWhenWhole(state, run, now, commands)
}

function applied(run: Run, node: FleetNode, message: { step: number }) {
  const { round } = run
  return round?.prepared && round.step === message.step ? round.stages[node.stage] : undefined
}

export function commitWhenWhole(state: OrchestratorState, run: Run, now: number, commands: Commands): void {
  const whole = run.round!.stages.every(({ updated, compared, waived }) =>
    updated.every((done, shard) => done && (compared[shard] || waived[shard])),
  )
  if (whole) commit(state, run, now, commands)
}
