/**
 * Owns how far nodes of a run are from each other: what both ends of a link measured, and a guess where there is no link.
 *
 * The guess is a network coordinate with a height (Vivaldi: Dabek, Cox, Kaashoek, Morris, SIGCOMM 2004). A delay a node alone
 * would not do: it is the same whoever the partner is, so that no pairing is better than another by it.
 */
import { nameHash } from '../../src/model/init.ts'
import type { FleetNode } from './types.ts'

/** Where a node is among the others of its run: round trips between two are their distance plus both heights, in milliseconds. */
export interface Coordinate {
  readonly x: number
  readonly y: number
  /** What the node's own line adds to each of its round trips. */
  readonly height: number
  /** Of what it says, relative: 1 where nothing is known yet. */
  readonly error: number
}

export interface Nearness {
  /** Milliseconds of the round trip to each partner of late, those heard of last at the end; steady where measures jitter. */
  readonly rttMs: Map<string, number>
  /** Null until it, and enough others of its run, have measured links to each other. */
  coordinate: Coordinate | null
}

/** A round trip has changed when it did by this part, and by so many milliseconds: wires are never still. */
const CHANGED = 0.25
const CHANGED_MS = 5
/** Partners that are remembered, those heard of last. */
const MOST_PARTNERS = 64
/** How far one sample moves a node, at most, and how fast its error follows: Vivaldi's c_c and c_e, here for few samples often. */
const STEP = 0.5
const SWEEPS = 64
/** In milliseconds: below it two nodes are at one place. */
const LEAST_MS = 1

/** Takes in what a node last said of its links. @returns whether some round trip is new or clearly another */
export function learnLinks({ links, nearness }: Pick<FleetNode, 'links' | 'nearness'>): boolean {
  const { rttMs } = nearness
  let changed = false
  for (const [id, link] of links) {
    const known = rttMs.get(id)
    const still = known !== undefined && Math.abs(link.rttMs - known) <= Math.max(CHANGED_MS, CHANGED * known)
    if (!still) changed = true
    rttMs.delete(id)
    rttMs.set(id, still ? known : link.rttMs)
  }
  for (const id of rttMs.keys()) {
    if (rttMs.size <= MOST_PARTNERS) break
    rttMs.delete(id)
  }
  return changed
}

/**
 * Moves the nodes' coordinates until their distances fit what they measured. A node's own samples move it and nobody else; a liar,
 * whose samples fit nothing, has a large error, by which others go less by where it says it is. Does nothing while too few links are
 * measured. In the order of `nodes`, always the same number of times: nothing here is left to chance.
 */
export function placeNodes(nodes: readonly FleetNode[]): void {
  const measured = nodes.filter(({ nearness }) => nearness.rttMs.size > 0)
  const index = new Map(measured.map(({ id }, i) => [id, i]))
  const places = measured.map(({ id, nearness }) => nearness.coordinate ?? startOf(id))
  const [x, y, height, error] = (['x', 'y', 'height', 'error'] as const).map((key) =>
    Float64Array.from(places, (place) => place[key]),
  ) as [Float64Array, Float64Array, Float64Array, Float64Array]
  const samples = measured.flatMap(({ nearness }, i) =>
    [...nearness.rttMs].flatMap(([id, ms]) => {
      const other = index.get(id)
      return other === undefined ? [] : [{ i, other, ms: Math.max(ms, LEAST_MS) }]
    }),
  )
  // As many links as hold a frame in the plane stiff (Laman 1970), told of at both ends: lanes alone fold in any way.
  if (samples.length < 2 * (2 * measured.length - 3)) return
  for (let sweep = 0; sweep < SWEEPS; sweep++)
    for (const { i, other, ms } of samples) {
      // A spring of that length between the two moves the node.
      const dx = x[i]! - x[other]!
      const dy = y[i]! - y[other]!
      const distance = Math.max(Math.sqrt(dx * dx + dy * dy) + height[i]! + height[other]!, 1e-3)
      const pull = STEP * (error[i]! / (error[i]! + error[other]!))
      error[i] = Math.max(0.01, error[i]! + pull * (Math.abs(distance - ms) / ms - error[i]!))
      const force = (pull * (ms - distance)) / distance
      x[i]! += force * dx
      y[i]! += force * dy
      height[i] = Math.max(0, height[i]! + force * (height[i]! + height[other]!))
    }
  for (const { i } of samples)
    measured[i]!.nearness.coordinate = { x: x[i]!, y: y[i]!, height: height[i]!, error: error[i]! }
}

/** Somewhere near the middle, as its name has it: who starts at one place would never part. */
function startOf(id: string): Coordinate {
  const angle = (2 * Math.PI * nameHash(id)) / 2 ** 32
  return { x: 10 * Math.cos(angle), y: 10 * Math.sin(angle), height: 1, error: 1 }
}

export interface Distances {
  /** Milliseconds of a round trip, by `i * downs + j`. */
  readonly ms: Float64Array
  /** 1 where both have measured their link. */
  readonly linked: Uint8Array
}

/** Round trips between the nodes of two neighbouring stages; of whom nothing is known is as far from all as they are on average. */
export function distances(ups: readonly FleetNode[], downs: readonly FleetNode[]): Distances {
  const width = downs.length
  const ms = new Float64Array(ups.length * width).fill(NaN)
  const linked = new Uint8Array(ms.length)
  let [sum, known] = [0, 0]
  const place = new Map(downs.map(({ id }, j) => [id, j]))
  for (const [i, up] of ups.entries()) {
    for (const [id, own] of up.nearness.rttMs) {
      const j = place.get(id)
      const others = j === undefined ? undefined : downs[j]!.nearness.rttMs.get(up.id)
      if (j === undefined || others === undefined) continue
      // Nobody alone can claim that a link is short.
      ms[i * width + j] = Math.max(own, others)
      linked[i * width + j] = 1
    }
    const from = up.nearness.coordinate
    for (let j = 0; j < width; j++) {
      const to = downs[j]!.nearness.coordinate
      const at = i * width + j
      if (linked[at] === 0 && from && to)
        ms[at] = Math.sqrt((from.x - to.x) ** 2 + (from.y - to.y) ** 2) + from.height + to.height
      if (Number.isNaN(ms[at])) continue
      sum += ms[at]!
      known++
    }
  }
  const usual = known > 0 ? sum / known : 0
  for (let at = 0; at < ms.length; at++) if (Number.isNaN(ms[at])) ms[at] = usual
  return { ms, linked }
}
