/** Owns what a stage shows when an audit was drawn: the very bytes that a receipt names, of its own claim or of one whose tensors it took. */
import type { ExhibitKind } from '../../protocol/audit.ts'
import type { ServerMessage } from '../../protocol/control.ts'
import { type Actions, report, type StageState } from './state.ts'

type Show = Extract<ServerMessage, { type: 'show' }>

type ShowTaken = Extract<ServerMessage, { type: 'showTaken' }>

export function onShow<T>(state: StageState<T>, message: Show, actions: Actions<T>): void {
  const { audit, microbatch, shard } = message
  const { stage, config, generation } = state.assignment!
  const current = state.current!
  const lease = current.leases.get(microbatch)
  const exhibits: [ExhibitKind, T | null][] = []
  if (stage < config.stages - 1) exhibits.push(['activation', lease?.activation ?? null])
  if (stage > 0) exhibits.push(['gradient', lease?.inputGradient ?? null])
  exhibits.push(['share', current.shards[shard]?.share?.tensor ?? null])
  const claimed = current.reported > 0 && current.reported === current.version && !current.revoked
  if (!claimed || exhibits.some(([, tensor]) => tensor === null)) {
    const reason = 'What was claimed is not here any more.'
    report(actions, { type: 'declined', generation, step: current.step, audit, reason })
    return
  }
  for (const [kind, tensor] of exhibits)
    actions.push({ type: 'exhibit', audit, step: current.step, kind, tensor: tensor! })
}

/** Shows what this node took of another whose claim is audited and who does not show it. */
export function onShowTaken<T>(state: StageState<T>, message: ShowTaken, actions: Actions<T>): void {
  const { audit, kind, maker, microbatch, shard } = message
  const { leases, shards, step } = state.current!
  const lease = leases.get(microbatch)
  const taken = {
    activation: lease?.activatedBy === maker ? lease.kept.activation : null,
    gradient: lease?.returnedBy === maker ? lease.kept.gradient : null,
    share: shards[shard]?.contributions.get(maker)?.tensor,
  }
  const tensor = taken[kind] ?? null
  if (tensor !== null) actions.push({ type: 'exhibit', audit, step, kind, tensor, taken: true })
}
