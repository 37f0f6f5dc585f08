/**
 * Owns the decisions of the server: who holds which stage, when a step begins, commits or is given up, when a run ends.
 *
 * A pure core: no clock, no randomness, no I/O. `decide` changes the state it is given and returns the commands that
 * follow; the coordinator carries them out on sockets and the store, the simulation on a virtual clock.
 */
import type { NodeStats } from '../../src/protocol/control.ts'
import { breakGeneration, cancel, failGeneration, form, PREPARING, submit } from './generations.ts'
import { describeScoring, onCheckpointPublished, onCheckpointRefused, onRunMessage } from './steps.ts'
import { DEFAULT_TIMING } from './types.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorEvent, OrchestratorState, Run, Timing } from './types.ts'

const NO_STATS: NodeStats = {
  tokens: 0,
  steps: 0,
  upBytes: 0,
  downBytes: 0,
  boundaryBytes: 0,
  boundaryTokens: 0,
  link: 'unknown',
}

export function initialState(timing: Partial<Timing> = {}): OrchestratorState {
  return { timing: { ...DEFAULT_TIMING, ...timing }, lastGeneration: 0, nodes: new Map(), runs: new Map() }
}

export function decide(state: OrchestratorState, event: OrchestratorEvent): OrchestratorCommand[] {
  const commands: OrchestratorCommand[] = []
  const { now } = event
  switch (event.type) {
    case 'nodeJoined':
      join(state, event.node, now, commands)
      break
    case 'nodeLeft':
      leave(state, event.nodeId, event.reason, now, commands)
      break
    case 'message':
      onMessage(state, event.nodeId, event.message, now, commands)
      break
    case 'runSubmitted':
      submit(state, event.run, now, commands)
      break
    case 'runCancelled':
      cancel(state, event.runId, commands)
      break
    case 'checkpointPublished':
      onCheckpointPublished(state, event.runId, event.checkpoint, now, commands)
      break
    case 'checkpointRefused':
      onCheckpointRefused(state, event.runId, event.step, event.error, now, commands)
      break
    case 'tick':
      onTick(state, now, commands)
      break
  }
  // Thousands of standbys beat every few seconds: what led to nothing frees or brings nobody, and ticks catch the rest.
  if (event.type === 'message' && commands.length === 0) return commands
  for (const run of state.runs.values()) if (run.state === 'waiting') form(state, run, now, commands)
  return commands
}

function join(
  state: OrchestratorState,
  node: Extract<OrchestratorEvent, { type: 'nodeJoined' }>['node'],
  now: number,
  commands: OrchestratorCommand[],
): void {
  for (const other of [...state.nodes.values()]) {
    if (other.deviceId !== node.deviceId && other.id !== node.id) continue
    leave(state, other.id, 'its device connected again', now, commands)
    if (other.id === node.id) continue
    commands.push({
      type: 'disconnect',
      nodeId: other.id,
      error: {
        code: 'control.replaced',
        message: 'This device connected again from somewhere else.',
        remedy: 'Keep one tab of Skein open in this browser profile.',
      },
    })
  }
  state.nodes.set(node.id, {
    ...node,
    phase: 'standby',
    progress: null,
    stats: NO_STATS,
    lastHeard: now,
    lastProgress: now,
    paused: false,
    suspect: false,
    penaltyUntil: 0,
    troubles: 0,
    gpuFailures: new Map(),
    runId: null,
  })
  commands.push({ type: 'send', nodeId: node.id, message: { type: 'standby', reason: standbyReason(state) } })
}

function standbyReason(state: OrchestratorState): string {
  const active = [...state.runs.values()].filter((run) => run.state !== 'waiting')
  const waiting = [...state.runs.values()].find((run) => run.state === 'waiting')
  if (waiting) return `“${waiting.name}” waits for more volunteers.`
  if (active.length > 0) return 'Every place in the current run is taken; this device steps in when one falls free.'
  return 'No run is under way; this device starts as soon as a researcher launches one.'
}

function leave(
  state: OrchestratorState,
  nodeId: string,
  reason: string,
  now: number,
  commands: OrchestratorCommand[],
): void {
  const node = state.nodes.get(nodeId)
  if (!node) return
  state.nodes.delete(nodeId)
  loseSeat(state, node, reason, now, commands)
}

function loseSeat(
  state: OrchestratorState,
  node: FleetNode,
  reason: string,
  now: number,
  commands: OrchestratorCommand[],
): void {
  const run = node.runId ? state.runs.get(node.runId) : undefined
  node.runId = null
  if (!run) return
  const stage = run.members.findIndex((members) => members.includes(node.id))
  run.lastSeats.delete(node.id)
  breakGeneration(state, run, `A volunteer of stage ${stage + 1} is gone: ${reason}.`, now, commands)
}

function onMessage(
  state: OrchestratorState,
  nodeId: string,
  message: Extract<OrchestratorEvent, { type: 'message' }>['message'],
  now: number,
  commands: OrchestratorCommand[],
): void {
  const node = state.nodes.get(nodeId)
  if (!node) return
  node.lastHeard = now
  if (node.suspect) {
    node.suspect = false
    const run = node.runId ? state.runs.get(node.runId) : undefined
    if (run) describe(state, run, commands)
  }
  switch (message.type) {
    case 'hello':
      return
    case 'heartbeat':
      if (node.phase !== message.phase || node.progress !== message.progress) node.lastProgress = now
      node.phase = message.phase
      node.progress = message.progress
      node.stats = message.stats
      return
    case 'pause':
      node.paused = true
      node.phase = 'paused'
      if (node.runId) {
        const { generation } = state.runs.get(node.runId)!
        commands.push({ type: 'send', nodeId, message: { type: 'release', generation, reason: 'paused' } })
        loseSeat(state, node, 'its owner paused it', now, commands)
      }
      return
    case 'resume':
      // `standby` takes the assignment away: a node that never paused must not get it.
      if (!node.paused) return
      node.paused = false
      node.phase = 'standby'
      commands.push({ type: 'send', nodeId, message: { type: 'standby', reason: standbyReason(state) } })
      return
    case 'leaving':
      leave(state, nodeId, 'its tab was closed', now, commands)
      return
    default: {
      const run = node.runId ? state.runs.get(node.runId) : undefined
      if (run && message.generation === run.generation) onRunMessage(state, run, node, message, now, commands)
    }
  }
}

function onTick(state: OrchestratorState, now: number, commands: OrchestratorCommand[]): void {
  const { evictMs, suspectMs, prepareMs, stallMs, failurePenaltyMs } = state.timing
  for (const node of [...state.nodes.values()]) {
    const silent = now - node.lastHeard
    if (silent >= evictMs) {
      leave(state, node.id, `it was silent for ${Math.round(silent / 1000)} s`, now, commands)
      commands.push({
        type: 'disconnect',
        nodeId: node.id,
        error: {
          code: 'control.silent',
          message: `The server heard nothing from this device for ${Math.round(silent / 1000)} s.`,
          remedy: 'Check the connection; the page connects again by itself.',
        },
      })
    } else if (silent >= suspectMs && !node.suspect) {
      node.suspect = true
      const run = node.runId ? state.runs.get(node.runId) : undefined
      if (run) describe(state, run, commands)
    }
  }
  for (const run of state.runs.values()) {
    if (run.state === 'preparing') {
      const late = run.members.flat().filter((id) => {
        const node = state.nodes.get(id)!
        return !run.ready.has(id) && now - Math.max(node.lastProgress, run.lastProgress) >= prepareMs
      })
      for (const id of late) state.nodes.get(id)!.penaltyUntil = now + failurePenaltyMs
      if (late.length > 0) {
        const seconds = Math.round(prepareMs / 1000)
        const who = late.length === 1 ? 'A volunteer' : `${late.length} volunteers`
        failGeneration(state, run, `${who} made no headway in preparing for ${seconds} s.`, now, commands)
      }
    } else if (now - run.lastProgress >= stallMs) {
      const seconds = Math.round(stallMs / 1000)
      if (run.saving?.publishing) {
        const error = {
          code: 'checkpoint.slow',
          message: `the store took over ${seconds} s.`,
          remedy: 'Check its disk.',
        }
        onCheckpointRefused(state, run.id, run.saving.step, error, now, commands)
      } else if (run.state !== 'waiting') {
        const what = run.saving ? `Saving step ${run.step}` : run.progress ? `Step ${run.progress.step}` : 'Scoring'
        failGeneration(state, run, `${what} made no progress for ${seconds} s.`, now, commands)
      }
    }
  }
}

/** Puts into words what a running run waits for, if for anything. */
function describe(state: OrchestratorState, run: Run, commands: OrchestratorCommand[]): void {
  const silent = run.members.flatMap((members, stage) =>
    members.some((id) => state.nodes.get(id)?.suspect) ? [stage + 1] : [],
  )
  if (silent.length > 0) run.detail = `Stage ${silent.join(', ')} waits: a volunteer there has fallen silent.`
  else run.detail = run.state === 'preparing' ? PREPARING : describeScoring(run)
  commands.push({ type: 'runChanged', runId: run.id })
}
