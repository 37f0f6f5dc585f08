/** Owns the worlds whose claims are all audited: volunteers come and go, and one of them begins to lie. */
import type { SimNode } from './node.ts'
import type { Lie } from './tenure.ts'
import { World } from './world.ts'

const EVERY_CLAIM = { newRate: 1, settledRate: 1 }

/** Whether the server convicts for it, or only looks at everybody concerned; null where the lie is without effect. */
export const CONVICTS: Readonly<Record<Lie, boolean | null>> = {
  boundary: true,
  share: true,
  testimony: true,
  equivocation: false,
  tally: false,
  // The claims that it would falsify are open, and its own are as they should be.
  inputs: null,
}

export function audited(seed: number, lie: Lie | null): World {
  const world = new World({
    seed,
    weather: { loss: 0.02, duplicates: 0.01, reordered: 0.01, jitterMs: 10, shardMs: 2, boundaryMs: 1 },
    audits: EVERY_CLAIM,
    timing: { auditMs: 20_000 },
    progressMs: 120_000,
  })
  const { random, clock } = world
  world.launch({ stages: 3, replicas: 5, steps: 12, microbatches: 15, checkpointEvery: 4 })
  const join = () => world.join({ slowness: random.chance(0.1) ? 3 : 1 })
  for (let i = 0; i < 20; i++) clock.after(random.between(0, 3000), join)
  const turn = () => {
    const liar = random.pick(workers(world))
    if (!liar?.tenure) return void clock.after(500, turn)
    liar.lie = liar.tenure.lie = lie
    world.watch.liars.add(liar.deviceId)
  }
  if (lie) clock.after(random.between(4000, 8000), turn)
  for (let at = 6000; at < 60_000; at += random.between(3000, 12_000))
    clock.after(at, () => {
      const victim = random.pick([...world.nodes.values()].filter(({ lie: lies }) => lies === null))
      if (!victim) return
      if (random.chance(0.5)) world.leave(victim)
      else world.crash(victim, random.chance(0.4))
      clock.after(random.between(200, 2000), join)
    })
  return world
}

/** Who has leases now. */
function workers({ state, nodes }: World): SimNode[] {
  const stages = [...state.runs.values()].flatMap(({ round }) => round?.stages ?? [])
  return stages.flatMap(({ work }) => [...work.keys()].flatMap((id) => nodes.get(id) ?? []))
}
