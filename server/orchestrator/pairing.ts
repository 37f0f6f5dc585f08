/**
 * Owns which replicas of neighbouring stages pass microbatches to each other: those near each other, where there is a choice.
 *
 * How many microbatches each replica has is given, so that this is a transport problem (Hitchcock 1941). It is solved from the
 * pairing that stands, by exchanging two partners at a time: what stands is kept unless an exchange saves clearly, since each
 * new pair has to dial.
 */
import { distances } from './nearness.ts'
import { Transport } from './transport.ts'
import type { FleetNode } from './types.ts'

/** Which replicas of two neighbouring stages pass microbatches to each other, and how many in a step. */
export type Pairing = readonly (readonly [up: string, down: string, count: number])[]

export interface Lanes {
  /** By boundary: who passed microbatches to whom in the last training step. */
  pairings: Pairing[]
  /** Some node has measured something new since coordinates were last fitted. */
  remeasured: boolean
}

/** Exchanges end of themselves, mostly in two or three passes; what is not done in so many is left for the next round. */
const PASSES = 6

/** The replicas of one stage, and how many microbatches (or lanes that take steps of their own) each is to have. */
export interface Crew {
  readonly nodes: readonly FleetNode[]
  readonly counts: readonly number[]
}

/** `nearerMs`: such as `Timing` has. */
export function pairUp(ups: Crew, downs: Crew, standing: Pairing, nearerMs: number): Pairing {
  const transport = new Transport(ups.counts, downs.counts, distances(ups.nodes, downs.nodes), nearerMs)
  const [above, below] = [ups, downs].map(({ nodes }) => new Map(nodes.map(({ id }, place) => [id, place])))
  // What stood goes on as far as both still have as much; then those who were partners share what they have more of now.
  const larger = [...standing].sort((one, other) => other[2] - one[2])
  for (const times of [1, Infinity])
    for (const [up, down, count] of larger) {
      const [i, j] = [above!.get(up), below!.get(down)]
      if (i !== undefined && j !== undefined) transport.pass(i, j, times * count)
    }
  transport.fill()
  for (let pass = 0; pass < PASSES && transport.exchange(); pass++);
  return transport.passing().map(([i, j, count]) => [ups.nodes[i]!.id, downs.nodes[j]!.id, count])
}

/** Who passes how many microbatches to whom, by the owners of each at two neighbouring stages. */
export function pairingOf(ups: readonly string[], downs: readonly string[]): Pairing {
  const counts = new Map<string, Map<string, number>>()
  for (const [place, up] of ups.entries()) {
    const down = downs[place]!
    const partners = counts.get(up) ?? new Map<string, number>()
    counts.set(up, partners.set(down, (partners.get(down) ?? 0) + 1))
  }
  return [...counts].flatMap(([up, partners]) => [...partners].map(([down, count]) => [up, down, count] as const))
}

/**
 * Gives each microbatch of a step its owner at the next stage. Whoever is furthest behind is next, so that partners of one
 * replica, and all that a replica takes from several, come evenly over the step, and the lowest numbers first.
 * @param owner ids at the stage before, by place
 */
export function deal(owner: readonly string[], { nodes, counts }: Crew, pairing: Pairing): string[] {
  const left = new Map<string, { down: string; count: number }[]>()
  for (const [up, down, count] of pairing) {
    const partners = left.get(up)
    if (partners) partners.push({ down, count })
    else left.set(up, [{ down, count }])
  }
  const share = new Map(nodes.map(({ id }, place) => [id, counts[place]!]))
  const given = new Map<string, number>()
  return owner.map((up) => {
    const partners = left.get(up)!
    const progress = ({ down, count }: { down: string; count: number }) =>
      count > 0 ? ((given.get(down) ?? 0) + 1) / share.get(down)! : Infinity
    const next = partners.reduce((best, partner) => (progress(partner) < progress(best) ? partner : best))
    next.count -= 1
    given.set(next.down, (given.get(next.down) ?? 0) + 1)
    return next.down
  })
}
