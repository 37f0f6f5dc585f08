/** Owns what a stage lacks and whom it asks for it, and what it gives to those who ask. */
import type { StageEvent, TensorAddress, TensorKind } from '../machineTypes.ts'
import { windowFull } from '../schedule.ts'
import { wantInputsAgain } from './jury.ts'
import { giveWay, isAhead, laneFull, laneOf } from './lanes.ts'
import { lacksShare, serveShare } from './merge.ts'
import { otherOwner, relayAddress, serveRelay } from './relays.ts'
import { lacksMoments, lacksParameters, serveShard } from './standing.ts'
import { type Actions, addressOf, refuse, report, type StageState, type StepState, sums } from './state.ts'

/** A tensor that did not come for so long may have been lost. */
const IDLE_MS = 500
/** And is asked for again no sooner than this. */
const WANT_AGAIN_MS = 1000
/** After so long the server hears who holds this node up, and again every two seconds. */
const WAITING_MS = 1500
const WAITING_AGAIN_MS = 2000
const MAX_WAITED_FOR = 64
/** Boundary tensors asked for at a time: the first to be used, and of the others as many in turn. */
const WANTED_FIRST = 2
const WANTED_IN_TURN = 2
/** Wants answered between two ticks; who asks for more asks again. */
const MAX_SERVED = 1024

interface Want {
  readonly to: string
  readonly address: TensorAddress
}

export function onWant<T>(
  state: StageState<T>,
  event: Extract<StageEvent<T>, { type: 'want' }>,
  actions: Actions<T>,
): void {
  const { from, address } = event
  const { assignment, current } = state
  if (!assignment || address.generation !== assignment.generation || state.served >= MAX_SERVED) return refuse(state)
  state.served++
  const { kind, index, boundary, step } = address
  const { stage } = assignment
  if (kind === 'activation' || kind === 'gradient') {
    if (!current || step !== current.step) return
    const lease = current.leases.get(index)
    const [made, taken] = kind === 'activation' ? [stage, stage - 1] : [stage - 1, stage]
    const madeHere = kind === 'activation' ? lease?.activation : lease?.inputGradient
    // What was taken a juror asks for, whoever made it being gone.
    const tensor = (boundary === made ? madeHere : boundary === taken ? lease?.kept[kind] : null) ?? null
    const address = addressOf(state, kind, step, index, boundary)
    if (tensor !== null) actions.push({ type: 'send', to: from, address, tensor, again: true })
  } else if (kind === 'relayedShard') serveRelay(state, from, address, actions)
  else if (boundary !== stage || kind === 'meanShard') return
  else if (kind === 'momentShard' && assignment.config.sync === 'local') return
  else if (kind === 'gradientShard') serveShare(state, from, address, actions)
  else serveShard(state, from, address, actions)
}

export function onTick<T>(state: StageState<T>, now: number, actions: Actions<T>): void {
  state.now = now
  state.served = 0
  const { assignment, current } = state
  if (state.progressed || current?.computing) {
    state.progressed = false
    state.activeAt = now
  }
  if (!assignment || !state.prepared || !current) return
  const idle = now - state.activeAt
  if (idle >= IDLE_MS) giveWay(state, current, idle, actions)
  // Shares and vectors were on their way before this node knew that it needs them: they are late however busy it is.
  const wants: Want[] = []
  lackingVectors(state, current, wants)
  if (idle >= IDLE_MS && !current.revoked && state.complete) lackingTensors(state, current, wants)
  wantInputsAgain(state, WANT_AGAIN_MS, actions)
  if (wants.length === 0) return
  if (now - state.wantedAt >= WANT_AGAIN_MS) {
    state.wantedAt = now
    state.round++
    for (const want of inTurn(wants, state.round)) actions.push({ type: 'want', to: want.to, address: want.address })
  }
  if (idle < WAITING_MS || now - state.waitingAt < WAITING_AGAIN_MS) return
  state.waitingAt = now
  const on = new Set<string>()
  for (const { to } of wants) if (on.size < MAX_WAITED_FOR) on.add(to)
  report(actions, { type: 'waiting', generation: assignment.generation, step: current.step, on: [...on] })
}

/** What was under way from the other node is lost. */
export function onLinkLost<T>(state: StageState<T>, node: string, actions: Actions<T>): void {
  const { assignment, current } = state
  if (!assignment) return
  report(actions, { type: 'linkLost', generation: assignment.generation, node })
  if (!state.prepared || !current) return
  for (const want of lacking(state, current))
    if (want.to === node) actions.push({ type: 'want', to: want.to, address: want.address })
}

/**
 * While a pipeline fills most of what a node lacks was never made: it asks for the inputs and the gradients that it would
 * use first. The others have their turn because a neighbour may have made a later one, and wait for its gradient.
 */
function inTurn(wants: readonly Want[], round: number): Want[] {
  const asked: Want[] = []
  const others: Want[] = []
  const first = { activation: WANTED_FIRST, gradient: WANTED_FIRST }
  for (const want of wants) {
    const { kind } = want.address
    const boundary = kind === 'activation' || kind === 'gradient'
    if (!boundary || first[kind]-- > 0) asked.push(want)
    else others.push(want)
  }
  const turns = Math.min(WANTED_IN_TURN, others.length)
  for (let i = 0; i < turns; i++) asked.push(others[(round * WANTED_IN_TURN + i) % others.length]!)
  return asked
}

/** Asks at once for what nobody is sending unasked: moments, and parameters that are more than a step behind. */
export function wantVectors<T>(state: StageState<T>, actions: Actions<T>): void {
  const { current } = state
  if (!current || !state.prepared) return
  const wants: Want[] = []
  for (let shard = 0; shard < state.parameters.length; shard++) {
    const underWay = state.parameters[shard] === current.committed - 1
    if (!underWay && lacksParameters(state, current, shard))
      wantShard(state, 'parameterShard', current.committed, shard, wants)
    if (lacksMoments(state, current, shard)) wantShard(state, 'momentShard', current.committed, shard, wants)
  }
  for (const want of wants) actions.push({ type: 'want', to: want.to, address: want.address })
}

function wantShard<T>(state: StageState<T>, kind: TensorKind, step: number, shard: number, wants: Want[]): void {
  const others = (state.owners[shard] ?? []).filter((id) => id !== state.self)
  const to = others[state.round % others.length]
  if (to !== undefined) wants.push({ to, address: addressOf(state, kind, step, shard, state.assignment!.stage) })
}

/** Everything that would let this node go on, each with the node that has it. */
function lacking<T>(state: StageState<T>, current: StepState<T>): Want[] {
  const wants: Want[] = []
  lackingVectors(state, current, wants)
  if (!current.revoked && state.complete) lackingTensors(state, current, wants)
  return wants
}

function lackingVectors<T>(state: StageState<T>, current: StepState<T>, wants: Want[]): void {
  for (let shard = 0; shard < state.parameters.length; shard++) {
    if (lacksParameters(state, current, shard)) wantShard(state, 'parameterShard', current.committed, shard, wants)
    if (lacksMoments(state, current, shard)) wantShard(state, 'momentShard', current.committed, shard, wants)
  }
  for (let shard = 0; shard < current.shards.length; shard++)
    if (sums(state, shard)) lackingOfShard(state, current, shard, wants)
}

/** Every contributor sent its share before it said that it had finished: what is not here by the time of the sum is late. */
export function wantShares<T>(state: StageState<T>, actions: Actions<T>): void {
  const current = state.current!
  const wants: Want[] = []
  for (let shard = 0; shard < current.shards.length; shard++)
    if (sums(state, shard)) lackingOfShard(state, current, shard, wants)
  for (const { to, address } of wants)
    if (address.kind !== 'parameterShard') actions.push({ type: 'want', to, address })
}

function lackingTensors<T>(state: StageState<T>, current: StepState<T>, wants: Want[]): void {
  const { stage, config } = state.assignment!
  const { step, mode } = current
  const full = windowFull(current, stage, config.stages)
  for (const lease of current.leases.values()) {
    const { microbatch: m, phase } = lease
    if (isAhead(state, current, m)) continue
    const lane = laneOf(state, current, m)
    const held = lane ? laneFull(state, lane) : full
    if (phase === 'waiting' && lease.activatedBy === null && lease.up !== null && !held)
      wants.push({ to: lease.up, address: addressOf(state, 'activation', step, m, stage - 1) })
    if (phase === 'forwarded' && lease.returnedBy === null && lease.down !== null && mode === 'train')
      wants.push({ to: lease.down, address: addressOf(state, 'gradient', step, m, stage) })
  }
}

function lackingOfShard<T>(state: StageState<T>, current: StepState<T>, shard: number, wants: Want[]): void {
  const { stage } = state.assignment!
  const { step, reduce } = current
  const sum = current.shards[shard]!
  const other = otherOwner(state, shard)
  reduce?.contributors.forEach((contributor, place) => {
    const [id, version] = contributor
    if (id === state.self || !lacksShare(state, shard, contributor)) return
    if (!current.lost.has(id))
      wants.push({ to: id, address: addressOf(state, 'gradientShard', step, shard, stage, version) })
    else if (other !== null) wants.push({ to: other, address: relayAddress(state, shard, place) })
  })
  const first = state.owners[shard]?.[0]
  if (state.places[shard] === 1 && sum.update === 'done' && sum.takenFrom === null && first !== undefined)
    wants.push({ to: first, address: addressOf(state, 'parameterShard', step, shard, stage) })
}
