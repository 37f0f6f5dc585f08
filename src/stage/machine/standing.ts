/** Owns after which step a node's parameters and moments stand, and how those of other nodes take their place. */
import { overlaps } from '../../protocol/lanes.ts'
import type { StageEvent, TensorAddress } from '../machineTypes.ts'
import { dropCases } from './jury.ts'
import { type Actions, addressOf, announce, computedOut, NOWHERE, refuse, report, type StageState, type StepState } from './state.ts' // prettier-ignore

type Happened<T, K extends StageEvent<T>['type']> = Extract<StageEvent<T>, { type: K }>
type ShardKind = 'parameterShard' | 'momentShard'

/** Shards being read for others at one time. */
const MAX_READS = 256
/** Steps whose parameters wait for a device that takes none, as one that hangs; what is refused is asked for again. */
const MAX_STEPS_WAITING = 4

/** Whether what stands here after `step` is what the whole stage has, or will have. */
export function stands<T>(state: StageState<T>, kind: ShardKind, shard: number, step: number): boolean {
  if (kind === 'momentShard') return state.moments[shard] === step
  if (state.parameters[shard] !== step) return false
  const by = state.madeBy[shard] ?? null
  const first = state.owners[shard]?.[0]
  return by === null || first === undefined || first === state.self || first === by
}

/** With local steps the lanes' mean is on its way to all: whoever asks too soon gets what is many times as long. */
export function expectMeans<T>(state: StageState<T>): void {
  if (state.assignment!.config.sync === 'local') state.wantedAt = state.now
}

/** Other bytes are a shard's parameters now; with local steps the outer momentum is part of them. */
export function stand<T>(state: StageState<T>, shard: number, step: number): void {
  state.parameters[shard] = step
  if (state.assignment!.config.sync === 'local') state.moments[shard] = step
}

/** With local steps everybody has the outer momentum: an owner says so, where others say it once moments have come. */
export function tellHeld<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const { current, assignment } = state
  if (assignment?.config.sync !== 'local' || current?.mode !== 'train' || state.places[shard]! < 0) return
  // Of a kept model what is still on its way into the device is counted on, and does not stand there yet.
  if (!state.prepared) return
  const { committed: step } = current
  if (state.moments[shard] === step) report(actions, { type: 'held', generation: assignment.generation, step, shard })
}

/**
 * With local steps a node that took the mean of the step under way has its moments too. Once an owner is lost it says so, for
 * it may be the only one that has them.
 */
export function tellTaken<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const { current, assignment } = state
  if (assignment?.config.sync !== 'local' || current?.mode !== 'train' || !current.bereft) return
  const { step } = current
  if (state.parameters[shard] !== step || state.moments[shard] !== step) return
  report(actions, { type: 'taken', generation: assignment.generation, step, shard })
}

/**
 * The step before is committed. Bytes of it that are not its first owner's go: an update of this node's own that was not
 * replaced, or those of an owner that was lost.
 */
export function settle<T>(state: StageState<T>, committed: number): void {
  for (let shard = 0; shard < state.parameters.length; shard++) {
    const by = state.madeBy[shard] ?? null
    if (by === null) continue
    if (!stands(state, 'parameterShard', shard, state.parameters[shard]!)) stand(state, shard, NOWHERE)
    state.madeBy[shard] = null
  }
  for (const write of state.writes)
    if (write.step === committed && write.from !== null && write.from !== state.owners[write.shard]?.[0])
      write.void = true
}

/** Sees whether all parameters stand after the committed step, and tells the server if it cannot know. */
export function seeWhole<T>(state: StageState<T>, actions: Actions<T>): void {
  const { current } = state
  if (!current || !state.prepared) return
  let complete = true
  for (const step of state.parameters) if (step !== current.committed) complete = false
  state.complete = complete
  if (!complete) return
  // Of a node with leases the server hears by its work; one without may be given some once it can begin.
  const news = current.leases.size === 0 && state.announced !== current.committed
  if (news || state.announced === NOWHERE) announce(state, current.committed, actions)
}

/** Whether the parameters of a shard have still to come from elsewhere for this step to be computed. */
export function lacksParameters<T>(state: StageState<T>, current: StepState<T>, shard: number): boolean {
  const step = state.parameters[shard]
  if (step === current.committed || (current.mode === 'train' && step === current.step)) return false
  for (const write of state.writes)
    if (write.shard === shard && write.step >= current.committed && !write.void) return false
  return current.shards[shard]?.update !== 'asked'
}

export function lacksMoments<T>(state: StageState<T>, current: StepState<T>, shard: number): boolean {
  if (current.mode !== 'train' || state.places[shard]! < 0 || state.assignment!.config.sync === 'local') return false
  if (state.moments[shard] === current.committed || state.moments[shard] === current.step) return false
  for (const write of state.momentWrites) if (write.shard === shard && write.step === current.committed) return false
  return true
}

export function fileParameters<T>(
  state: StageState<T>,
  from: string,
  address: TensorAddress,
  tensor: T,
  actions: Actions<T>,
): void {
  const current = state.current!
  const { index: shard, step } = address
  if (address.boundary !== state.assignment!.stage || shard >= state.parameters.length) return refuse(state)
  const place = state.owners[shard]?.indexOf(from) ?? -1
  if (place < 0 || state.writes.length >= MAX_STEPS_WAITING * state.parameters.length) return refuse(state)
  const mean = address.kind === 'meanShard'
  if (step === current.committed) {
    if (!lacksParameters(state, current, shard)) return refuse(state)
    if (mean && !(isApplied(state, address) && stepsFrom(state, shard, step))) return refuse(state)
    writeParameters(state, { shard, step, from: null, tensor, compare: false, mean }, actions)
    return
  }
  const sum = current.shards[shard]
  const own = state.places[shard]!
  if (!sum || step !== current.step || place > 1 || own === 0 || (own === 1 && place !== 0)) return refuse(state)
  if (mean && !current.apply && overlaps(state.assignment!.config) && place === 0) {
    if (attemptOf(sum.held) < address.attempt) sum.held = { from, address, tensor }
    return
  }
  if (sum.takenFrom === from || (mean && !isApplied(state, address))) return refuse(state)
  // The second owner sends only where the first is lost: what that one sent before does not come back.
  if (place === 0 && sum.takenFrom !== null) return refuse(state)
  // The parameters of the step before are needed until every microbatch has gone through them.
  if (!current.revoked && !computedOut(current)) return refuse(state)
  if (mean && own !== 1 && !stepsFrom(state, shard, step)) return refuse(state)
  sum.takenFrom = from
  if (own === 1) sum.awaiting = { tensor, mean }
  else writeParameters(state, { shard, step, from, tensor, compare: false, mean }, actions)
}

const attemptOf = (held: { readonly address: TensorAddress } | null) => held?.address.attempt ?? NOWHERE

/** Guard: sums that became void. A mean that was sent ahead is taken if it is of the attempt that was applied, and not before. */
function isApplied<T>(state: StageState<T>, { step, attempt }: TensorAddress): boolean {
  return !overlaps(state.assignment!.config) || (state.applied?.step === step && state.applied.attempt === attempt)
}

/** The step is applied: what was sent ahead of it comes now. */
export function takeHeld<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const sum = state.current!.shards[shard]!
  const { held } = sum
  sum.held = null
  if (held) fileParameters(state, held.from, held.address, held.tensor, actions)
}

/** Whether what stands of a shard is what the outer step `step` begins with, and nothing else is on its way into it. */
function stepsFrom<T>(state: StageState<T>, shard: number, step: number): boolean {
  // Who has just lost its place among the owners may still be taking the step by itself, even if it has heard of the next one.
  if (state.updating.has(shard)) return false
  return state.parameters[shard] === step - 1 && !state.writes.some((pending) => pending.shard === shard)
}

interface Taken<T> {
  readonly shard: number
  readonly step: number
  readonly from: string | null
  readonly tensor: T
  readonly compare: boolean
  readonly mean: boolean
}

/** Takes a shard's parameters in the place of this node's own. */
export function writeParameters<T>(
  state: StageState<T>,
  { shard, step, from, tensor, compare, mean }: Taken<T>,
  actions: Actions<T>,
): void {
  const { current } = state
  if (current?.step === step) dropCases(state, current, 'The step is being applied.', actions)
  state.writes.push({ shard, step, from, compare, void: false })
  actions.push({ type: 'writeParameters', shard, step, tensor, compare, mean })
}

export function onParametersWritten<T>(
  state: StageState<T>,
  event: Happened<T, 'parametersWritten'>,
  actions: Actions<T>,
): void {
  const { shard, step, agrees } = event
  const at = state.writes.findIndex((pending) => pending.shard === shard && pending.step === step)
  const done = state.writes[at]
  if (!done) return
  state.writes.splice(at, 1)
  stand(state, shard, done.void ? NOWHERE : step)
  const { current } = state
  const over = !current || step !== current.step
  state.madeBy[shard] = over ? null : done.from
  const { generation } = state.assignment!
  if (step === current?.committed) tellHeld(state, shard, actions)
  if (!over && !done.void) tellTaken(state, shard, actions)
  if (done.compare) report(actions, { type: 'compared', generation, step, shard, agrees })
}

export function fileMoments<T>(
  state: StageState<T>,
  from: string,
  address: TensorAddress,
  tensor: T,
  actions: Actions<T>,
): void {
  const current = state.current!
  const { index: shard, step, boundary } = address
  if (boundary !== state.assignment!.stage || shard >= state.moments.length) return refuse(state)
  if (step !== current.committed || !state.owners[shard]?.includes(from)) return refuse(state)
  if (current.shards[shard]?.update === 'asked' || !lacksMoments(state, current, shard)) return refuse(state)
  state.momentWrites.push({ shard, step })
  actions.push({ type: 'writeMoments', shard, step, tensor })
}

export function onMomentsWritten<T>(
  state: StageState<T>,
  event: Happened<T, 'momentsWritten'>,
  actions: Actions<T>,
): void {
  const { shard, step } = event
  const at = state.momentWrites.findIndex((pending) => pending.shard === shard && pending.step === step)
  if (at < 0) return
  state.momentWrites.splice(at, 1)
  state.moments[shard] = step
  const { generation } = state.assignment!
  report(actions, { type: 'held', generation, step, shard })
}

/** Reads a shard for another node, if it stands after the step that is asked for. */
export function serveShard<T>(state: StageState<T>, from: string, address: TensorAddress, actions: Actions<T>): void {
  const kind = address.kind as ShardKind
  const { index: shard, step } = address
  if (!state.prepared || !stands(state, kind, shard, step)) return
  const mean = state.means[shard]
  if (mean?.step === step && !mean.again.has(from)) {
    // It is a fraction of the whole, and mostly only late. Who cannot use it asks once more.
    mean.again.add(from)
    const address = addressOf(state, 'meanShard', step, shard, state.assignment!.stage, mean.attempt)
    actions.push({ type: 'send', to: from, address, tensor: mean.tensor, again: true })
    return
  }
  const reading = `${kind} ${shard} ${from}`
  if (state.reads.has(reading) || state.reads.size >= MAX_READS) return
  state.reads.add(reading)
  actions.push({ type: 'readShard', kind, step, shard, to: from })
}

export function onShardRead<T>(state: StageState<T>, event: Happened<T, 'shardRead'>, actions: Actions<T>): void {
  const { kind, shard, step, to, tensor } = event
  // An update may have come between the asking and the reading.
  if (!state.reads.delete(`${kind} ${shard} ${to}`) || !stands(state, kind, shard, step)) return
  const address = addressOf(state, kind, step, shard, state.assignment!.stage)
  actions.push({ type: 'send', to, address, tensor, again: true })
}

export function save<T>(state: StageState<T>, step: number, shards: readonly number[], actions: Actions<T>): void {
  for (const shard of shards)
    if (stands(state, 'parameterShard', shard, step) && stands(state, 'momentShard', shard, step))
      actions.push({ type: 'save', step, shard })
}
