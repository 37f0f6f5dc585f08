/**
 * Owns the recomputation of another replica's claim: its inputs are fetched from the neighbours that keep them, and it is
 * computed by the ordinary kernels into the gradient's place on the device, while that is not needed.
 *
 * One at a time, once this node's own work is done. Whatever the step needs of this node comes first: then all are declined.
 */
import type { ServerMessage } from '../../protocol/control.ts'
import type { Digest } from '../../protocol/receipt.ts'
import type { ComputeOp, StageEvent, TensorAddress, TensorDigest } from '../machineTypes.ts'
import { type Actions, addressOf, computedOut, report, type StageState, type StepState, sums } from './state.ts'

type Happened<T, K extends StageEvent<T>['type']> = Extract<StageEvent<T>, { type: K }>
type Asked = Extract<ServerMessage, { type: 'recompute' }>

/** Audits that wait for this node at one time. */
const MAX_CASES = 8

/** What of a microbatch goes in: a tensor, where it comes from and what it has to be. */
interface Input<T> {
  from: string
  readonly claimed: Digest
  taken: { readonly tensor: T; readonly digest: TensorDigest } | null
}

interface Row<T> {
  readonly microbatch: number
  /** Null where the stage has no such neighbour. */
  readonly activation: Input<T> | null
  readonly gradient: Input<T> | null
  phase: 'waiting' | 'forwarding' | 'returning' | 'done'
  loss: number
}

/** One audit that this node was asked to recompute the claim of. */
export interface Case<T> {
  readonly audit: string
  readonly seed: readonly [number, number]
  readonly shard: number
  /** Whose tensors are told. */
  readonly microbatch: number
  readonly rows: ReadonlyMap<number, Row<T>>
  begun: boolean
  computing: boolean
  /** When its inputs were asked for last. */
  wantedAt: number
  /** Of `microbatch`: what was made of it. */
  made: T | null
  madeGradient: T | null
}

export function onRecompute<T>(state: StageState<T>, message: Asked, actions: Actions<T>): void {
  const current = state.current!
  const { audit, seed, shard, microbatch } = message
  const rows = rowsOf(state, message)
  const known = current.cases.find((other) => other.audit === audit)
  if (known) {
    askElsewhere(known, rows)
    wantInputs(state, current, known, actions)
    return
  }
  // Begun anew the device would forget what lanes changed.
  const able =
    current.mode === 'train' && !current.lanes && !current.revoked && !merging(state, current) && current.shards[shard]
  if (!able || !rows?.has(microbatch) || current.cases.length >= MAX_CASES) {
    decline(state, current, audit, 'This node has no room for it, or it is of other work than this stage has.', actions)
    return
  }
  const about = { audit, seed, shard, microbatch, rows }
  const fresh: Case<T> = { ...about, begun: false, computing: false, wantedAt: state.now, made: null, madeGradient: null } // prettier-ignore
  current.cases.push(fresh)
  wantInputs(state, current, fresh, actions)
}

/** Whether the gradient's place on the device is needed for the sum. */
function merging<T>(state: StageState<T>, current: StepState<T>): boolean {
  return current.reduce !== null && current.shards.some((_, shard) => sums(state, shard))
}

/** Null where the microbatches lack what this stage takes, or name what it does not. */
function rowsOf<T>(state: StageState<T>, { leases, peers }: Asked): Map<number, Row<T>> | null {
  const { stage, config } = state.assignment!
  const rows = new Map<number, Row<T>>()
  const inputOf = (place: number, claimed: Digest | null): Input<T> | null => {
    const from = peers[place]
    return from === undefined || claimed === null ? null : { from, claimed, taken: null }
  }
  for (const [microbatch, up, down, activationTaken, gradientTaken] of leases) {
    const activation = inputOf(up, activationTaken)
    const gradient = inputOf(down, gradientTaken)
    if ((activation !== null) !== stage > 0 || (gradient !== null) !== stage < config.stages - 1) return null
    rows.set(microbatch, { microbatch, activation, gradient, phase: 'waiting', loss: 0 })
  }
  return rows
}

/** Whoever kept an input may be gone: another is named who has it. */
function askElsewhere<T>(of: Case<T>, named: ReadonlyMap<number, Row<T>> | null): void {
  for (const [microbatch, { activation, gradient }] of of.rows) {
    const row = named?.get(microbatch)
    if (activation && row?.activation) activation.from = row.activation.from
    if (gradient && row?.gradient) gradient.from = row.gradient.from
  }
}

/** Asks for what has not come; whoever made it keeps it until the step commits. */
function wantInputs<T>(state: StageState<T>, current: StepState<T>, of: Case<T>, actions: Actions<T>): void {
  const { stage } = state.assignment!
  const { step } = current
  for (const { microbatch, activation, gradient } of of.rows.values()) {
    if (activation?.taken === null) {
      const address = addressOf(state, 'activation', step, microbatch, stage - 1)
      actions.push({ type: 'want', to: activation.from, address })
    }
    if (gradient?.taken === null) {
      const address = addressOf(state, 'gradient', step, microbatch, stage)
      actions.push({ type: 'want', to: gradient.from, address })
    }
  }
}

/** A tensor that did not come may have been lost. */
export function wantInputsAgain<T>(state: StageState<T>, afterMs: number, actions: Actions<T>): void {
  const current = state.current!
  const [first] = current.cases
  if (!first || state.now - first.wantedAt < afterMs) return
  first.wantedAt = state.now
  wantInputs(state, current, first, actions)
}

/** Takes a boundary tensor that some case waits for. @returns whether one did */
export function fileInput<T>(
  state: StageState<T>,
  from: string,
  { kind, index, boundary }: TensorAddress,
  tensor: T,
  digest: TensorDigest | null,
): boolean {
  const { stage } = state.assignment!
  if (digest === null || boundary !== (kind === 'activation' ? stage - 1 : stage)) return false
  let taken = false
  for (const { rows } of state.current!.cases) {
    const row = rows.get(index)
    const input = kind === 'activation' ? row?.activation : row?.gradient
    if (input?.from !== from || input.taken !== null) continue
    input.taken = { tensor, digest }
    taken = true
  }
  return taken
}

/** Goes on with the first case where nothing of this node's own is left to do. */
export function proceedWithCases<T>(state: StageState<T>, actions: Actions<T>): void {
  const { current } = state
  const [first] = current?.cases ?? []
  if (!current || !first || first.computing || current.computing || !state.complete) return
  if (!computedOut(current) || (current.version > 0 && current.reported !== current.version)) return
  const next = nextRow(first)
  if (!next && ![...first.rows.values()].every(({ phase }) => phase === 'done')) return
  if (!first.begun && !makeRoom(state, current, first, actions)) return
  first.computing = true
  if (next) compute(state, current, first, next, 'forward', actions)
  else testify(current, first, actions)
}

/** Forward and backward of a microbatch follow each other: no more than one is kept on the device. */
function nextRow<T>(of: Case<T>): Row<T> | null {
  for (const row of of.rows.values())
    if (row.phase === 'waiting' && row.activation?.taken !== null && row.gradient?.taken !== null) return row
  return null
}

/** The gradient's place on the device is cleared; this node's own share of it has been read, and goes back where it is needed. */
function makeRoom<T>(state: StageState<T>, current: StepState<T>, of: Case<T>, actions: Actions<T>): boolean {
  if (current.leases.size > 0 && current.shards.some(({ share }) => share === null)) {
    current.cases.splice(current.cases.indexOf(of), 1)
    decline(state, current, of.audit, 'This node keeps its own sum on the device.', actions)
    return false
  }
  for (const sum of current.shards) sum.spoiled = true
  of.begun = true
  actions.push({ type: 'beginStep', step: current.step })
  return true
}

function compute<T>(
  state: StageState<T>,
  { step }: StepState<T>,
  { audit }: Case<T>,
  row: Row<T>,
  direction: 'forward' | 'backward',
  actions: Actions<T>,
): void {
  const last = state.assignment!.stage === state.assignment!.config.stages - 1
  const op: ComputeOp = direction === 'forward' && last ? 'forwardBackward' : direction
  row.phase = direction === 'forward' ? 'forwarding' : 'returning'
  const { microbatch } = row
  const input = direction === 'forward' ? row.activation : row.gradient
  const { taken = null, claimed = null } = input ?? {}
  actions.push({ type: 'recompute', audit, op, microbatch, step, input: taken?.tensor ?? null, digest: taken?.digest ?? null, claimed }) // prettier-ignore
}

export function onRecomputed<T>(state: StageState<T>, event: Happened<T, 'recomputed'>, actions: Actions<T>): void {
  const { current } = state
  const [first] = current?.cases ?? []
  const { audit, op, microbatch, output, loss, genuine } = event
  const row = first?.rows.get(microbatch)
  if (!current || event.step !== current.step || first?.audit !== audit || !row) return
  first.computing = false
  if (!genuine) {
    current.cases.shift()
    decline(state, current, audit, 'A neighbour gives other inputs than the claim names.', actions)
    return
  }
  const told = microbatch === first.microbatch
  if (op === 'forward') {
    if (told) first.made = output
    first.computing = true
    compute(state, current, first, row, 'backward', actions)
    return
  }
  if (told) first.madeGradient = output
  if (loss) row.loss = loss.sum / loss.tokens
  row.phase = 'done'
}

function testify<T>({ step }: StepState<T>, of: Case<T>, actions: Actions<T>): void {
  const { audit, seed, shard, rows, made, madeGradient } = of
  const input = rows.get(of.microbatch)!.activation?.taken?.tensor ?? null
  const losses = [...rows.values()].map(({ loss }) => loss)
  actions.push({ type: 'testify', audit, step, shard, seed, input, activation: made, inputGradient: madeGradient, losses }) // prettier-ignore
}

export function onTestified<T>(state: StageState<T>, event: Happened<T, 'testified'>, actions: Actions<T>): void {
  const { current } = state
  const { message } = event
  if (!current || current.cases[0]?.audit !== message.audit || message.step !== current.step) return
  current.cases.shift()
  report(actions, message)
}

/** The step needs the device, or this node, for something else. */
export function dropCases<T>(state: StageState<T>, current: StepState<T>, reason: string, actions: Actions<T>): void {
  for (const { audit } of current.cases) decline(state, current, audit, reason, actions)
  current.cases.length = 0
}

function decline<T>(
  state: StageState<T>,
  { step }: StepState<T>,
  audit: string,
  reason: string,
  actions: Actions<T>,
): void {
  report(actions, { type: 'declined', generation: state.assignment!.generation, step, audit, reason })
}
