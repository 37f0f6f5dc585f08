/** Owns the search for a smaller fleet that breaks in the same way. */
import { runFleet, type FleetOptions } from './fleet.ts'

export interface Shrunk {
  seed: number
  options: FleetOptions
  violation: string
}

/** Seeds tried of each smaller fleet, and fleets tried in all. */
const SEEDS_EACH = 6
const MOST_RUNS = 120
const MOST_MS = 60_000

/** A sentence without its numbers and names: the same fault elsewhere reads the same. */
export const kindOf = (violation: string) => violation.replace(/[nd-]*\d[\w.:-]*/g, '#').slice(0, 60)

/** Null when nothing smaller fails. */
export function shrink(
  seed: number,
  options: FleetOptions,
  violation: string,
  say: (text: string) => void,
): Shrunk | null {
  let best: Shrunk = { seed, options, violation }
  let runs = 0
  const until = performance.now() + MOST_MS
  const kind = kindOf(violation)
  for (let shrunk = true; shrunk;) {
    shrunk = false
    for (const smaller of smallerThan(best.options)) {
      for (let s = seed; s < seed + SEEDS_EACH && !shrunk; s++) {
        if (runs++ >= MOST_RUNS || performance.now() > until) return best.options === options ? null : best
        const outcome = runFleet(s, smaller)
        if (outcome.violation && kindOf(outcome.violation) === kind) {
          best = { seed: s, options: smaller, violation: outcome.violation }
          shrunk = true
          say(`  also with ${smaller.nodes} nodes, ${smaller.stages} stages, ${smaller.steps} steps`)
        }
      }
      if (shrunk) break
    }
  }
  return best.options === options ? null : best
}

function smallerThan(options: FleetOptions): FleetOptions[] {
  const { nodes, stages, steps, loss, slow, restarts, accidents, churn, regions } = options
  const half = (n: number, least: number) => Math.max(least, Math.floor(n / 2))
  const changes: Partial<FleetOptions>[] = [
    { nodes: half(half(nodes, stages), stages) },
    { nodes: half(nodes, stages) },
    { stages: half(half(stages, 1), 1), nodes: half(half(nodes, 1), half(half(stages, 1), 1)) },
    { stages: half(stages, 1), nodes: half(nodes, half(stages, 1)) },
    { stages: half(stages, 1) },
    { steps: half(steps, 1) },
    { restarts: 0 },
    { accidents: 0 },
    { loss: 0 },
    { slow: 0 },
    { regions: 1 },
    { churn: churn / 2 },
  ]
  const of = { nodes, stages, steps, loss, slow, restarts, accidents, churn, regions }
  return changes
    .filter((change) => Object.entries(change).some(([key, value]) => of[key as keyof typeof of] !== value))
    .filter((change) => (change.churn ?? 1) > 0.01)
    .map((change) => ({ ...options, ...change }))
}
