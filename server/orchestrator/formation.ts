/** Owns who is given which stage: forming the members of a generation from the nodes that are there. */
import type { Members } from '../../src/protocol/control.ts'
import type { FleetNode, OrchestratorState, Run } from './types.ts'

/** Nodes that may be given a stage of this run now, survivors of its last generation first. */
export function candidates(state: OrchestratorState, run: Run, now: number): FleetNode[] {
  const free = [...state.nodes.values()].filter(
    (node) =>
      (node.runId === null || node.runId === run.id) &&
      !node.paused &&
      !node.suspect &&
      !(run.config.requireHardware && node.adapter.software),
  )
  const untroubled = free.filter((node) => node.penaltyUntil <= now)
  // A troubled node is better than none: it is passed over only while others can do its work.
  const chosen = untroubled.length >= run.config.stages ? untroubled : free
  return chosen.sort((a, b) => Number(run.lastSeats.has(b.id)) - Number(run.lastSeats.has(a.id)))
}

/**
 * Seats candidates: everybody stays at their stage where possible, the rest fill the emptiest stage first.
 * @returns seats by stage; a stage may be empty, and then the run has to wait.
 */
export function seat(run: Run, pool: readonly FleetNode[]): string[][] {
  const { stages, replicas } = run.config
  const seats: string[][] = Array.from({ length: stages }, () => [])
  const fits = (node: FleetNode, stage: number) => node.memoryBytes >= run.stageBytes[stage]!
  const unseated: FleetNode[] = []
  for (const node of pool) {
    const stage = run.lastSeats.get(node.id)
    if (stage !== undefined && stage < stages && seats[stage]!.length < replicas && fits(node, stage))
      seats[stage]!.push(node.id)
    else unseated.push(node)
  }
  for (const node of unseated) {
    const order = seats.map((_, stage) => stage).sort((a, b) => seats[a]!.length - seats[b]!.length || a - b)
    const stage = order.find((s) => seats[s]!.length < replicas && fits(node, s))
    if (stage !== undefined) seats[stage]!.push(node.id)
  }
  const byId = new Map(pool.map((node) => [node.id, node]))
  for (let stage = 0; stage < stages; stage++) {
    if (seats[stage]!.length > 0) continue
    // Nobody is left for this stage: take a node from the fullest one rather than wait.
    const donors = seats.map((_, s) => s).sort((a, b) => seats[b]!.length - seats[a]!.length || a - b)
    for (const donor of donors) {
      if (seats[donor]!.length < 2) break
      const moved = seats[donor]!.findLast((id) => fits(byId.get(id)!, stage))
      if (moved === undefined) continue
      seats[donor] = seats[donor]!.filter((id) => id !== moved)
      seats[stage]!.push(moved)
      break
    }
  }
  return seats
}

export function isComplete(run: Run, seats: readonly string[][]): boolean {
  return seats.every((stage) => stage.length === run.config.replicas)
}

export function isRunnable(seats: readonly string[][]): seats is Members {
  return seats.every((stage) => stage.length > 0)
}

/** Says which stages lack volunteers, for people. */
export function describeShortage(run: Run, seats: readonly string[][], pool: readonly FleetNode[]): string {
  const { stages, replicas } = run.config
  const seated = seats.reduce((n, s) => n + s.length, 0)
  const missing = seats.map((s, stage) => (s.length === 0 ? stage + 1 : 0)).filter((n) => n > 0)
  const tooSmall = pool.length > seated && missing.length > 0
  const memory = tooSmall
    ? ` ${pool.length - seated} more cannot hold it: a stage takes up to ${Math.ceil(Math.max(...run.stageBytes) / 2 ** 20)} MiB.`
    : ''
  if (missing.length === 0) return `${seated} of ${stages * replicas} volunteers are here; starting soon.`
  const names =
    missing.length === 1 ? `Stage ${missing[0]} of ${stages} waits` : `Stages ${missing.join(', ')} of ${stages} wait`
  return `${names} for a volunteer (${seated} of ${stages * replicas} are here).${memory}`
}
