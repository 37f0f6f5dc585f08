/** Owns who holds the optimizer state: for each shard a primary, a second owner and a keeper, chosen from the nodes of its stage. */
import { shardCount } from '../../src/protocol/routing.ts'
import type { ShardOwners } from '../../src/protocol/control.ts'
import type { FleetNode, OrchestratorState, Run } from './types.ts'

/** Primary, second owner, keeper. */
const PLACES = 3
/** Of these, so many sum and update. */
export const ACTIVE = 2

/** Nodes of the stage that have its weights and are heard. */
export function synced(state: OrchestratorState, run: Run, stage: number): FleetNode[] {
  return run.members[stage]!.flatMap((id) => {
    const node = state.nodes.get(id)
    return node && node.ready !== null && !node.suspect ? [node] : []
  })
}

/**
 * Fills every shard's places: first whoever has the moments of the last step and is heard, then others, those with the
 * fewest shards first. Who has none gets them from who has.
 * @returns null when the moments of some shard are nowhere any more
 */
export function chooseOwners(state: OrchestratorState, run: Run, stage: number, now: number): ShardOwners | null {
  const heard = synced(state, run, stage)
  const trusted = heard.filter((node) => node.penaltyUntil <= now)
  const nodes = trusted.length > 0 ? trusted : heard
  const there = new Set(nodes.map(({ id }) => id))
  const duties = new Map<string, number>()
  const before = run.owners[stage] ?? []
  const chosen: string[][] = []
  for (let shard = 0; shard < shardCount(run.config); shard++) {
    const holders = run.holders[stage]![shard]!
    const holds = (id: string) => holders.get(id) === run.step
    const kept = (before[shard] ?? []).filter((id) => there.has(id) && holds(id))
    if (kept.length < ACTIVE)
      for (const { id } of nodes) if (holds(id) && !kept.includes(id) && kept.length < ACTIVE) kept.push(id)
    if (kept.length === 0) {
      // Somebody who is only silent may come back with them: until it is gone it stays in its place.
      const silent = run.members[stage]!.filter((id) => holds(id))
      if (silent.length === 0) return null
      kept.push(silent[0]!)
    }
    // Who was becoming an owner goes on with it.
    for (const id of before[shard] ?? []) if (there.has(id) && !kept.includes(id) && kept.length < PLACES) kept.push(id)
    for (const id of kept) duties.set(id, (duties.get(id) ?? 0) + 1)
    chosen.push(kept)
  }
  const dutiesOf = (id: string) => duties.get(id) ?? 0
  for (const owners of chosen) {
    while (owners.length < Math.min(PLACES, nodes.length)) {
      let least: string | null = null
      for (const { id } of nodes)
        if (!owners.includes(id) && (least === null || dutiesOf(id) < dutiesOf(least))) least = id
      if (least === null) break
      owners.push(least)
      duties.set(least, dutiesOf(least) + 1)
    }
  }
  return chosen
}

/**
 * A step is about to begin: bytes of the step before that their holder has not heard to be over it lets go now, unless it is their
 * first owner; with local steps the moments go with them. Who keeps them all the same says so then.
 */
export function dropOpen({ nodes }: OrchestratorState, run: Run): void {
  const members = run.members.flat().flatMap((id) => nodes.get(id) ?? [])
  const open = new Map(members.map((node) => [node.id, node.open]))
  for (const node of members) node.open = null
  if (run.config.sync === 'exact') return
  run.owners.forEach((shards, stage) =>
    shards.forEach(([first], shard) => {
      const holders = run.holders[stage]![shard]!
      for (const id of [...holders.keys()]) if (id !== first && open.get(id)?.has(shard)) holders.delete(id)
    }),
  )
}

/** Spreads the shards of a stage over nodes that all have all moments: at a start from a checkpoint. */
export function spreadOwners(run: Run, nodes: readonly string[]): ShardOwners {
  const places = Math.min(PLACES, nodes.length)
  return Array.from({ length: shardCount(run.config) }, (_, shard) =>
    Array.from({ length: places }, (_, place) => nodes[(shard + place) % nodes.length]!),
  )
}

/** The nodes that sum and update some shard of these. */
export function activeOwners(owners: ShardOwners): Set<string> {
  const active = new Set<string>()
  for (const places of owners) for (const id of places.slice(0, ACTIVE)) active.add(id)
  return active
}
