/** Owns what the reports of a run's nodes lead to; each is checked against what was asked of that node. */
import { memoryAfterFailure } from '../../src/model/memory.ts'
import { onAdvanced } from './ahead.ts'
import { onShardSaved } from './checkpoints.ts'
import { isAudited, redoUnsigned } from './claims.ts'
import { goOn, scoreWhenWhole } from './commit.ts'
import { dismiss } from './departures.ts'
import { inherit } from './heirs.ts'
import { adopt } from './leases.ts'
import { onMissing } from './losses.ts'
import { learnLinks } from './nearness.ts'
import { onCompared, onReduced, onUpdated, sumWhenWhole } from './merge.ts'
import { onTallied } from './tallies.ts'
import { onWaiting, ping } from './watch.ts'
import type { LinkMeasure } from '../../src/protocol/control.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorState, Run, RunMessage } from './types.ts'

type Commands = OrchestratorCommand[]
type Of<K extends RunMessage['type']> = Extract<RunMessage, { type: K }>

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
      onReady(state, run, node, message, now, commands)
      return
    case 'receipt':
    case 'recomputed':
    case 'declined':
    case 'timeline':
      // Counts by an event of its own, or is for others than the orchestrator.
      return
    case 'tallied':
      onTallied(state, run, node, message, now, commands)
      return
    case 'finished':
      onFinished(state, run, node, message, now, commands)
      return
    case 'measured':
      // What leases show counts for more, and whoever has one shows it.
      if (!run.round?.stages[node.stage]?.work.has(node.id)) learnSpeed(node, message.expectedMs)
      return
    case 'advanced':
      if (run.round?.step !== message.step || !run.round.stages[node.stage]?.pending.has(node.id)) return
      run.round.movedAt = now
      node.blamedSince = null
      node.presumedAt = null
      onAdvanced(run, node, message, commands)
      return
    case 'waiting':
      onWaiting(state, run, node, message.on, now, commands)
      return
    case 'missing':
      onMissing(state, run, node, message, now, commands)
      return
    case 'reduced':
      onReduced(state, run, node, message, now, commands)
      return
    case 'updated':
      onUpdated(state, run, node, message, now, commands)
      return
    case 'compared':
      onCompared(state, run, node, message, now, commands)
      return
    case 'taken':
      if (message.step === run.round?.step) inherit(state, run, node, message.shard, now, commands)
      return
    case 'held':
      if (message.step === run.step && run.owners[node.stage]?.[message.shard]?.includes(node.id))
        run.holders[node.stage]?.[message.shard]?.set(node.id, message.step)
      return
    case 'shardSaved':
      onShardSaved(run, node, message, now, commands)
      return
    case 'linkLost': {
      const other = state.nodes.get(message.node)
      // A link to somebody who is gone says nothing of this end.
      if (other && !other.suspect) {
        node.deadLinks += 1
        other.deadLinks += 1
      }
      ping(state, message.node, now, commands)
      return
    }
    case 'distrusted':
      onDistrusted(state, run, node, message, commands)
      return
    case 'failed':
      onFailed(state, run, node, message, now, commands)
  }
}

/** What one node may add to the run's story in a step by what it says of others. */
const MOST_DISTRUSTS = 16

/** A line of the run's story names both: which of the two is at fault, the lines of others show. */
function onDistrusted(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  { node: id, error }: Of<'distrusted'>,
  commands: Commands,
): void {
  const other = state.nodes.get(id)
  if (node.distrusts.step !== run.step) node.distrusts = { step: run.step, count: 0 }
  node.distrusts.count += 1
  if (other?.runId !== run.id || node.distrusts.count > MOST_DISTRUSTS) return
  const [reporter, sender] = [node.deviceId.slice(0, 12), other.deviceId.slice(0, 12)]
  const text = `Device ${reporter} could not believe what device ${sender} sent it (${error.code}): ${error.message}`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text: text.slice(0, 500) })
}

function onReady(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  { step, expectedMs, links }: Of<'ready'>,
  now: number,
  commands: Commands,
): void {
  // Whoever had the step before last whole gets the last one like everybody else; an older state is no use.
  if (step > run.step || step < run.step - 1) return
  if (links) hearLinks(run, node, links)
  const first = node.ready === null
  node.ready = step
  if (step === run.step) node.presumedAt = null
  node.busyMs ??= expectedMs
  node.lastProgress = now
  run.lastProgress = now
  if (step === run.step && node.loadedFrom === step)
    for (const holders of run.holders[node.stage]!) holders.set(node.id, step)
  if (!first) return
  if (run.round) {
    adopt(state, run, node.stage, now, commands)
    if (run.state !== 'preparing') {
      const text = `A volunteer of stage ${node.stage + 1} has its weights and stands by.`
      commands.push({ type: 'tell', runId: run.id, step: run.step, text })
    }
  } else goOn(state, run, now, commands)
}

function onFinished(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  message: Of<'finished'>,
  now: number,
  commands: Commands,
): void {
  const { round } = run
  const progress = round?.stages[node.stage]
  const work = progress?.work.get(node.id)
  if (!round || !progress || !work || round.step !== message.step || work.version !== message.version) return
  if (work.finished === work.version) return
  if (node.stage === run.config.stages - 1 && !covers(message.losses, work.microbatches, round.first)) {
    const error = { code: 'report.losses', message: 'its losses are not those of its microbatches.', remedy: '' }
    onFailed(state, run, node, { type: 'failed', generation: run.generation, error }, now, commands)
    return
  }
  const audited = round.mode === 'train' && isAudited(state, run)
  if (audited && redoUnsigned(state, run, node, now, commands)) return
  work.finished = work.version
  node.ready = Math.max(node.ready ?? 0, run.step)
  work.losses = message.losses
  round.movedAt = now
  node.blamedSince = null
  node.presumedAt = null
  progress.pending.delete(node.id)
  if (message.busyMs !== null && message.busyMs > 0) learnSpeed(node, message.busyMs)
  if (message.links) hearLinks(run, node, message.links)
  if (progress.halfAt === null && progress.pending.size <= progress.work.size / 2) progress.halfAt = now
  if (round.mode === 'train') {
    if (audited) progress.unoffered.add(node.id)
    sumWhenWhole(state, run, node.stage, now, commands)
  } else scoreWhenWhole(state, run, now, commands)
}

function hearLinks(run: Run, node: FleetNode, links: readonly LinkMeasure[]): void {
  node.links = new Map(
    links.map(([id, rttMs, rate]) => [id, { rttMs, bytesPerMs: rate === null ? null : rate / 1000 }]),
  )
  if (learnLinks(node)) run.lanes.remeasured = true
}

/** Takes in what one microbatch took, in milliseconds; what was known counts as much as what is new. */
function learnSpeed(node: FleetNode, ms: number): void {
  node.busyMs = node.busyMs === null ? ms : (node.busyMs + ms) / 2
}

/** Whether there is exactly one loss for each of these microbatches. */
function covers(losses: Of<'finished'>['losses'], microbatches: ReadonlySet<number>, first: number): boolean {
  const named = new Set(losses.map(([microbatch]) => microbatch - first))
  if (losses.length !== microbatches.size || named.size !== losses.length) return false
  for (const place of named) if (!microbatches.has(place)) return false
  return true
}

/** What it held for a run that waits for its nodes is gone. */
export function onHoldingLost(
  state: OrchestratorState,
  node: FleetNode,
  { generation, error }: Of<'failed'>,
  now: number,
): void {
  const { holding } = node
  if (holding?.generation !== generation) return
  node.holding = null
  const run = state.runs.get(holding.runId)
  if (run && holding.stage < run.config.stages) noteFailure(state, run, node, holding.stage, error.code, now)
}

/** Others are asked before it for a while, and for good once it has shown what it cannot do. */
function noteFailure(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  stage: number,
  code: string,
  now: number,
): void {
  node.penaltyUntil = now + state.timing.failurePenaltyMs
  node.troubles += 1
  if (code.startsWith('gpu.')) node.gpuFailures.set(run.id, (node.gpuFailures.get(run.id) ?? 0) + 1)
  if (code === 'gpu.out_of_memory') node.memoryBytes = memoryAfterFailure(node.memoryBytes, run.stageBytes[stage]!)
}

function onFailed(
  state: OrchestratorState,
  run: Run,
  node: FleetNode,
  { error }: Of<'failed'>,
  now: number,
  commands: Commands,
): void {
  // Where it has given its stage up already the word is for the page, which waits for another.
  const message = { type: 'release', generation: run.generation, reason: error.message.slice(0, 300) } as const
  commands.push({ type: 'send', nodeId: node.id, message })
  noteFailure(state, run, node, node.stage, error.code, now)
  dismiss(state, run, node, 'failed', `it cannot go on: ${error.message}`.replace(/\.$/, ''), now, commands)
}
