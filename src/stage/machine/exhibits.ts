/** Owns what a stage shows of its own claim when an audit of it was drawn: the very bytes that its receipt names. */
import type { ExhibitKind } from '../../protocol/audit.ts'
import type { ServerMessage } from '../../protocol/control.ts'
import { type Actions, report, type StageState } from './state.ts'

type Show = Extract<ServerMessage, { type: 'show' }>

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
