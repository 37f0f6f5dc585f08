/** Owns the merge of a training step: each node's share of the gradient sum, and the sum of them at a shard's owners. */
import type { ServerMessage, ShardOwners } from '../../protocol/control.ts'
import { finalUpdates, overlaps } from '../../protocol/lanes.ts'
import type { StageEvent, TensorAddress } from '../machineTypes.ts'
import { dropCases } from './jury.ts'
import { tellHeld } from './standing.ts'
import { type Actions, addressOf, computedOut, type EarlyFrame, NOWHERE, refuse, report, setOwners, type Share, type StageState, type StepState, sums, updatable } from './state.ts' // prettier-ignore

type Message<K extends ServerMessage['type']> = Extract<ServerMessage, { type: K }>
type Happened<T, K extends StageEvent<T>['type']> = Extract<StageEvent<T>, { type: K }>

/** Nodes of one stage whose shares an owner keeps. */
const MAX_CONTRIBUTORS = 1024
const SUMMING = 'This node sums the step.'

/** Reads this node's share of every shard, before it is signed for. @returns whether all are here */
export function readShares<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): boolean {
  let all = true
  for (let shard = 0; shard < current.shards.length; shard++) {
    if (current.shards[shard]!.share !== null) continue
    askShare(state, current, shard, actions)
    all = false
  }
  return all
}

/** Reads what another node sums and was not read yet, and sums what waits for this node's share alone. */
export function shareOut<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  for (let shard = 0; shard < current.shards.length; shard++) {
    const owners = state.owners[shard] ?? []
    for (let place = 0; place < 2 && place < owners.length; place++)
      if (owners[place] !== state.self) askShare(state, current, shard, actions)
    reduceShard(state, current, shard, actions)
  }
}

function askShare<T>(state: StageState<T>, current: StepState<T>, shard: number, actions: Actions<T>): void {
  const sum = current.shards[shard]!
  if (sum.shareAsked || sum.spoiled || !hasShare(state, current, shard)) return
  sum.shareAsked = true
  actions.push({ type: 'readGradient', step: current.step, version: current.version, shard })
}

/** Whether this node's share of the shard is one that counts, with all its leases in it: it is final in every lane. */
function hasShare<T>(state: StageState<T>, current: StepState<T>, shard: number): boolean {
  if (current.revoked || current.version === 0) return false
  if (!current.lanes) return computedOut(current)
  const shards = current.shards.length
  const updates = finalUpdates(state.assignment!.config, { step: current.step, shard, shards })
  return [...current.lanes.values()].every(({ inner }) => inner >= updates)
}

/** Shards that are final are sent while lanes go on: what links carry meanwhile nobody waits for after the last update. */
export function shareAhead<T>(state: StageState<T>, current: StepState<T>, actions: Actions<T>): void {
  if (!current.shared || !overlaps(state.assignment!.config)) return
  for (let shard = 0; shard < current.shards.length; shard++) askShare(state, current, shard, actions)
}

export function onGradientRead<T>(state: StageState<T>, event: Happened<T, 'gradientRead'>, actions: Actions<T>): void {
  const { current } = state
  if (!current || event.step !== current.step || event.version !== current.version) return
  const sum = current.shards[event.shard]
  if (!sum || sum.share !== null || !hasShare(state, current, event.shard)) return
  const { version, tensor, digest } = event
  sum.share = { version, tensor, digest }
  const owners = state.owners[event.shard] ?? []
  for (let place = 0; place < 2 && place < owners.length; place++)
    sendShare(state, current, event.shard, owners[place]!, false, actions)
  reduceShard(state, current, event.shard, actions)
}

export function sendShare<T>(
  state: StageState<T>,
  current: StepState<T>,
  shard: number,
  to: string,
  again: boolean,
  actions: Actions<T>,
): void {
  const share = current.shards[shard]?.share ?? null
  if (share === null || to === state.self || !hasShare(state, current, shard)) return
  const address = addressOf(state, 'gradientShard', current.step, shard, state.assignment!.stage, current.version)
  actions.push({ type: 'send', to, address, tensor: share.tensor, again })
}

/** Another node asks for a share that may not have been read yet. */
export function serveShare<T>(state: StageState<T>, from: string, address: TensorAddress, actions: Actions<T>): void {
  const { current } = state
  const sum = current?.shards[address.index]
  if (!current || !sum || address.step !== current.step || address.attempt !== current.version) return
  if (sum.share === null) askShare(state, current, address.index, actions)
  else sendShare(state, current, address.index, from, true, actions)
}

/** New leases void what was summed: the device gets this node's own sum back, and the shares of it are read anew. */
export function restoreShares<T>(current: StepState<T>, actions: Actions<T>): void {
  current.reduce = null
  current.shards.forEach((sum, shard) => {
    if (sum.spoiled) actions.push({ type: 'restoreGradient', shard, tensor: sum.share?.tensor ?? null })
    sum.spoiled = false
    sum.share = null
    sum.shareAsked = false
    forgetSum(current, shard)
  })
}

function forgetSum<T>(current: StepState<T>, shard: number): void {
  const sum = current.shards[shard]!
  sum.attempt = NOWHERE
  sum.present = 0
  if (sum.update !== 'none') return
  sum.reduced = false
  sum.sentTo.clear()
}

export function fileShare<T>(
  state: StageState<T>,
  from: string,
  { address, tensor, digest }: EarlyFrame<T>,
  actions: Actions<T>,
): void {
  const current = state.current!
  const sum = current.shards[address.index]
  // A keeper takes shares too: it may have become an owner without knowing yet.
  if (!sum || address.boundary !== state.assignment!.stage || state.places[address.index]! < 0) return refuse(state)
  const known = sum.contributions.get(from)
  const full = !known && sum.contributions.size >= MAX_CONTRIBUTORS
  // Guard: idempotence. A share that is repeated, or was superseded, does not take the newer one's place.
  if (full || digest === null || (known && known.version >= address.attempt)) return refuse(state)
  sum.contributions.set(from, { version: address.attempt, tensor, digest })
  reduceShard(state, current, address.index, actions)
}

export function onReduce<T>(state: StageState<T>, message: Message<'reduce'>, actions: Actions<T>): void {
  const current = state.current!
  const { attempt, contributors, shards } = message
  const known = current.reduce?.attempt ?? NOWHERE
  if (attempt < known || (attempt === known && current.reduce!.ahead === null)) return
  current.reduce = { attempt, contributors, ahead: shards ? new Set(shards) : null }
  if (current.shards.some((_, shard) => sums(state, shard))) dropCases(state, current, SUMMING, actions)
  for (let shard = 0; shard < current.shards.length; shard++) {
    // What was summed ahead of the others in the same attempt stands.
    if (attempt > known) forgetSum(current, shard)
    reduceShard(state, current, shard, actions)
    reportReduced(state, shard, actions)
  }
}

/** Sums the shard once every contributor's share is here in the wanted version. */
export function reduceShard<T>(state: StageState<T>, current: StepState<T>, shard: number, actions: Actions<T>): void {
  const sum = current.shards[shard]!
  const { reduce, step } = current
  if (!reduce || sum.attempt === reduce.attempt || !sums(state, shard)) return
  if (reduce.ahead && !reduce.ahead.has(shard)) return
  if (sum.update !== 'none') {
    // Nothing changes in a step that is being applied; the server may have asked for another shard's sake.
    sum.attempt = reduce.attempt
    return reportReduced(state, shard, actions)
  }
  const { contributors } = reduce
  const alone = contributors.length === 1 && contributors[0]![0] === state.self && !sum.spoiled
  if (alone && !(hasShare(state, current, shard) && contributors[0]![1] === current.version)) return
  const shares: Share<T>[] = []
  if (!alone) {
    while (sum.present < contributors.length) {
      if (shareOf(state, current, shard, contributors[sum.present]!, actions) === null) return
      sum.present++
    }
    for (const contributor of contributors) {
      const share = shareOf(state, current, shard, contributor, actions)
      if (share === null) return
      shares.push(share)
    }
    sum.spoiled = true
  }
  sum.attempt = reduce.attempt
  dropCases(state, current, SUMMING, actions)
  const [contributions, digests] = [shares.map(({ tensor }) => tensor), shares.map(({ digest }) => digest)]
  actions.push({ type: 'reduce', step, attempt: reduce.attempt, shard, contributions, digests })
}

/** A contributor's share in exactly the wanted version; an own one that was not read yet is. */
export function shareOf<T>(
  state: StageState<T>,
  current: StepState<T>,
  shard: number,
  [id, version]: readonly [string, number],
  actions: Actions<T>,
): Share<T> | null {
  const sum = current.shards[shard]!
  if (id === state.self) {
    if (version !== current.version || !hasShare(state, current, shard)) return null
    if (sum.share === null) askShare(state, current, shard, actions)
    return sum.share
  }
  const share = sum.contributions.get(id)
  return share?.version === version ? share : null
}

/** Contributors whose share of a shard under way is not here; what is summed ahead of the others is not late yet. */
export function lacksShare<T>(state: StageState<T>, shard: number, contributor: readonly [string, number]): boolean {
  const current = state.current!
  const sum = current.shards[shard]!
  if (current.reduce!.ahead || !sums(state, shard) || sum.attempt === current.reduce!.attempt || sum.update !== 'none')
    return false
  return sum.contributions.get(contributor[0])?.version !== contributor[1]
}

export function onReduced<T>(state: StageState<T>, event: Happened<T, 'reduced'>): void {
  const { current } = state
  const sum = current?.shards[event.shard]
  if (!current || !sum || event.step !== current.step || sum.reduced) return
  if (event.attempt !== sum.attempt || event.attempt !== current.reduce?.attempt) return
  sum.reduced = true
  sum.squaredNorm = event.squaredNorm
  sum.digest = event.digest
}

/** Once an attempt, when nothing but `apply` is missing for the update. */
export function reportReduced<T>(state: StageState<T>, shard: number, actions: Actions<T>): void {
  const current = state.current!
  const sum = current.shards[shard]!
  const { attempt, squaredNorm, digest } = sum
  if (!sum.reduced || sum.told === attempt || attempt !== current.reduce?.attempt || current.reduce.ahead) return
  if (sum.update === 'none' && !updatable(state, shard)) return
  sum.told = attempt
  const { generation } = state.assignment!
  report(actions, { type: 'reduced', generation, step: current.step, attempt, shard, squaredNorm, digest })
}

/** The server holds what this owner summed against what was signed for, contributor by contributor. */
export function onTally<T>(
  state: StageState<T>,
  { attempt, shard, step }: Message<'tally'>,
  actions: Actions<T>,
): void {
  const { reduce, shards } = state.current!
  const sum = shards[shard]
  if (!sum?.reduced || sum.told !== attempt || reduce?.attempt !== attempt) return
  const shares = reduce.contributors.map((contributor) => shareOf(state, state.current!, shard, contributor, actions))
  if (shares.some((share) => share === null)) return
  actions.push({ type: 'tally', step, attempt, shard, digests: shares.map((share) => share!.digest) })
}

/** Other nodes own the shards from now on: who is new among them gets this node's share. */
export function changeOwners<T>(state: StageState<T>, owners: ShardOwners, actions: Actions<T>): void {
  const current = state.current!
  const before = state.owners
  setOwners(state, owners)
  for (let shard = 0; shard < current.shards.length; shard++) {
    const sum = current.shards[shard]!
    const first = owners[shard]?.[0] ?? null
    if (!before[shard]?.includes(state.self)) tellHeld(state, shard, actions)
    // Whoever was lost may have sent its parameters to some only: all take those of who is first now.
    if (sum.takenFrom !== null && sum.takenFrom !== first) {
      sum.takenFrom = null
      sum.awaiting = null
    }
    for (let place = 0; place < 2; place++) {
      const id = owners[shard]?.[place]
      if (id === undefined || id === state.self) continue
      const was = before[shard]?.indexOf(id) ?? -1
      if (was === 0 || was === 1) continue
      askShare(state, current, shard, actions)
      sendShare(state, current, shard, id, false, actions)
    }
    reduceShard(state, current, shard, actions)
  }
}
