/** Owns the update of a shard: once a step at each of its two owners, sent out by the first and compared by the second. */
import type { ServerMessage } from '../../protocol/control.ts'
import { laneCount, overlaps } from '../../protocol/lanes.ts'
import type { StageEvent } from '../machineTypes.ts'
import { changeOwners, reportReduced } from './merge.ts'
import { expectMeans, stand, takeHeld, writeParameters } from './standing.ts'
import { type Actions, addressOf, NOWHERE, report, type StageState, type StepState, sums, updatable } from './state.ts'

type Message<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>
type Happened<T, K extends StageEvent<T>['type']> = Extract<StageEvent<T>, { type: K }>

export function onApply<T>(state: StageState<T>, message: Message<'apply'>, actions: Actions<T>): void {
  const current = state.current!
  const { lr, scale, attempt, receivers, step } = message
  current.apply = { lr, scale, attempt, receivers }
  state.applied = { step, attempt }
  expectMeans(state)
  changeOwners(state, message.owners, actions)
  for (let shard = 0; shard < current.shards.length; shard++) {
    takeHeld(state, shard, actions)
    if (current.shards[shard]!.update === 'done') publish(state, current, shard, actions)
    else updateShard(state, shard, actions)
  }
}

/** Tells of the shard's sum, and updates it once that, the server's word and the vectors of the step before are all here. */
export function updateShard<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const { current } = state
  const sum = current?.shards[shard]
  if (!current || !sum) return
  reportReduced(state, shard, actions)
  askMean(state, shard, actions)
  const { apply, step } = current
  if (!apply || !sum.reduced || !sums(state, shard) || !updatable(state, shard)) return
  // Guard: idempotence. A second `apply` names new owners; it does not move the parameters a second time.
  if (sum.update !== 'none') return
  sum.update = 'asked'
  state.updating.set(shard, step)
  actions.push({ type: 'update', shard, step, lr: apply.lr, scale: apply.scale })
}

/** Where merges overlap local steps the first owner sends the mean as soon as it can be made: links carry it meanwhile. */
function askMean<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const { step, shards, apply } = state.current!
  const { config } = state.assignment!
  const sum = shards[shard]!
  if (!overlaps(config) || state.places[shard] !== 0 || !sum.reduced || apply || sum.meanAsked === sum.attempt) return
  sum.meanAsked = sum.attempt
  const scale = 1 / laneCount(config)
  actions.push({ type: 'mean', step, attempt: sum.attempt, shard, scale })
}

/** All who work in the step get it; those who only stand by, with the update. */
export function onMeanMade<T>(state: StageState<T>, event: Happened<T, 'meanMade'>, actions: Actions<T>): void {
  const { current } = state
  const { shard, attempt, tensor } = event
  const sum = current?.shards[shard]
  if (!current || !sum || event.step !== current.step || attempt !== sum.attempt || state.places[shard] !== 0) return
  const ids = new Set([...current.reduce!.contributors.map(([id]) => id), ...state.owners[shard]!])
  sendResult(state, current, shard, { ids, attempt, tensor }, actions)
}

export function onUpdated<T>(state: StageState<T>, event: Happened<T, 'updated'>, actions: Actions<T>): void {
  const { current } = state
  const { shard, step, tensor } = event
  state.updating.delete(shard)
  state.moments[shard] = step
  if (!current || current.step !== step) {
    // Once the next step is under way its owners may have gone on without this node, whose own bytes may differ from theirs.
    const finished = state.finishing.delete(shard) && (!current || state.places[shard] === 0)
    stand(state, shard, finished ? step : NOWHERE)
    state.madeBy[shard] = finished ? state.self : null
    return
  }
  state.parameters[shard] = step
  state.madeBy[shard] = state.self
  const sum = current.shards[shard]!
  sum.update = 'done'
  sum.bytes = tensor
  publish(state, current, shard, actions)
}

/** The first owner sends its parameters to the stage; the second holds its own against them. */
function publish<T>(state: StageState<T>, current: StepState<T>, shard: number, actions: Actions<T>): void {
  const sum = current.shards[shard]!
  if (state.places[shard] === 1) return compareShard(state, shard, actions)
  if (state.places[shard] !== 0 || sum.bytes === null) return
  const { generation, config } = state.assignment!
  const { step, apply } = current
  report(actions, { type: 'updated', generation, step, shard })
  const attempt = apply?.attempt ?? 0
  if (config.sync === 'local' && state.means[shard]?.step !== step)
    state.means[shard] = { step, attempt, tensor: sum.bytes, again: new Set() }
  sendResult(state, current, shard, { ids: apply?.receivers ?? [], attempt, tensor: sum.bytes }, actions)
}

/** To those of them to whom this attempt's was not sent yet. */
function sendResult<T>(
  state: StageState<T>,
  { step, shards }: StepState<T>,
  shard: number,
  { ids, attempt, tensor }: { ids: Iterable<string>; attempt: number; tensor: T },
  actions: Actions<T>,
): void {
  const { stage, config } = state.assignment!
  const { sentTo } = shards[shard]!
  for (const to of ids) {
    if (to === state.self || sentTo.has(to)) continue
    sentTo.add(to)
    const local = config.sync === 'local'
    const address = addressOf(state, local ? 'meanShard' : 'parameterShard', step, shard, stage, local ? attempt : 0)
    actions.push({ type: 'send', to, address, tensor, again: false })
  }
}

/** Holds this node's update against the first owner's and takes the latter, once both are here. */
export function compareShard<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const { current } = state
  const sum = current?.shards[shard]
  if (!current || !sum || state.places[shard] !== 1 || sum.update !== 'done' || sum.awaiting === null) return
  const { tensor, mean } = sum.awaiting
  sum.awaiting = null
  // The mean of lanes is the same at both, or the step is void.
  if (state.assignment!.config.sync === 'exact') sum.bytes = tensor
  // Guard: owner compare. Two nodes sum and update each shard apart, so that a false update is seen.
  const compare = true
  writeParameters(state, { shard, step: current.step, from: sum.takenFrom, tensor, compare, mean }, actions)
}
