/**
 * Owns the order of things within one stage: what a node computes, sends and reports next, given what has arrived.
 *
 * A pure core: no clock, no randomness, no I/O. `advance` changes the state it is given and returns the actions that
 * follow; the worker carries them out on a GPU and over WebRTC, the simulation in plain integers.
 */
import type { ServerMessage } from '../protocol/control.ts'
import { announceKept, assign, clear, onPrepared } from './machine/assignment.ts'
import { onShow, onShowTaken } from './machine/exhibits.ts'
import { dropCases, fileInput, onRecompute, onRecomputed, onTestified, proceedWithCases } from './machine/jury.ts'
import { onInnerUpdated } from './machine/lanes.ts'
import {
  fileBoundary,
  measureWhenIdle,
  onComputed,
  proceedWithLeases,
  reportFinished,
  takeTable,
} from './machine/leases.ts'
import { changeOwners, fileShare, onGradientRead, onReduce, onReduced, onTally } from './machine/merge.ts'
import { onSigned } from './machine/receipts.ts'
import { fileRelay, onLost } from './machine/relays.ts'
import { expectMeans, fileMoments, fileParameters, onMomentsWritten, onParametersWritten, onShardRead, save, seeWhole, settle, tellHeld, tellTaken } from './machine/standing.ts' // prettier-ignore
import { type Actions, type EarlyFrame, NOWHERE, newShardState, refuse, report, setOwners, type StageState } from './machine/state.ts' // prettier-ignore
import { compareShard, onApply, onMeanMade, onUpdated, updateShard } from './machine/updates.ts'
import { onLinkLost, onTick, onWant, wantShares, wantVectors } from './machine/wants.ts'
import type { StageAction, StageEvent } from './machineTypes.ts'

export { holding } from './machine/holding.ts'
export { initialStageState, laneNeighbours, type StageState } from './machine/state.ts'

type Message<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>
type OwnProgress<T> = Exclude<StageEvent<T>, { type: 'server' | 'frame' | 'want' | 'linkLost' | 'tick' }>

/** More early frames than one step can bring are a fault of the sender. */
const MAX_EARLY_FRAMES = 4096

export function advance<T>(state: StageState<T>, event: StageEvent<T>): StageAction<T>[] {
  const actions: StageAction<T>[] = []
  switch (event.type) {
    case 'tick':
      onTick(state, event.now, actions)
      return actions
    case 'want':
      onWant(state, event, actions)
      return actions
    case 'linkLost':
      onLinkLost(state, event.node, actions)
      return actions
    case 'server':
      onServerMessage(state, event.message, actions)
      break
    case 'frame':
      onFrame(state, event, actions)
      break
    default:
      if (state.assignment?.generation !== event.generation) return actions
      onOwnProgress(state, event, actions)
  }
  if (!state.complete) seeWhole(state, actions)
  proceedWithLeases(state, actions)
  proceedWithCases(state, actions)
  return actions
}

function onServerMessage<T>(state: StageState<T>, message: ServerMessage, actions: Actions<T>): void {
  const { assignment, current } = state
  switch (message.type) {
    case 'welcome':
      state.self = message.nodeId
      setOwners(state, state.owners)
      return
    case 'challenge':
    case 'rejected':
    case 'ping':
    case 'token':
    case 'credited':
      return
    case 'assign':
      assign(state, message.assignment, actions)
      return
    case 'standby':
      clear(state, actions)
      return
  }
  if (message.generation !== assignment?.generation) return
  switch (message.type) {
    case 'release':
      clear(state, actions)
      return
    case 'step':
      onStep(state, message, actions)
      return
    case 'save':
      save(state, message.step, message.shards, actions)
      return
  }
  if (!current || message.step !== current.step) return
  switch (message.type) {
    case 'leases':
      takeTable(state, message, actions)
      return
    case 'revoked':
      // Guard: revocation. Others compute this node's microbatches now: its own sum of the whole step must not count.
      current.revoked = true
      dropCases(state, current, 'This node sits out.', actions)
      return
    case 'owners':
      changeOwners(state, message.owners, actions)
      wantVectors(state, actions)
      return
    case 'reduce':
      onReduce(state, message, actions)
      wantShares(state, actions)
      return
    case 'show':
      onShow(state, message, actions)
      return
    case 'showTaken':
      onShowTaken(state, message, actions)
      return
    case 'recompute':
      onRecompute(state, message, actions)
      return
    case 'tally':
      onTally(state, message, actions)
      return
    case 'lost':
      current.bereft = true
      for (let shard = 0; shard < state.parameters.length; shard++) tellTaken(state, shard, actions)
      onLost(state, message, actions)
      return
    case 'apply':
      onApply(state, message, actions)
  }
}

function onStep<T>(state: StageState<T>, message: Message<'step'>, actions: Actions<T>): void {
  const { step, mode, committed, window, owners } = message
  if (state.current && step <= state.current.step) return
  // After a restart nobody remembers whose bytes were the stage's: they are those of who is first among the owners now.
  if (state.owners.length === 0) setOwners(state, owners)
  if (state.current) dropCases(state, state.current, 'The step is over.', actions)
  settle(state, committed)
  if (owners.length > 0) setOwners(state, owners)
  state.current = {
    step,
    mode,
    committed,
    shared: mode === 'train' && state.owners.some((places) => places.some((id) => id !== state.self)),
    window,
    version: 0,
    reported: 0,
    signing: 0,
    revoked: false,
    leases: new Map(),
    forwards: [],
    backwards: [],
    started: 0,
    done: 0,
    busyMs: 0,
    begun: false,
    computing: false,
    lanes: mode === 'train' && state.assignment!.config.sync === 'local' ? new Map() : null,
    openLanes: 0,
    lane: null,
    strays: new Set(),
    shards: mode === 'train' ? Array.from(state.parameters, () => newShardState<T>()) : [],
    reduce: null,
    lost: new Set(),
    bereft: false,
    apply: null,
    cases: [],
  }
  state.progressed = true
  state.complete = false
  expectMeans(state)
  takeTable(state, message, actions)
  measureWhenIdle(state, state.current, actions)
  for (let shard = 0; shard < state.places.length; shard++) tellHeld(state, shard, actions)
  replayEarly(state, actions)
  wantVectors(state, actions)
}

function replayEarly<T>(state: StageState<T>, actions: Actions<T>): void {
  if (!state.current || state.early.size === 0) return
  const early = Array.from(state.early.values())
  state.early.clear()
  for (const frame of early) onFrame(state, frame, actions)
}

/** Files a tensor under its address, if the sender is the one whose work that tensor is. */
function onFrame<T>(state: StageState<T>, frame: EarlyFrame<T>, actions: Actions<T>): void {
  const { assignment, current } = state
  const { from, address, tensor } = frame
  if (!assignment || address.generation !== assignment.generation) return refuse(state)
  const parameters = address.kind === 'parameterShard' || address.kind === 'meanShard'
  const vectors = parameters || address.kind === 'momentShard'
  const ahead = current ? address.step === current.step + 1 : mayBegin(state, address.step)
  if (ahead || (vectors && !state.prepared)) return putBy(state, frame)
  if (!current) return refuse(state)
  if (parameters) {
    fileParameters(state, from, address, tensor, actions)
    compareShard(state, address.index, actions)
    return
  }
  if (address.kind === 'momentShard') return fileMoments(state, from, address, tensor, actions)
  if (address.step !== current.step) return refuse(state)
  if (address.kind === 'gradientShard') return fileShare(state, from, frame, actions)
  if (address.kind === 'relayedShard') return fileRelay(state, from, frame, actions)
  if (fileInput(state, from, address, tensor, frame.digest)) return
  fileBoundary(state, from, address, tensor, frame.digest, actions)
}

/** Whether the first step this node hears of may be this one; who has no parameters yet cannot know. */
function mayBegin<T>(state: StageState<T>, step: number): boolean {
  const { source, checkpoint, finish } = state.assignment!
  if (source === 'checkpoint') return step === checkpoint.step + 1
  const at = finish?.step ?? state.parameters[0] ?? NOWHERE
  return source === 'peers' || at === NOWHERE || step === at + 1
}

function putBy<T>(state: StageState<T>, frame: EarlyFrame<T>): void {
  const { kind, index, step, attempt } = frame.address
  // Of parameters the latest counts, whoever sent them.
  const latest = kind === 'parameterShard' || kind === 'meanShard'
  const key = latest ? `${kind} ${index}` : `${kind} ${index} ${frame.from}`
  const known = state.early.get(key)
  const older = known && (step < known.address.step || (step === known.address.step && attempt < known.address.attempt))
  if (older || (!known && state.early.size >= MAX_EARLY_FRAMES)) return refuse(state)
  state.early.set(key, frame)
}

function onOwnProgress<T>(state: StageState<T>, event: OwnProgress<T>, actions: Actions<T>): void {
  switch (event.type) {
    case 'shardRead':
      onShardRead(state, event, actions)
      return
    case 'saved':
    case 'tallied':
      report(actions, event.message)
      return
    case 'failed':
      clear(state, actions)
      report(actions, event.message)
      return
  }
  switch (event.type) {
    case 'prepared':
      state.progressed = true
      onPrepared(state, event, actions)
      for (let shard = 0; shard < state.places.length; shard++) tellHeld(state, shard, actions)
      replayEarly(state, actions)
      wantVectors(state, actions)
      return
    case 'measured':
      report(actions, { type: 'measured', generation: event.generation, expectedMs: event.expectedMs })
      return
    case 'computed':
      state.progressed = true
      onComputed(state, event, actions)
      return
    case 'innerUpdated':
      state.progressed = true
      onInnerUpdated(state, event, actions)
      return
    case 'recomputed':
      state.progressed = true
      onRecomputed(state, event, actions)
      return
    case 'testified':
      onTestified(state, event, actions)
      return
    case 'signed':
      state.progressed = true
      if (onSigned(state, event, actions)) reportFinished(state, state.current!, actions)
      return
    case 'gradientRead':
      onGradientRead(state, event, actions)
      return
    case 'reduced':
      onReduced(state, event)
      updateShard(state, event.shard, actions)
      return
    case 'meanMade':
      onMeanMade(state, event, actions)
      return
    case 'updated':
      onUpdated(state, event, actions)
      if (state.finishing.size === 0) announceKept(state, actions)
      return
    case 'parametersWritten':
      onParametersWritten(state, event, actions)
      updateShard(state, event.shard, actions)
      return
    case 'momentsWritten':
      onMomentsWritten(state, event, actions)
      updateShard(state, event.shard, actions)
  }
}
