/**
 * Owns the order of things within one stage: what a node computes, sends and reports next, given what has arrived.
 *
 * A pure core: no clock, no randomness, no I/O. `advance` changes the state it is given and returns the actions that
 * follow; the worker carries them out on a GPU and over WebRTC, the simulation in plain integers.
 */
import type { Assignment } from '../protocol/control.ts'
import { microbatchesOf, ownerOf } from '../protocol/routing.ts'
import { nextCompute } from './schedule.ts'
import type { StageAction, StageEvent, TensorAddress } from './machineTypes.ts'

/** One training step or one round of an evaluation, from the server's `step` to its end here. */
export interface StepState<T> {
  readonly step: number
  readonly mode: 'train' | 'evaluate'
  /** Microbatches this replica owns, in order. */
  readonly owned: readonly number[]
  /** Boundary inputs that arrived and have not been consumed. */
  readonly activations: Map<number, T>
  /** Gradients of this stage's output that arrived and have not been consumed. */
  readonly gradients: Map<number, T>
  /** Microbatches whose input was taken up, so that a repeated activation is known as such. */
  readonly started: Set<number>
  readonly forwarded: Set<number>
  /** Microbatches whose gradient was taken up, so that a repeated one is not summed twice. */
  readonly returned: Set<number>
  readonly finished: Set<number>
  computing: boolean
  merging: boolean
  /** What each replica adds to this replica's shard. */
  readonly contributions: Map<number, T>
  reducing: boolean
  reduced: boolean
  updating: boolean
  /** Other owners' shards that arrived. */
  readonly received: Set<number>
  /** Shards whose new parameters are in place, the own one among them. */
  readonly written: Set<number>
  reportedApplied: boolean
}

export interface StageState<T> {
  assignment: Assignment | null
  prepared: boolean
  current: StepState<T> | null
  /** Frames of this generation whose step the server has not announced to us yet: at most one step ahead. */
  early: { from: string; address: TensorAddress; tensor: T }[]
  /** Frames refused because they were stale, repeated or from the wrong node. */
  refusedFrames: number
}

/** More early frames than one step can bring are a fault of the sender. */
const MAX_EARLY_FRAMES = 4096

export function initialStageState<T>(): StageState<T> {
  return { assignment: null, prepared: false, current: null, early: [], refusedFrames: 0 }
}

export function advance<T>(state: StageState<T>, event: StageEvent<T>): StageAction<T>[] {
  const actions: StageAction<T>[] = []
  switch (event.type) {
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
  return actions
}

type Actions<T> = StageAction<T>[]
type ServerEvent<T> = Extract<StageEvent<T>, { type: 'server' }>['message']

function onServerMessage<T>(state: StageState<T>, message: ServerEvent<T>, actions: Actions<T>): void {
  switch (message.type) {
    case 'assign':
      if (state.assignment && message.assignment.generation <= state.assignment.generation) return
      clear(state, actions)
      state.assignment = message.assignment
      actions.push({ type: 'prepare', assignment: message.assignment })
      return
    case 'release':
    case 'standby':
      if (message.type === 'release' && message.generation !== state.assignment?.generation) return
      clear(state, actions)
      return
    case 'step':
      if (message.generation === state.assignment?.generation) beginStep(state, message, actions)
      return
    case 'apply': {
      const { current, assignment } = state
      if (message.generation !== assignment?.generation || message.step !== current?.step) return
      if (!current.reduced || current.updating) return
      current.updating = true
      const { step, lr, scale } = message
      actions.push({ type: 'update', shard: assignment.replica, step, lr, scale })
      return
    }
    case 'save':
      if (message.generation === state.assignment?.generation) actions.push({ type: 'save', step: message.step })
      return
    case 'welcome':
    case 'rejected':
      return
  }
}

function clear<T>(state: StageState<T>, actions: Actions<T>): void {
  if (state.assignment) actions.push({ type: 'discard' })
  state.assignment = null
  state.prepared = false
  state.current = null
  state.early = []
}

function beginStep<T>(
  state: StageState<T>,
  message: Extract<ServerEvent<T>, { type: 'step' }>,
  actions: Actions<T>,
): void {
  const { assignment } = state
  if (!assignment || !state.prepared || (state.current && message.step <= state.current.step)) return
  state.current = {
    step: message.step,
    mode: message.mode,
    owned: microbatchesOf(
      assignment.members,
      assignment.stage,
      assignment.replica,
      message.first,
      message.microbatches,
    ),
    activations: new Map(),
    gradients: new Map(),
    started: new Set(),
    forwarded: new Set(),
    returned: new Set(),
    finished: new Set(),
    computing: false,
    merging: false,
    contributions: new Map(),
    reducing: false,
    reduced: false,
    updating: false,
    received: new Set(),
    written: new Set(),
    reportedApplied: false,
  }
  if (message.mode === 'train') actions.push({ type: 'beginStep' })
  const early = state.early
  state.early = []
  for (const frame of early) onFrame(state, { type: 'frame', ...frame }, actions)
  proceed(state, actions)
}

/** Files a tensor under its address, if the sender is the one whose work that tensor is. */
function onFrame<T>(
  state: StageState<T>,
  { from, address, tensor }: Extract<StageEvent<T>, { type: 'frame' }>,
  actions: Actions<T>,
): void {
  const { assignment, current } = state
  const refuse = () => void state.refusedFrames++
  if (!assignment || address.generation !== assignment.generation) return refuse()
  if (from !== senderOf(assignment, address)) return refuse()
  const next = current ? current.step + 1 : assignment.checkpoint.step + 1
  if (address.step > next) return refuse()
  if (address.step === next) {
    const repeated = state.early.some((frame) => sameAddress(frame.address, address))
    if (repeated || state.early.length >= MAX_EARLY_FRAMES) return refuse()
    state.early.push({ from, address, tensor })
    return
  }
  if (!current || address.step < current.step) return refuse()

  const { kind, index } = address
  const training = current.mode === 'train'
  switch (kind) {
    case 'activation':
      if (!current.owned.includes(index)) return refuse()
      if (current.activations.has(index) || current.started.has(index)) return refuse()
      current.activations.set(index, tensor)
      break
    case 'gradient':
      if (!current.forwarded.has(index)) return refuse()
      if (current.gradients.has(index) || current.returned.has(index)) return refuse()
      current.gradients.set(index, tensor)
      break
    case 'gradientShard':
      if (!training || current.reducing || current.contributions.has(address.replica)) return refuse()
      current.contributions.set(address.replica, tensor)
      break
    case 'parameterShard':
      if (!training || current.received.has(index)) return refuse()
      current.received.add(index)
      actions.push({ type: 'writeParameters', shard: index, tensor })
      return
  }
  proceed(state, actions)
}

/** Whose work a tensor with this address is, if it is meant for this stage at all. */
function senderOf({ members, stage, replica }: Assignment, address: TensorAddress): string | undefined {
  const { kind, index, boundary } = address
  switch (kind) {
    case 'activation':
      return stage > 0 && boundary === stage - 1 ? ownerOf(members, index, boundary) : undefined
    case 'gradient':
      return stage < members.length - 1 && boundary === stage ? ownerOf(members, index, stage + 1) : undefined
    case 'gradientShard':
      return boundary === stage && index === replica ? members[stage]![address.replica] : undefined
    case 'parameterShard':
      return boundary === stage && index !== replica ? members[stage]![index] : undefined
  }
}

/** Of two addresses that passed {@link senderOf}: only shards of a gradient come from several nodes for one index. */
function sameAddress(a: TensorAddress, b: TensorAddress): boolean {
  const oneSender = a.kind !== 'gradientShard' || a.replica === b.replica
  return a.kind === b.kind && a.step === b.step && a.index === b.index && oneSender
}

type OwnProgress<T> = Exclude<StageEvent<T>, { type: 'server' } | { type: 'frame' }>

function onOwnProgress<T>(state: StageState<T>, event: OwnProgress<T>, actions: Actions<T>): void {
  const assignment = state.assignment!
  const { generation, members, stage, replica } = assignment
  const report = (message: Extract<StageAction<T>, { type: 'report' }>['message']) =>
    void actions.push({ type: 'report', message })

  switch (event.type) {
    case 'prepared':
      state.prepared = true
      report({ type: 'ready', generation })
      return
    case 'failed':
      clear(state, actions)
      report(event.message)
      return
    case 'saved':
      report(event.message)
      return
  }
  const current = state.current
  if (!current) return
  const { step } = current
  const address = (kind: TensorAddress['kind'], index: number, boundary: number): TensorAddress => ({
    kind,
    generation,
    step,
    index,
    boundary,
    replica,
  })
  switch (event.type) {
    case 'computed': {
      const { op, microbatch: m, output, loss } = event
      current.computing = false
      if (op === 'forward') current.forwarded.add(m)
      else current.finished.add(m)
      if (loss) report({ type: 'loss', generation, step, microbatch: m, lossSum: loss.sum, tokens: loss.tokens })
      const backward = op === 'backward' || op === 'forwardBackward'
      if (output !== null && backward)
        actions.push({
          type: 'send',
          to: ownerOf(members, m, stage - 1),
          address: address('gradient', m, stage - 1),
          tensor: output,
        })
      else if (output !== null)
        actions.push({
          type: 'send',
          to: ownerOf(members, m, stage + 1),
          address: address('activation', m, stage),
          tensor: output,
        })
      break
    }
    case 'gradientRead':
      if (event.shard === replica) current.contributions.set(replica, event.tensor)
      else
        actions.push({
          type: 'send',
          to: members[stage]![event.shard]!,
          address: address('gradientShard', event.shard, stage),
          tensor: event.tensor,
        })
      break
    case 'reduced':
      current.reduced = true
      report({ type: 'shardReduced', generation, step, shard: replica, squaredNorm: event.squaredNorm })
      break
    case 'updated':
      current.written.add(replica)
      members[stage]!.forEach((to, other) => {
        if (other !== replica)
          actions.push({ type: 'send', to, address: address('parameterShard', replica, stage), tensor: event.tensor })
      })
      break
    case 'parametersWritten':
      current.written.add(event.shard)
      break
  }
  proceed(state, actions)
}

/** Starts whatever can start now: the next microbatch, the merge once all are done, the report once all is merged. */
function proceed<T>(state: StageState<T>, actions: Actions<T>): void {
  const { assignment, current } = state
  if (!assignment || !current) return
  const { generation, replica, stage } = assignment
  const replicas = assignment.members[stage]!.length

  if (!current.computing) {
    const next = nextCompute(current, assignment.stage, assignment.members.length)
    if (next) {
      current.computing = true
      actions.push({ type: 'compute', step: current.step, ...next })
    }
  }
  if (current.mode === 'evaluate' || current.finished.size < current.owned.length) return

  if (!current.merging) {
    current.merging = true
    if (replicas > 1) for (let shard = 0; shard < replicas; shard++) actions.push({ type: 'readGradient', shard })
  }
  if (!current.reducing && (replicas === 1 || current.contributions.size === replicas)) {
    current.reducing = true
    const contributions = Array.from(current.contributions).sort(([a], [b]) => a - b)
    actions.push({ type: 'reduce', shard: replica, contributions: contributions.map(([, tensor]) => tensor) })
    current.contributions.clear()
  }
  if (current.written.size === replicas && !current.reportedApplied) {
    current.reportedApplied = true
    actions.push({ type: 'report', message: { type: 'stepApplied', generation, step: current.step } })
  }
}
