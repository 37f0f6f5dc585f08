/** Owns what becomes of a lost contributor's share: whichever owner of a shard had it in time gives it to the other. */
import type { ServerMessage } from '../../protocol/control.ts'
import type { TensorAddress } from '../machineTypes.ts'
import { lacksShare, reduceShard, shareOf } from './merge.ts'
import { type Actions, addressOf, type EarlyFrame, refuse, report, type StageState, sums } from './state.ts'

type Lost = Extract<ServerMessage, { type: 'lost' }>

/** A contributor is gone: what of its share is not here is told to be missing, and asked of the other owner. */
export function onLost<T>(state: StageState<T>, message: Lost, actions: Actions<T>): void {
  const current = state.current!
  const { reduce } = current
  const { generation, step, attempt, node } = message
  if (reduce?.attempt !== attempt || node === state.self) return
  const place = reduce.contributors.findIndex(([id]) => id === node)
  if (place < 0) return
  current.lost.add(node)
  const shards: number[] = []
  for (let shard = 0; shard < current.shards.length; shard++)
    if (lacksShare(state, shard, reduce.contributors[place]!)) shards.push(shard)
  if (shards.length === 0) return
  report(actions, { type: 'missing', generation, step, attempt, node, shards })
  for (const shard of shards) {
    const to = otherOwner(state, shard)
    if (to !== null) actions.push({ type: 'want', to, address: relayAddress(state, shard, place) })
  }
}

/** The node that sums the shard besides this one. */
export function otherOwner<T>(state: StageState<T>, shard: number): string | null {
  return state.owners[shard]?.[1 - state.places[shard]!] ?? null
}

/** `boundary` is the lost node's place among the contributors of the attempt. */
export function relayAddress<T>(state: StageState<T>, shard: number, place: number): TensorAddress {
  const { step, reduce } = state.current!
  return addressOf(state, 'relayedShard', step, shard, place, reduce!.attempt)
}

export function serveRelay<T>(state: StageState<T>, from: string, address: TensorAddress, actions: Actions<T>): void {
  const { current } = state
  const { index: shard, boundary: place, attempt, step } = address
  if (!current?.reduce || step !== current.step || attempt !== current.reduce.attempt) return
  const contributor = current.reduce.contributors[place]
  if (!contributor || !current.shards[shard] || !state.owners[shard]?.includes(from)) return
  const share = shareOf(state, current, shard, contributor, actions)
  if (share === null) return
  const { tensor } = share
  actions.push({ type: 'send', to: from, address: relayAddress(state, shard, place), tensor, again: true })
}

export function fileRelay<T>(
  state: StageState<T>,
  from: string,
  { address, tensor, digest }: EarlyFrame<T>,
  actions: Actions<T>,
): void {
  const current = state.current!
  const { index: shard, boundary: place, attempt } = address
  const sum = current.shards[shard]
  const contributor = current.reduce?.contributors[place]
  if (!sum || !contributor || attempt !== current.reduce?.attempt || !sums(state, shard)) return refuse(state)
  // Nobody speaks for a contributor that is still there.
  if (from !== otherOwner(state, shard) || !current.lost.has(contributor[0])) return refuse(state)
  if (digest === null || !lacksShare(state, shard, contributor)) return refuse(state)
  sum.contributions.set(contributor[0], { version: contributor[1], tensor, digest })
  reduceShard(state, current, shard, actions)
}
