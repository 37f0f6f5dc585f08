/**
 * Owns the order of work where lanes take steps of their own: which lane is on the device, and within it one inner step after
 * another, 1F1B in each.
 *
 * Lanes of a node wait for each other, and those of its neighbours may be in another order: a lane that cannot go on gives its
 * place to a lower one that can. All nodes then come to the lowest lane that has not ended, so that no circle of waiting lasts.
 */
import { innerSteps, lanePlace, updateMicrobatches } from '../../protocol/lanes.ts'
import type { StageEvent } from '../machineTypes.ts'
import { type NextCompute, takeBackward, takeForward } from '../schedule.ts'
import { shareAhead } from './merge.ts'
import { type Actions, report, type StageState, type StepState } from './state.ts'

type Updated<T> = Extract<StageEvent<T>, { type: 'innerUpdated' }>

/** So long a lane that cannot go on is waited for before a higher one takes its place: somebody may have been lost. */
const HIGHER_MS = 3000

/** One lane at this stage, from its lease to its last update. */
export interface LaneState {
  readonly lane: number
  /** The inner step under way, from 0; as many as there are once the lane has ended. */
  inner: number
  /** Microbatches of it that are begun, and those that are taken backward. */
  started: number
  done: number
}

/** Makes room for the lane of a microbatch that is newly leased. */
export function openLane<T>(state: StageState<T>, current: StepState<T>, microbatch: number): void {
  if (!current.lanes) return
  const { lane } = lanePlace(state.assignment!.config, microbatch)
  if (current.lanes.has(lane)) return
  current.lanes.set(lane, { lane, inner: 0, started: 0, done: 0 })
  current.openLanes++
}

export function laneOf<T>(state: StageState<T>, current: StepState<T>, microbatch: number): LaneState | null {
  return current.lanes?.get(lanePlace(state.assignment!.config, microbatch).lane) ?? null
}

/** Whether a microbatch is of an inner step that its lane has not come to. */
export function isAhead<T>(state: StageState<T>, current: StepState<T>, microbatch: number): boolean {
  const lane = laneOf(state, current, microbatch)
  return lane !== null && lanePlace(state.assignment!.config, microbatch).inner > lane.inner
}

/** Whether as many of the lane's microbatches are in flight as may be. */
export function laneFull<T>(state: StageState<T>, { started, done }: LaneState): boolean {
  const { stage, config } = state.assignment!
  return stage < config.stages - 1 && started - done >= state.current!.window
}

/** The lane on the device goes on; where it has ended, the first that can. */
export function proceedWithLanes<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  const lane = current.lane === null ? null : current.lanes!.get(current.lane)!
  if (lane && !ended(state, lane)) goOn(state, current, lane, actions)
  else enter(state, current, actions)
}

/** After `idleMs` in which the lane on the device had nothing to compute: another may have. */
export function giveWay<T>(state: StageState<T>, current: StepState<T>, idleMs: number, actions: Actions<T>): void {
  if (!current.lanes || current.computing || current.revoked || !state.complete) return
  const next = firstAble(state, current)
  const higher = current.lane !== null && next !== null && next.lane > current.lane
  if (!higher || idleMs >= HIGHER_MS) enter(state, current, actions)
}

function firstAble<T>(state: StageState<T>, current: StepState<T>): LaneState | null {
  const able = [...current.lanes!.values()].filter((lane) => !ended(state, lane) && canGoOn(state, current, lane))
  return able.sort((a, b) => a.lane - b.lane)[0] ?? null
}

function enter<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  const next = firstAble(state, current)
  if (!next) return
  if (!current.begun) actions.push({ type: 'beginStep', step: current.step })
  current.begun = true
  if (current.lane !== next.lane) actions.push({ type: 'enterLane', step: current.step, lane: next.lane })
  current.lane = next.lane
  goOn(state, current, next, actions)
}

function ended<T>(state: StageState<T>, { inner }: LaneState): boolean {
  return inner >= innerSteps(state.assignment!.config)
}

function canGoOn<T>(state: StageState<T>, current: StepState<T>, lane: LaneState): boolean {
  if (lane.done === updateMicrobatches(state.assignment!.config)) return true
  return backwardOf(state, current, lane) !== undefined || forwardOf(state, current, lane) !== undefined
}

function backwardOf<T>(state: StageState<T>, current: StepState<T>, { lane }: LaneState): number | undefined {
  const { config } = state.assignment!
  return current.backwards.find((microbatch) => lanePlace(config, microbatch).lane === lane)
}

/** What comes for a later inner step waits until this stage has taken the update before it. */
function forwardOf<T>(state: StageState<T>, current: StepState<T>, lane: LaneState): number | undefined {
  if (laneFull(state, lane)) return undefined
  const { config } = state.assignment!
  return current.forwards.find((microbatch) => {
    const place = lanePlace(config, microbatch)
    return place.lane === lane.lane && place.inner === lane.inner
  })
}

function goOn<T>(state: StageState<T>, current: StepState<T>, lane: LaneState, actions: Actions<T>): void {
  const { config, stage } = state.assignment!
  const { step } = current
  if (lane.done === updateMicrobatches(config)) {
    current.computing = true
    actions.push({ type: 'innerUpdate', step, lane: lane.lane, inner: lane.inner })
    return
  }
  const back = backwardOf(state, current, lane)
  const forth = back === undefined ? forwardOf(state, current, lane) : undefined
  let next: NextCompute<T>
  if (back !== undefined) next = takeBackward(current, back)
  else if (forth !== undefined) {
    next = takeForward(current, forth, stage, config.stages)
    lane.started++
  } else return
  current.computing = true
  actions.push({ type: 'compute', ...next, step })
}

/** A microbatch of a lane was taken backward. */
export function countDone<T>(state: StageState<T>, current: StepState<T>, microbatch: number): void {
  const lane = laneOf(state, current, microbatch)
  if (lane) lane.done++
}

export function onInnerUpdated<T>(state: StageState<T>, event: Updated<T>, actions: Actions<T>): void {
  const { current } = state
  const lane = current?.lanes?.get(event.lane)
  if (!current || event.step !== current.step || !lane || event.inner !== lane.inner) return
  current.computing = false
  if (current.revoked) return
  lane.inner++
  lane.started = 0
  lane.done = 0
  if (ended(state, lane)) {
    current.openLanes--
    current.lane = null
  }
  shareAhead(state, current, actions)
  const { generation } = state.assignment!
  report(actions, { type: 'advanced', generation, step: current.step, lane: lane.lane, inner: lane.inner })
}
