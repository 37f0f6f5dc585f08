/** Owns what a stage remembers: its vectors' steps, its owners, and the one step under way with its leases and sums. */
import type { Assignment, ClientMessage, ShardOwners } from '../../protocol/control.ts'
import type { Digest } from '../../protocol/receipt.ts'
import type { StageAction, TensorAddress, TensorDigest, TensorKind } from '../machineTypes.ts'
import type { Case } from './jury.ts'
import type { LaneState } from './lanes.ts'

/** The step of a shard that does not stand anywhere one could name. */
export const NOWHERE = -1

/** One microbatch at this stage, under a lease. */
export interface Lease<T> {
  readonly microbatch: number
  up: string | null
  down: string | null
  phase: 'waiting' | 'forwarding' | 'forwarded' | 'returning' | 'done'
  /** Whose activation and whose gradient were taken, so that repeated ones are known as such. */
  activatedBy: string | null
  returnedBy: string | null
  /** Arrived and not consumed. */
  input: T | null
  gradient: T | null
  /** Made here and kept until the step commits. */
  activation: T | null
  inputGradient: T | null
  /** What arrived, kept until the step commits where audits may ask for it: who made it may be gone by then. */
  readonly kept: { activation: T | null; gradient: T | null }
  readonly digests: Digests
  /** Sum of token losses in nats, and tokens; from the last stage. */
  lossSum: number
  lossTokens: number
}

/** Of what a lease took and made; null where there is none, or not yet. */
export interface Digests {
  activationTaken: TensorDigest | null
  activationMade: TensorDigest | null
  gradientTaken: TensorDigest | null
  gradientMade: TensorDigest | null
}

/** A node's share of a shard's gradient sum, in one version of its leases. */
export interface Share<T> {
  readonly version: number
  readonly tensor: T
  readonly digest: TensorDigest
}

/** One shard on its way through a training step. */
export interface ShardState<T> {
  /** This node's own share in the present version, all its leases computed. */
  share: Share<T> | null
  shareAsked: boolean
  /** At an owner: the others' shares, kept until the step commits. */
  readonly contributions: Map<string, Share<T>>
  /** Contributors, in order, whose shares are known to be here. */
  present: number
  /** The attempt whose sum was asked of the device; {@link NOWHERE} before. */
  attempt: number
  /** The gradient on the device is a sum of all, not this node's own any more. */
  spoiled: boolean
  reduced: boolean
  squaredNorm: number
  /** Of what was summed; null where it was this node's own share alone. */
  digest: Digest | null
  /** The attempt whose sum the server was told of. */
  told: number
  /** The attempt whose mean was asked of the device, to be sent ahead. */
  meanAsked: number
  update: 'none' | 'asked' | 'done'
  /** At an owner: the parameters that stand after this step; with local steps, the lanes' mean change. */
  bytes: T | null
  /** Who was sent the result of this attempt. */
  readonly sentTo: Set<string>
  /** Whose parameters of this step were taken. */
  takenFrom: string | null
  /** Sent ahead by the first owner: the mean of an attempt that may yet be void. */
  held: { readonly from: string; readonly address: TensorAddress; readonly tensor: T } | null
  /** At the second owner: the first one's bytes, until its own update is done; `mean`: they are the lanes' mean change. */
  awaiting: { readonly tensor: T; readonly mean: boolean } | null
}

/** One training step or one round of an evaluation, from the server's `step` to the next. */
export interface StepState<T> {
  readonly step: number
  readonly mode: 'train' | 'evaluate'
  /** After this training step the parameters have to stand. */
  readonly committed: number
  /** The stage had others when the step began: this node's shares are read and signed for whoever takes them. */
  readonly shared: boolean
  /** Microbatches that may be between the start of their forward and the end of their backward. */
  readonly window: number
  version: number
  /** The version of leases last reported `finished`; 0 before. */
  reported: number
  /** The version whose receipt was asked for last; 0 before. */
  signing: number
  revoked: boolean
  readonly leases: Map<number, Lease<T>>
  /** Microbatches that can go forward and backward, ascending. */
  readonly forwards: number[]
  readonly backwards: number[]
  started: number
  done: number
  busyMs: number
  begun: boolean
  computing: boolean
  /** In a training step with local steps: this node's lanes, how many have not ended, and the one on the device. */
  readonly lanes: Map<number, LaneState> | null
  openLanes: number
  lane: number | null
  /** Tensors refused because they came from no neighbour; the table that makes it one may be under way. */
  readonly strays: Set<string>
  readonly shards: readonly ShardState<T>[]
  /** `ahead`: the shards that are summed before the others are final; null once all are. */
  reduce: {
    attempt: number
    contributors: readonly (readonly [string, number])[]
    ahead: ReadonlySet<number> | null
  } | null
  /** Contributors that are gone: what they sent has to come from another owner. */
  readonly lost: Set<string>
  /** Somebody was lost in this step: the server wants to know who has what an owner may have sent before. */
  bereft: boolean
  apply: { lr: number; scale: number; attempt: number; receivers: readonly string[] } | null
  /** Claims of other replicas that this node was asked to recompute, in the order they came. */
  readonly cases: Case<T>[]
}

interface SentMean<T> {
  readonly step: number
  readonly attempt: number
  readonly tensor: T
  readonly again: Set<string>
}

/** Parameters on their way into the device, in its order. */
interface Write {
  readonly shard: number
  readonly step: number
  readonly from: string | null
  readonly compare: boolean
  /** The bytes turned out not to be the stage's: they are to be replaced. */
  void: boolean
}

export interface EarlyFrame<T> {
  readonly from: string
  readonly address: TensorAddress
  readonly tensor: T
  readonly digest: TensorDigest | null
}

export interface StageState<T> {
  /** This node's id, from the server's `welcome`. */
  self: string
  assignment: Assignment | null
  prepared: boolean
  /** The model was kept, not made: what stood on the device stands still. */
  kept: boolean
  /** After which step each shard's parameters and moments stand on the device. */
  parameters: number[]
  moments: number[]
  /** With local steps, by shard: the mean that this node sent last, and who was given it a second time. */
  means: (SentMean<T> | null)[]
  /** The last step that was applied, and the attempt whose sums it takes. */
  applied: { readonly step: number; readonly attempt: number } | null
  /** Who made the parameters of the step under way; null once it is settled that they are the stage's. */
  madeBy: (string | null)[]
  /** All parameters stand after `committed`. */
  complete: boolean
  /** The step of the last `ready` of this generation; {@link NOWHERE} before. */
  announced: number
  /** What a microbatch should take on this device, in milliseconds, as far as it can tell. */
  expectedMs: number | null
  /** Training steps in a row that began without a lease for this node. */
  idleSteps: number
  owners: ShardOwners
  /** This node's place among the owners of each shard; -1 where it is none. */
  places: number[]
  writes: Write[]
  momentWrites: { readonly shard: number; readonly step: number }[]
  /** Shards being read for others: `kind shard node`. */
  readonly reads: Set<string>
  /** Shards whose update has to be done before a kept model is ready. */
  readonly finishing: Set<number>
  /** By shard: the step whose update was asked for and is not done, though another step may be under way by now. */
  readonly updating: Map<number, number>
  current: StepState<T> | null
  /** Frames that came before the word that makes sense of them, the latest of each. */
  readonly early: Map<string, EarlyFrame<T>>
  /** Frames and wants refused because they were stale, repeated or from the wrong node. */
  refusedFrames: number
  /** Of the caller's clock, in milliseconds. */
  now: number
  activeAt: number
  wantedAt: number
  waitingAt: number
  /** A boundary tensor came, or something was computed, since the last tick. */
  progressed: boolean
  /** Wants served since the last tick. */
  served: number
  /** Raised with every round of wants, so that each goes to another owner. */
  round: number
}

export type Actions<T> = StageAction<T>[]

export function initialStageState<T>(): StageState<T> {
  return {
    self: '',
    assignment: null,
    prepared: false,
    kept: false,
    parameters: [],
    moments: [],
    means: [],
    applied: null,
    madeBy: [],
    complete: false,
    announced: NOWHERE,
    expectedMs: null,
    idleSteps: 0,
    owners: [],
    places: [],
    writes: [],
    momentWrites: [],
    reads: new Set(),
    finishing: new Set(),
    updating: new Map(),
    current: null,
    early: new Map(),
    refusedFrames: 0,
    now: -Infinity,
    activeAt: -Infinity,
    wantedAt: -Infinity,
    waitingAt: -Infinity,
    progressed: true,
    served: 0,
    round: 0,
  }
}

export function newShardState<T>(): ShardState<T> {
  return {
    share: null,
    shareAsked: false,
    contributions: new Map(),
    present: 0,
    attempt: NOWHERE,
    spoiled: false,
    reduced: false,
    squaredNorm: 0,
    digest: null,
    told: NOWHERE,
    meanAsked: NOWHERE,
    update: 'none',
    bytes: null,
    sentTo: new Set(),
    takenFrom: null,
    held: null,
    awaiting: null,
  }
}

/** An address within the step under way. */
export function addressOf<T>(
  state: StageState<T>,
  kind: TensorKind,
  step: number,
  index: number,
  boundary: number,
  attempt = 0,
): TensorAddress {
  return { kind, generation: state.assignment!.generation, step, index, boundary, attempt }
}

export function report<T>(actions: Actions<T>, message: ClientMessage): void {
  actions.push({ type: 'report', message })
}

/** Tells the server that every shard's parameters stand after `step`. */
export function announce<T>(state: StageState<T>, step: number, actions: Actions<T>): void {
  state.announced = step
  const { generation } = state.assignment!
  report(actions, { type: 'ready', generation, step, expectedMs: state.expectedMs })
}

export function refuse<T>(state: StageState<T>): void {
  state.refusedFrames++
}

/** Whether every lease is computed, backward too where there is one, and every lane has taken its last update. */
export function computedOut<T>(current: StepState<T>): boolean {
  return current.done >= current.leases.size && current.openLanes === 0
}

/** Whether this node sums and updates the shard, rather than only keeping its moments. */
export function sums<T>(state: StageState<T>, shard: number): boolean {
  const place = state.places[shard]
  return place === 0 || place === 1
}

/** Of a kept model the vectors are there before its device has answered. */
export function hasVectors<T>({ prepared, kept }: StageState<T>): boolean {
  return prepared || kept
}

/** Whether the vectors that an update of the shard starts from stand here. */
export function updatable<T>(state: StageState<T>, shard: number): boolean {
  const { committed } = state.current!
  return state.moments[shard] === committed && state.parameters[shard] === committed
}

export function setOwners<T>(state: StageState<T>, owners: ShardOwners): void {
  state.owners = owners
  for (let shard = 0; shard < state.places.length; shard++)
    state.places[shard] = owners[shard]?.indexOf(state.self) ?? -1
}

/** Owners of the same microbatches at the stages before and after, in the step under way. */
export function laneNeighbours<T>({ current }: StageState<T>): string[] {
  const lanes = new Set<string>()
  for (const { up, down } of current?.leases.values() ?? []) {
    if (up !== null) lanes.add(up)
    if (down !== null) lanes.add(down)
  }
  return [...lanes]
}
