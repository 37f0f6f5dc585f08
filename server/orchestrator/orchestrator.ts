/**
 * Owns the decisions of the server: who holds which stage, when a step begins, commits or is given up, when a run ends.
 *
 * A pure core: no clock, no randomness, no I/O. `decide` changes the state it is given and returns the commands that
 * follow; the coordinator carries them out on sockets and the store, the simulation on a virtual clock.
 */
import type { NodeStats } from '../../src/protocol/control.ts'
import { onClaimSettled, redoWork, voidSteps } from './claims.ts'
import { onCheckpointPublished, onCheckpointRefused } from './checkpoints.ts'
import { dismiss, suspect } from './departures.ts'
import { cancel, form, submit } from './generations.ts'
import { admit } from './membership.ts'
import { readmit } from './losses.ts'
import { onStepPrepared } from './merge.ts'
import { raiseBudget } from './purse.ts'
import { giveUpRecut, onCheckpointRecut } from './recutting.ts'
import { onReceipt } from './receipts.ts'
import { onHoldingLost, onRunMessage } from './reports.ts'
import { DEFAULT_TIMING, type Timing } from './timing.ts'
import { watchNodes, watchRun } from './watch.ts'
import type { FleetNode, OrchestratorCommand, OrchestratorEvent, OrchestratorState } from './types.ts'

const NO_STATS: NodeStats = {
  tokens: 0,
  steps: 0,
  upBytes: 0,
  downBytes: 0,
  boundaryBytes: 0,
  boundaryTokens: 0,
  link: 'unknown',
}

type Commands = OrchestratorCommand[]

export function initialState(timing: Partial<Timing> = {}): OrchestratorState {
  return { timing: { ...DEFAULT_TIMING, ...timing }, lastGeneration: 0, nodes: new Map(), runs: new Map() }
}

export function decide(state: OrchestratorState, event: OrchestratorEvent): OrchestratorCommand[] {
  const commands: Commands = []
  const { now } = event
  switch (event.type) {
    case 'nodeJoined':
      enter(state, event.node, now, commands)
      break
    case 'nodeDetached':
    case 'nodeResumed': {
      const node = state.nodes.get(event.nodeId)
      if (!node) break
      node.detachedAt = event.type === 'nodeDetached' ? now : null
      if (event.type === 'nodeResumed') hear(state, node, now, commands)
      break
    }
    case 'nodeUnresponsive': {
      const node = state.nodes.get(event.nodeId)
      if (node) suspect(state, node, 'silent', 'does not answer', now, commands)
      break
    }
    case 'message':
      onMessage(state, event.nodeId, event.message, now, commands)
      break
    case 'receiptHeard': {
      const node = state.nodes.get(event.nodeId)
      if (!node) break
      hear(state, node, now, commands)
      const run = node.runId === null ? undefined : state.runs.get(node.runId)
      if (run) onReceipt(run, node, event.message, event.hash, event.fault)
      break
    }
    case 'runSubmitted':
      submit(state, event.run, now, commands)
      break
    case 'runCancelled':
      cancel(state, event.runId, commands)
      break
    case 'budgetRaised': {
      const run = state.runs.get(event.runId)
      if (run) raiseBudget(state, run, event.budget, now, commands)
      break
    }
    case 'auditCredited': {
      const purse = state.runs.get(event.runId)?.purse
      if (purse) purse.credit += event.credit
      break
    }
    case 'checkpointRequested': {
      const run = state.runs.get(event.runId)
      if (run) run.saveSoon = true
      break
    }
    case 'stepPrepared': {
      const run = state.runs.get(event.runId)
      if (run?.generation === event.generation) onStepPrepared(run, event.step, now, commands)
      break
    }
    case 'checkpointPublished':
      onCheckpointPublished(state, event.runId, event.checkpoint, now, commands)
      break
    case 'checkpointRefused':
      onCheckpointRefused(state, event.runId, event.step, event.error, now, commands)
      break
    case 'checkpointRecut':
      onCheckpointRecut(state, event, now, commands)
      break
    case 'recutRefused': {
      const run = state.runs.get(event.runId)
      if (run?.recut) giveUpRecut(run, event.error.message, commands)
      break
    }
    case 'claimSettled':
      onClaimSettled(state, event, now, commands)
      break
    case 'convicted':
      voidSteps(state, event.device, now, commands)
      for (const node of [...state.nodes.values()]) {
        if (node.deviceId !== event.device) continue
        leave(state, node, 'an audit found its work false', now, commands)
        commands.push({ type: 'disconnect', nodeId: node.id, error: event.error })
      }
      break
    case 'redo':
      redoWork(state, event, now, commands)
      break
    case 'tick':
      for (const node of watchNodes(state, now, commands)) evict(state, node, now, commands)
      for (const run of [...state.runs.values()]) watchRun(state, run, now, commands)
      for (const node of state.nodes.values()) if (node.runId === null) settle(state, node, now, commands)
      break
  }
  // Thousands of standbys beat every few seconds: what led to nothing frees or brings nobody, and ticks catch the rest.
  if (event.type === 'message' && commands.length === 0) return commands
  for (const run of state.runs.values()) if (run.members.length === 0) form(state, run, now, commands)
  return commands
}

function enter(
  state: OrchestratorState,
  node: Extract<OrchestratorEvent, { type: 'nodeJoined' }>['node'],
  now: number,
  commands: Commands,
): void {
  for (const other of [...state.nodes.values()]) {
    if (other.deviceId !== node.deviceId && other.id !== node.id) continue
    leave(state, other, 'its device connected again', now, commands)
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
  const entered: FleetNode = {
    ...node,
    phase: 'standby',
    progress: null,
    stats: NO_STATS,
    lastHeard: now,
    lastProgress: now,
    paused: false,
    suspect: false,
    backAt: -Infinity,
    detachedAt: null,
    penaltyUntil: 0,
    troubles: 0,
    gpuFailures: new Map(),
    open: null,
    runId: null,
    stage: -1,
    ready: null,
    presumedAt: null,
    loadedFrom: null,
    busyMs: null,
    links: new Map(),
    nearness: { rttMs: new Map(), coordinate: null },
    waitingAt: -Infinity,
    waitingOn: [],
    blamedSince: null,
    deadLinks: 0,
    distrusts: { step: 0, count: 0 },
    pingedAt: -Infinity,
  }
  state.nodes.set(node.id, entered)
  // What it holds may be all that is left of a run: `standby` would make it drop that.
  if (entered.holding && awaitsNodes(state)) return
  if (admit(state, entered, now, commands)) return
  commands.push({ type: 'send', nodeId: node.id, message: { type: 'standby', reason: standbyReason(state) } })
}

export function standbyReason(state: OrchestratorState): string {
  const runs = [...state.runs.values()]
  const active = runs.filter((run) => run.state !== 'waiting' && run.state !== 'paused')
  const waiting = runs.find((run) => run.state === 'waiting')
  if (waiting) return `“${waiting.name}” waits for more volunteers.`
  if (active.length > 0) return 'Every place in the current run is taken; this device steps in when one falls free.'
  const paused = runs.find((run) => run.state === 'paused')
  if (paused) return `“${paused.name}” is paused until there is money for its next step.`
  return 'No run is under way; this device starts as soon as a researcher launches one.'
}

function leave(state: OrchestratorState, node: FleetNode, why: string, now: number, commands: Commands): void {
  state.nodes.delete(node.id)
  const run = node.runId === null ? undefined : state.runs.get(node.runId)
  if (run) dismiss(state, run, node, why === 'its tab was closed' ? 'left' : 'silent', why, now, commands)
}

function evict(state: OrchestratorState, node: FleetNode, now: number, commands: Commands): void {
  const seconds = Math.round((now - node.lastHeard) / 1000)
  leave(state, node, `it was silent for ${seconds} s`, now, commands)
  const error = {
    code: 'control.silent',
    message: `The server heard nothing from this device for ${seconds} s.`,
    remedy: 'Check the connection; the page connects again by itself.',
  }
  commands.push({ type: 'disconnect', nodeId: node.id, error })
}

/** Finds a free node a place, or has it drop what it kept for a run that went on without it. */
function settle(state: OrchestratorState, node: FleetNode, now: number, commands: Commands): void {
  if (admit(state, node, now, commands) || !node.holding || awaitsNodes(state)) return
  node.holding = null
  commands.push({ type: 'send', nodeId: node.id, message: { type: 'standby', reason: standbyReason(state) } })
}

/** Whether some run still hopes for its nodes after the server's restart. */
function awaitsNodes(state: OrchestratorState): boolean {
  for (const run of state.runs.values()) if (run.recoverUntil !== null) return true
  return false
}

/** Any word from a node ends the suspicion; leases come back to it with the next step. */
function hear(state: OrchestratorState, node: FleetNode, now: number, commands: Commands): void {
  node.lastHeard = now
  if (!node.suspect) return
  node.suspect = false
  node.backAt = now
  const run = node.runId === null ? undefined : state.runs.get(node.runId)
  if (!run) return
  readmit(run, node, now, commands)
  const text = `A volunteer of stage ${node.stage + 1} is heard again; it goes on with the next step.`
  commands.push({ type: 'tell', runId: run.id, step: run.step, text })
  commands.push({ type: 'runChanged', runId: run.id })
}

function onMessage(
  state: OrchestratorState,
  nodeId: string,
  message: Extract<OrchestratorEvent, { type: 'message' }>['message'],
  now: number,
  commands: Commands,
): void {
  const node = state.nodes.get(nodeId)
  if (!node) return
  hear(state, node, now, commands)
  const run = node.runId === null ? undefined : state.runs.get(node.runId)
  switch (message.type) {
    case 'hello':
      return
    case 'heartbeat':
      if (node.phase !== message.phase || node.progress !== message.progress) {
        node.lastProgress = now
        if (run && node.ready === null) run.lastProgress = now
      }
      // A long step brings no other news: work that gets done is progress.
      if (message.stats.tokens > node.stats.tokens) {
        node.blamedSince = null
        if (run?.round) run.round.movedAt = now
      }
      node.phase = message.phase
      node.progress = message.progress
      node.stats = message.stats
      return
    case 'pause':
      node.paused = true
      node.phase = 'paused'
      // With its stage it has let go of that.
      node.holding = null
      if (!run) return
      commands.push({
        type: 'send',
        nodeId,
        message: { type: 'release', generation: run.generation, reason: 'paused' },
      })
      dismiss(state, run, node, 'left', 'its owner paused it', now, commands)
      return
    case 'resume':
      // `standby` takes the assignment away: a node that never paused must not get it.
      if (!node.paused) return
      node.paused = false
      node.phase = 'standby'
      if (!admit(state, node, now, commands))
        commands.push({ type: 'send', nodeId, message: { type: 'standby', reason: standbyReason(state) } })
      return
    case 'leaving':
      leave(state, node, 'its tab was closed', now, commands)
      return
    case 'failed':
      onHoldingLost(state, node, message, now)
      if (run && message.generation === run.generation) onRunMessage(state, run, node, message, now, commands)
      return
    default:
      if (run && message.generation === run.generation) onRunMessage(state, run, node, message, now, commands)
  }
}
