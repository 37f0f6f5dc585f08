/** Owns a step's leases: whose work is whose, the tensors that come in for them, and those that go out. */
import type { LeaseTable } from '../../protocol/control.ts'
import type { StageEvent, TensorAddress, TensorDigest } from '../machineTypes.ts'
import { enqueue, nextCompute } from '../schedule.ts'
import { dropCases } from './jury.ts'
import { countDone, laneOf, openLane, proceedWithLanes } from './lanes.ts'
import { restoreShares, shareOut } from './merge.ts'
import { askSignature } from './receipts.ts'
import { type Actions, addressOf, computedOut, type Lease, refuse, report, type StageState, type StepState } from './state.ts' // prettier-ignore

type Computed<T> = Extract<StageEvent<T>, { type: 'computed' }>

/** More strays than one step can bring are a fault of the sender. */
const MAX_STRAYS = 4096

/** Adds the leases that are new and leads the others to their neighbours, who get at once what is already made for them. */
export function takeTable<T>(state: StageState<T>, table: LeaseTable & { version: number }, actions: Actions<T>): void {
  const current = state.current!
  // Guard: revocation. The gradient sum of a revoked step is void, and whatever is leased in it would be lost.
  if (current.revoked) return
  if (table.version < current.version) return
  if (table.version > current.version) {
    dropCases(state, current, 'This node has other work.', actions)
    restoreShares(current, actions)
  }
  current.version = table.version
  const neighbour = (place: number) => (place < 0 ? null : (table.peers[place] ?? null))
  for (const [microbatch, up, down] of table.leases) {
    const lease = current.leases.get(microbatch)
    if (lease) reroute(state, lease, neighbour(up), neighbour(down), actions)
    else addLease(state, current, microbatch, neighbour(up), neighbour(down), actions)
  }
}

/** Steps without a lease after which a node looks again how fast it is; the next time after twice as many. */
const IDLE_STEPS = 4

/**
 * A node that was slow for a while, when it warmed up or because something else kept it busy, is given no leases, and would
 * never show that it is fast again. Before the step's first work, for it clears the gradient.
 */
export function measureWhenIdle<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  if (current.mode !== 'train' || !state.prepared) return
  state.idleSteps = current.leases.size > 0 ? 0 : state.idleSteps + 1
  const doublings = Math.log2(state.idleSteps / IDLE_STEPS)
  if (doublings >= 0 && Number.isInteger(doublings)) actions.push({ type: 'measure', step: current.step })
}

function addLease<T>(
  state: StageState<T>,
  current: StepState<T>,
  microbatch: number,
  up: string | null,
  down: string | null,
  actions: Actions<T>,
): void {
  const { stage } = state.assignment!
  openLane(state, current, microbatch)
  current.leases.set(microbatch, {
    microbatch,
    up,
    down,
    phase: 'waiting',
    activatedBy: null,
    returnedBy: null,
    input: null,
    gradient: null,
    activation: null,
    inputGradient: null,
    kept: { activation: null, gradient: null },
    digests: { activationTaken: null, activationMade: null, gradientTaken: null, gradientMade: null },
    lossSum: 0,
    lossTokens: 0,
  })
  if (stage === 0) enqueue(current.forwards, microbatch)
  callStray(state, current, 'activation', microbatch, up, actions)
  callStray(state, current, 'gradient', microbatch, down, actions)
}

function reroute<T>(
  state: StageState<T>,
  lease: Lease<T>,
  up: string | null,
  down: string | null,
  actions: Actions<T>,
): void {
  const current = state.current!
  if (up !== lease.up) {
    lease.up = up
    if (lease.inputGradient !== null) sendOutput(state, current, 'gradient', lease, actions)
    if (lease.activatedBy === null) callStray(state, current, 'activation', lease.microbatch, up, actions)
  }
  if (down !== lease.down) {
    lease.down = down
    if (lease.activation !== null) sendOutput(state, current, 'activation', lease, actions)
    if (lease.returnedBy === null) callStray(state, current, 'gradient', lease.microbatch, down, actions)
  }
}

/** A tensor that was refused because its sender was no neighbour yet is asked for now that it is. */
function callStray<T>(
  state: StageState<T>,
  current: StepState<T>,
  kind: 'activation' | 'gradient',
  microbatch: number,
  from: string | null,
  actions: Actions<T>,
): void {
  if (from === null || !current.strays.delete(`${kind} ${microbatch} ${from}`)) return
  const { stage } = state.assignment!
  const boundary = kind === 'activation' ? stage - 1 : stage
  actions.push({ type: 'want', to: from, address: addressOf(state, kind, current.step, microbatch, boundary) })
}

/** Files an activation or a gradient with its lease, if the sender is the neighbour whose work it is. */
export function fileBoundary<T>(
  state: StageState<T>,
  from: string,
  address: TensorAddress,
  tensor: T,
  digest: TensorDigest | null,
  actions: Actions<T>,
): void {
  const current = state.current!
  const { stage } = state.assignment!
  const forward = address.kind === 'activation'
  if (address.boundary !== (forward ? stage - 1 : stage) || current.revoked) return refuse(state)
  const lease = current.leases.get(address.index)
  if (!lease || from !== (forward ? lease.up : lease.down)) {
    if (current.strays.size < MAX_STRAYS) current.strays.add(`${address.kind} ${address.index} ${from}`)
    return refuse(state)
  }
  // Guard: idempotence. A tensor that is repeated, or made again by a new owner, is not computed or summed a second time.
  if ((forward ? lease.activatedBy : lease.returnedBy) !== null) return refuse(state)
  if (forward) {
    lease.activatedBy = from
    lease.input = tensor
    lease.digests.activationTaken = digest
    enqueue(current.forwards, address.index)
  } else {
    if (current.mode === 'evaluate') return refuse(state)
    lease.returnedBy = from
    lease.gradient = tensor
    lease.digests.gradientTaken = digest
    // Before its forward is done here a gradient waits: the neighbour may have it from the owner before.
    if (lease.phase !== 'waiting' && lease.phase !== 'forwarding') enqueue(current.backwards, address.index)
  }
  // Guard: audits. Only who took it still has what was made by somebody that is gone.
  if (current.shared && !current.lanes) lease.kept[forward ? 'activation' : 'gradient'] = tensor
  state.progressed = true
  wantGap(state, current, from, address, actions)
}

/**
 * Neighbours send what they make in the order of the microbatches, as good as always: one that came without the one before
 * it says that this was lost, long before this node is idle for the want of it.
 */
function wantGap<T>(
  state: StageState<T>,
  current: StepState<T>,
  from: string,
  { kind, index, boundary, step }: TensorAddress,
  actions: Actions<T>,
): void {
  const before = current.leases.get(index - 1)
  if (!before || laneOf(state, current, index) !== laneOf(state, current, index - 1)) return
  const lacking =
    kind === 'activation'
      ? before.up === from && before.activatedBy === null
      : before.down === from && before.returnedBy === null
  if (lacking) actions.push({ type: 'want', to: from, address: addressOf(state, kind, step, index - 1, boundary) })
}

export function onComputed<T>(state: StageState<T>, event: Computed<T>, actions: Actions<T>): void {
  const { current } = state
  if (!current || event.step !== current.step) return
  current.computing = false
  if (current.revoked) return
  const lease = current.leases.get(event.microbatch)
  if (!lease || lease.phase !== (event.op === 'backward' ? 'returning' : 'forwarding')) return
  const { op, output, digest, loss } = event
  current.busyMs += event.busyMs
  if (loss) {
    lease.lossSum = loss.sum
    lease.lossTokens = loss.tokens
  }
  if (op === 'forward') {
    lease.phase = 'forwarded'
    if (lease.returnedBy !== null) enqueue(current.backwards, event.microbatch)
  } else {
    lease.phase = 'done'
    current.done++
    countDone(state, current, event.microbatch)
  }
  if (output === null) return
  const kind = op === 'backward' || op === 'forwardBackward' ? 'gradient' : 'activation'
  // Guard: cache until commit. Only the maker of a tensor can give it to an owner who takes a neighbour's leases over.
  keepOutput(lease, kind, output)
  if (kind === 'activation') lease.digests.activationMade = digest
  else lease.digests.gradientMade = digest
  // Who has already sent the gradient back had the activation from the owner before.
  if (kind === 'activation' && lease.returnedBy !== null && lease.returnedBy === lease.down) return
  sendTensor(state, current, kind, lease, output, actions)
}

function keepOutput<T>(lease: Lease<T>, kind: 'activation' | 'gradient', output: T): void {
  if (kind === 'activation') lease.activation = output
  else lease.inputGradient = output
}

function sendOutput<T>(
  state: StageState<T>,
  current: StepState<T>,
  kind: 'activation' | 'gradient',
  lease: Lease<T>,
  actions: Actions<T>,
): void {
  sendTensor(state, current, kind, lease, (kind === 'activation' ? lease.activation : lease.inputGradient)!, actions)
}

function sendTensor<T>(
  state: StageState<T>,
  current: StepState<T>,
  kind: 'activation' | 'gradient',
  lease: Lease<T>,
  tensor: T,
  actions: Actions<T>,
): void {
  const { stage } = state.assignment!
  const to = kind === 'activation' ? lease.down : lease.up
  if (to === null) return
  const boundary = kind === 'activation' ? stage : stage - 1
  const address = addressOf(state, kind, current.step, lease.microbatch, boundary)
  actions.push({ type: 'send', to, address, tensor, again: false })
}

/** Starts what can start now, and reports when nothing is left to. */
export function proceedWithLeases<T>(state: StageState<T>, actions: Actions<T>): void {
  const { current, assignment } = state
  if (!current || current.revoked || current.leases.size === 0) return
  const { stage, config } = assignment!
  if (current.lanes) {
    if (!current.computing && state.complete) proceedWithLanes(state, current, actions)
  } else if (!current.computing && state.complete) {
    const next = nextCompute(current, stage, config.stages)
    if (next) {
      if (!current.begun && current.mode === 'train') actions.push({ type: 'beginStep', step: current.step })
      current.begun = true
      current.computing = true
      actions.push({ type: 'compute', op: next.op, microbatch: next.microbatch, step: current.step, input: next.input })
    }
  }
  if (!computedOut(current) || current.reported === current.version) return
  if (current.mode === 'train') askSignature(state, current, actions)
  else reportFinished(state, current, actions)
}

/** Every lease is computed, and in training signed for. */
export function reportFinished<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  const { stage, config, generation } = state.assignment!
  current.reported = current.version
  const { step, version, done } = current
  const last = stage === config.stages - 1
  const busyMs = done > 0 ? current.busyMs / done : null
  report(actions, { type: 'finished', generation, step, version, losses: last ? lossesOf(current) : [], busyMs })
  if (current.mode === 'train') shareOut(state, current, actions)
}

function lossesOf<T>(current: StepState<T>): [number, number, number][] {
  const losses: [number, number, number][] = []
  for (const { microbatch, lossSum, lossTokens } of current.leases.values())
    losses.push([microbatch, lossSum, lossTokens])
  return losses.sort(([a], [b]) => a - b)
}
