/** Owns who is given which stage: forming the members of a generation from the nodes that are there. */
import type { FleetNode, OrchestratorState, Run } from './types.ts'

/** Failed generations in a row after which a member loses its claim to its seat: one link may be what fails. */
const TROUBLES_THAT_UNSEAT = 2
/** So often may a node's GPU fail at one run, with no commit in between, before that run does without the node. */
const GPU_FAILURES_THAT_EXCLUDE = 3

export interface Seating {
  /** Node ids by stage; a stage may be empty, and then the run has to wait. */
  readonly seats: string[][]
  /** The nodes that were up for a seat. */
  readonly pool: readonly FleetNode[]
  /** Nodes passed over for being software where the run wants hardware. */
  readonly software: number
  /** Nodes passed over because their GPU keeps failing at this run. */
  readonly failing: number
}

/** Whether this run takes this node at all. */
export function mayServe(run: Run, node: FleetNode): boolean {
  if (run.config.requireHardware && node.adapter.software) return false
  return (node.gpuFailures.get(run.id) ?? 0) < GPU_FAILURES_THAT_EXCLUDE
}

/** Whether a run that lost its server still hopes for what this node holds of it. */
export function isAwaited(state: OrchestratorState, { holding }: FleetNode): boolean {
  const run = holding ? state.runs.get(holding.runId) : undefined
  return run !== undefined && run.recoverUntil !== null && run.generation === holding!.generation
}

/** Seats the nodes that are free for this run now; a penalised one only where the others cannot fill every stage. */
export function proposeSeats(state: OrchestratorState, run: Run, now: number): Seating {
  const present = [...state.nodes.values()].filter(
    (node) =>
      (node.runId === null || node.runId === run.id) && !node.paused && !node.suspect && !isAwaited(state, node),
  )
  const able = present.filter((node) => !(run.config.requireHardware && node.adapter.software))
  const software = present.length - able.length
  const free = able.filter((node) => (node.gpuFailures.get(run.id) ?? 0) < GPU_FAILURES_THAT_EXCLUDE)
  const failing = able.length - free.length
  const untroubled = free.filter((node) => node.penaltyUntil <= now)
  const seats = seat(run, untroubled)
  if (untroubled.length === free.length || isRunnable(seats)) return { seats, pool: untroubled, software, failing }
  return { seats: seat(run, free), pool: free, software, failing }
}

/**
 * Seats nodes: everybody stays at their stage where possible, the rest fill the emptiest stage first. A stage that stays
 * empty takes a node from where it can be spared, over several moves if need be, so every stage gets one whenever the
 * memory of the nodes allows it at all (augmenting paths, Kuhn 1955).
 * @returns seats by stage; a stage may be empty, and then the run has to wait.
 */
export function seat(run: Run, pool: readonly FleetNode[]): string[][] {
  const { stages, replicas } = run.config
  const seats: FleetNode[][] = Array.from({ length: stages }, () => [])
  const stageOf = new Map<FleetNode, number>()
  const fits = (node: FleetNode, stage: number) => node.memoryBytes >= run.stageBytes[stage]!
  const place = (node: FleetNode, stage: number) => {
    const from = stageOf.get(node)
    if (from !== undefined) seats[from] = seats[from]!.filter((other) => other !== node)
    seats[stage]!.push(node)
    stageOf.set(node, stage)
  }

  for (const node of pool) {
    const stage = run.reservations.get(node.deviceId)
    if (stage === undefined || stage >= stages || node.troubles >= TROUBLES_THAT_UNSEAT) continue
    if (seats[stage]!.length < replicas && fits(node, stage)) place(node, stage)
  }
  // Small nodes choose before large ones, which can go anywhere.
  const unseated = pool.filter((node) => !stageOf.has(node))
  unseated.sort((a, b) => a.troubles - b.troubles || a.memoryBytes - b.memoryBytes)
  for (const node of unseated) {
    if (stageOf.size === stages * replicas) break
    let emptiest: number | null = null
    for (let stage = 0; stage < stages; stage++) {
      const { length } = seats[stage]!
      const emptier = length < (emptiest === null ? replicas : seats[emptiest]!.length)
      if (emptier && fits(node, stage)) emptiest = stage
    }
    if (emptiest !== null) place(node, emptiest)
  }

  const claim = (stage: number, tried: Set<FleetNode>): boolean => {
    const room = (node: FleetNode) => {
      const at = stageOf.get(node)
      return at === undefined ? Infinity : seats[at]!.length
    }
    const options = pool.filter((node) => fits(node, stage) && stageOf.get(node) !== stage).reverse()
    options.sort((a, b) => (room(a) === room(b) ? 0 : room(b) - room(a)))
    for (const node of options) {
      if (tried.has(node)) continue
      tried.add(node)
      const from = stageOf.get(node)
      if (from !== undefined && seats[from]!.length < 2 && !claim(from, tried)) continue
      place(node, stage)
      return true
    }
    return false
  }
  for (let stage = 0; stage < stages; stage++) if (seats[stage]!.length === 0) claim(stage, new Set())
  return seats.map((nodes) => nodes.map((node) => node.id))
}

export function isComplete(run: Run, seats: readonly (readonly string[])[]): boolean {
  return seats.every((stage) => stage.length === run.config.replicas)
}

export function isRunnable(seats: readonly string[][]): boolean {
  return seats.every((stage) => stage.length > 0)
}

/** Says which stages lack volunteers, for people. */
export function describeShortage(run: Run, { seats, pool, software, failing }: Seating): string {
  const { stages, replicas } = run.config
  const seated = seats.reduce((n, s) => n + s.length, 0)
  const here = `${seated} of ${stages * replicas}`
  const missing = seats.map((s, stage) => (s.length === 0 ? stage + 1 : 0)).filter((n) => n > 0)
  if (missing.length === 0) return `${here} volunteers are here; starting soon.`
  const names =
    missing.length === 1 ? `Stage ${missing[0]} of ${stages} waits` : `Stages ${missing.join(', ')} of ${stages} wait`
  const adapters = software > 0 ? ` ${software} more have no hardware GPU, which this run asks for.` : ''
  const broken =
    failing > 0 ? ` ${failing} more failed here ${GPU_FAILURES_THAT_EXCLUDE} times and are not asked again.` : ''
  return `${names} for a volunteer (${here} are here).${memoryShortage(run, missing, pool, seated)}${adapters}${broken}`
}

/** Who is not seated is too small for all that is missing; where everybody is, only another configuration helps. */
function memoryShortage(run: Run, missing: readonly number[], pool: readonly FleetNode[], seated: number): string {
  const needs = missing.map((n) => run.stageBytes[n - 1]!)
  const [least, most] = [Math.min(...needs), Math.max(...needs)]
  const largest = Math.max(...pool.map((node) => node.memoryBytes))
  if (pool.length > 0 && largest < least) {
    const it = missing.length === 1 ? 'it: it takes' : 'one of them: the smallest takes'
    const offer = `the largest offer is ${mebibytes(Math.floor(largest / MIB))} MiB`
    return ` Nobody here can hold ${it} ${mebibytes(Math.ceil(least / MIB))} MiB, and ${offer}. More stages or a smaller microbatch take less.`
  }
  const small = pool.length - seated
  return small > 0 ? ` ${small} more cannot hold it: it takes ${mebibytes(Math.ceil(most / MIB))} MiB.` : ''
}

const MIB = 2 ** 20
const mebibytes = (count: number) => count.toLocaleString('en')
