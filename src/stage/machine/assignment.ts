/** Owns how a stage comes to its vectors, keeps them from one generation to the next, and lets them go. */
import type { Assignment } from '../../protocol/control.ts'
import { shardCount } from '../../protocol/routing.ts'
import type { StageEvent } from '../machineTypes.ts'
import { summedShards } from './holding.ts'
import { stand } from './standing.ts'
import { type Actions, announce, hasVectors, NOWHERE, report, setOwners, type StageState } from './state.ts'

type Prepared<T> = Extract<StageEvent<T>, { type: 'prepared' }>

export function assign<T>(state: StageState<T>, assignment: Assignment, actions: Actions<T>): void {
  const held = state.assignment
  if (held && held.runId === assignment.runId && assignment.generation < held.generation) return
  const same = held?.runId === assignment.runId && held.stage === assignment.stage
  if (assignment.source === 'held') {
    if (same && hasVectors(state)) return keep(state, assignment, actions)
    if (!same) return lackAll(state, assignment, actions)
  }
  clear(state, actions)
  state.assignment = assignment
  const shards = shardCount(assignment.config)
  state.parameters = new Array<number>(shards).fill(NOWHERE)
  state.moments = new Array<number>(shards).fill(NOWHERE)
  state.means = new Array<null>(shards).fill(null)
  state.madeBy = new Array<string | null>(shards).fill(null)
  state.places = new Array<number>(shards).fill(-1)
  actions.push({ type: 'prepare', assignment })
}

/** The word to go on crossed the word that all was lost: whoever counts on this node is to know. */
function lackAll<T>(state: StageState<T>, { generation }: Assignment, actions: Actions<T>): void {
  clear(state, actions)
  report(actions, { type: 'failed', generation, error: LACKS_ALL })
}

const LACKS_ALL = {
  code: 'stage.not_held',
  message: 'This device no longer has the stage that it was to go on with.',
  remedy: 'Nothing to do: it is given a stage anew.',
}

/** Goes on with what stands on the device; what is under way there in order is done before `prepared` answers. */
function keep<T>(state: StageState<T>, assignment: Assignment, actions: Actions<T>): void {
  const { current } = state
  const { finish } = assignment
  takeFinishing(state)
  dropOutdated(state)
  for (const write of state.writes) {
    stand(state, write.shard, write.void ? NOWHERE : write.step)
    state.madeBy[write.shard] = write.from
  }
  for (const { shard, step } of state.momentWrites) state.moments[shard] = step
  current?.shards.forEach(({ update }, shard) => {
    if (update !== 'asked') return
    state.parameters[shard] = current.step
    state.moments[shard] = current.step
    state.madeBy[shard] = state.self
  })
  const summed = finish && current?.step === finish.step ? summedShards(state) : []
  forget(state)
  state.assignment = assignment
  state.kept = true
  actions.push({ type: 'keep', assignment })
  for (const shard of summed) {
    const before = finish!.step - 1
    if (state.parameters[shard] !== before || state.moments[shard] !== before) continue
    state.finishing.add(shard)
    state.updating.set(shard, finish!.step)
    actions.push({ type: 'update', shard, step: finish!.step, lr: finish!.lr, scale: finish!.scale })
  }
}

/** A step that this node was to finish as it was told to keep its model: its device does so before it does anything else. */
function takeFinishing<T>(state: StageState<T>): void {
  for (const shard of state.finishing) {
    const { step } = state.assignment!.finish!
    state.parameters[shard] = step
    state.moments[shard] = step
    state.madeBy[shard] = state.self
  }
}

/** What this node still updates by itself of a step that others have gone on from may differ from theirs. */
function dropOutdated<T>(state: StageState<T>): void {
  for (const [shard, step] of state.updating) {
    if (step === state.current?.step || state.finishing.has(shard)) continue
    state.moments[shard] = step
    stand(state, shard, NOWHERE)
    state.madeBy[shard] = null
  }
}

export function clear<T>(state: StageState<T>, actions: Actions<T>): void {
  if (state.assignment) actions.push({ type: 'discard' })
  state.assignment = null
  forget(state)
  state.kept = false
  state.parameters = []
  state.moments = []
  state.means = []
  state.madeBy = []
  state.places = []
}

/** Drops everything of a generation but the vectors' steps. */
function forget<T>(state: StageState<T>): void {
  state.prepared = false
  state.complete = false
  state.announced = NOWHERE
  setOwners(state, [])
  state.writes = []
  state.momentWrites = []
  state.reads.clear()
  state.finishing.clear()
  state.updating.clear()
  state.current = null
  state.applied = null
  state.early.clear()
  state.progressed = true
}

export function onPrepared<T>(state: StageState<T>, event: Prepared<T>, actions: Actions<T>): void {
  if (state.prepared) return
  const { step, expectedMs } = event
  state.prepared = true
  state.expectedMs = expectedMs
  if (!state.kept && step !== null) {
    state.parameters.fill(step)
    state.moments.fill(step)
  }
  if (state.current) return // Its vectors are asked for, and it is ready when they are there.
  if (state.kept) announceKept(state, actions)
  else if (step !== null) announce(state, step, actions)
}

/**
 * A kept model is ready at the step its parameters stand after. Where it finished a step of which other shards are still
 * to come, it is ready for the step after that all the same: their owners are named in it.
 */
export function announceKept<T>(state: StageState<T>, actions: Actions<T>): void {
  if (!state.kept || !state.prepared || state.current || state.finishing.size > 0) return
  if (state.announced !== NOWHERE) return
  const first = state.parameters[0] ?? NOWHERE
  const whole = first !== NOWHERE && state.parameters.every((step) => step === first)
  const finish = state.assignment!.finish?.step
  if (whole) announce(state, first, actions)
  else if (finish !== undefined && state.parameters.includes(finish)) announce(state, finish, actions)
}
