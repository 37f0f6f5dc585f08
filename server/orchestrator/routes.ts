/** Owns the routes of a round: who may hold leases at each stage, how many, and which replicas of neighbouring stages share a lane. */
import { laneMicrobatches } from '../../src/protocol/lanes.ts'
import { apportion } from '../../src/protocol/routing.ts'
import { placeNodes } from './nearness.ts'
import { synced } from './owners.ts'
import { deal, pairingOf, pairUp, type Crew } from './pairing.ts'
import type { Round } from './round.ts'
import type { FleetNode, OrchestratorState, Run } from './types.ts'

/** A node whose speed is not known yet is given as much as one this many times slower than its stage. */
const CAUTION = 4

/** Who may hold leases of a stage in the next round: at most `replicas`, the others of the stage stand by. */
function workers(state: OrchestratorState, run: Run, stage: number, now: number): FleetNode[] {
  const nodes = synced(state, run, stage)
  const untroubled = nodes.filter((node) => node.penaltyUntil <= now)
  const able = untroubled.length > 0 ? untroubled : nodes
  if (able.length <= run.config.replicas) return able
  const usual = median(able)
  // Seats keep their order, so that lanes keep their links; only those who would hold up the others step back.
  const slow = (node: FleetNode) => (node.busyMs !== null && usual !== null && node.busyMs > 2 * usual ? 1 : 0)
  return able
    .map((node, seat) => ({ node, seat }))
    .sort((a, b) => slow(a.node) - slow(b.node) || a.seat - b.seat)
    .slice(0, run.config.replicas)
    .sort((a, b) => a.seat - b.seat)
    .map(({ node }) => node)
}

function median(nodes: readonly FleetNode[]): number | null {
  const times = nodes.flatMap(({ busyMs }) => (busyMs === null ? [] : [busyMs])).sort((a, b) => a - b)
  return times[times.length >> 1] ?? null
}

/** Microbatches a second, each in relation to the others of its stage. */
export function speeds(nodes: readonly FleetNode[]): number[] {
  const usual = median(nodes)
  if (usual === null) return nodes.map(() => 1)
  return nodes.map(({ busyMs }) => usual / Math.max(busyMs ?? CAUTION * usual, 1e-3 * usual))
}

/** How many neighbouring microbatches have one owner: all those of a lane that takes steps of its own. */
export function leasedTogether({ config }: Run, { mode }: Pick<Round, 'mode'>): number {
  return mode === 'train' && config.sync === 'local' ? laneMicrobatches(config) : 1
}

/** A stage's part of the routes: who may hold leases there, and the owner of each microbatch by its place in the round. */
export interface Route {
  readonly nodes: readonly FleetNode[]
  readonly owner: string[]
}

/**
 * Gives every microbatch of a round its owner at each stage: as many to each as its measured speed says, and those to one
 * replica that pass through others near it.
 * @returns null when some stage has nobody who could take leases now
 */
export function routesOf(
  state: OrchestratorState,
  run: Run,
  what: Pick<Round, 'mode' | 'microbatches'>,
  now: number,
): Route[] | null {
  const unit = leasedTogether(run, what)
  const crews: (Crew & { owner: string[] })[] = []
  for (let stage = 0; stage < run.config.stages; stage++) {
    const nodes = workers(state, run, stage, now)
    if (nodes.length === 0) return null
    const counts = nodes.map(() => 0)
    const owner = apportion(speeds(nodes), what.microbatches / unit).map((place) => {
      counts[place]! += 1
      return nodes[place]!.id
    })
    crews.push({ nodes, counts, owner })
  }
  const owners = nearRoutes(state, run, crews) ?? crews.map(({ owner }) => owner)
  // A round of scoring is too small to say who belongs together.
  if (what.mode === 'train')
    run.lanes.pairings = owners.slice(1).map((owner, stage) => pairingOf(owners[stage]!, owner))
  return crews.map(({ nodes }, stage) => {
    const owner = Array.from({ length: what.microbatches }, (_, place) => owners[stage]![Math.floor(place / unit)]!)
    return { nodes, owner }
  })
}

/** By stage, the owner of each microbatch or lane; null while no link is measured. */
function nearRoutes({ nodes, timing }: OrchestratorState, run: Run, crews: readonly Crew[]): string[][] | null {
  if (timing.nearerMs === Infinity) return null
  if (run.lanes.remeasured) placeNodes(run.members.flat().flatMap((id) => nodes.get(id) ?? []))
  run.lanes.remeasured = false
  if (crews.every((crew) => crew.nodes.every(({ nearness }) => nearness.coordinate === null))) return null
  const [first, ...others] = crews
  const total = first!.counts.reduce((sum, count) => sum + count, 0)
  const all = first!.nodes.map(({ id }, place) => ['', id, first!.counts[place]!] as const)
  const owners = [deal(new Array<string>(total).fill(''), first!, all)]
  for (const [stage, crew] of others.entries()) {
    const pairing = pairUp(crews[stage]!, crew, run.lanes.pairings[stage] ?? [], timing.nearerMs)
    owners.push(deal(owners[stage]!, crew, pairing))
  }
  return owners
}
