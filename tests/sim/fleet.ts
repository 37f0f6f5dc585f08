/** Owns the big world of the simulation: a thousand nodes of a few speeds, a share of whom is replaced each minute. */
import { DEFAULT_TIMING } from '../../server/orchestrator/timing.ts'
import type { SimNode } from './node.ts'
import { World } from './world.ts'

export interface FleetOptions {
  nodes: number
  stages: number
  /** Share of the nodes that is replaced each minute. */
  churn: number
  /** Share of all messages that is lost. */
  loss: number
  /** Share of the nodes that is four times slower. */
  slow: number
  /** Steps until the end. */
  steps: number
  /** Server restarts, partitions, mute links and hung GPUs, each so often a minute. */
  restarts: number
  accidents: number
  /** Milliseconds of a microbatch's forward; its backward takes twice as long. */
  forward: number
  /** Any two are 75 ms apart, one way, beside the lines of both ends; where there are several, links take 1.5 s to be dialled. */
  regions: number
  /** Such as `Timing` has, in milliseconds; Infinity: lanes go by seats, whoever is near. */
  nearer: number
}

export const FLEET: FleetOptions = {
  nodes: 1000,
  stages: 16,
  churn: 0.2,
  loss: 0.02,
  slow: 0.05,
  steps: 4,
  restarts: 0,
  accidents: 0,
  forward: 210,
  regions: 1,
  nearer: DEFAULT_TIMING.nearerMs,
}

/** Seats a stage; who is over stands by. */
export const seatsOf = ({ nodes, stages }: Pick<FleetOptions, 'nodes' | 'stages'>) =>
  Math.max(1, Math.min(64, Math.floor((0.9 * nodes) / stages)))

const MINUTE = 60_000
/** Microbatches of a step for each seat of a stage. */
const MICROBATCHES_PER_SEAT = 12
const MOST_MICROBATCHES = 4096
/** Longest time without a commit; an undisturbed step takes about half a minute. */
const PROGRESS_MS = 150_000
const DEADLINE_MS = 40 * MINUTE
const SLOWNESS = 4
const APART_MS = 75
const DIAL_MS = 1500

export interface FleetOutcome {
  seed: number
  /** The sentence that says what did not hold. */
  violation: string | null
  commits: number
  rollbacks: number
  recovered: number
  restarts: number
  /** Committed steps a virtual second, from the first step's start to the last commit. */
  throughput: number
  virtualSeconds: number
  events: number
  frames: number
  hash: number
  trace: readonly string[] | null
}

export function fleet(seed: number, options: FleetOptions, trace = false): World {
  const { nodes, stages, churn, loss, slow, steps, restarts, accidents, forward, regions, nearer } = options
  const world = new World({
    seed,
    strict: false,
    trace: trace ? Infinity : 0,
    weather: {
      loss,
      duplicates: 0.01,
      reordered: 0.01,
      jitterMs: 10,
      shardMs: 15,
      boundaryMs: 5,
      apartMs: APART_MS,
      dialMs: regions > 1 ? DIAL_MS : 0,
    },
    timing: { nearerMs: nearer },
    pace: { forwardMs: forward, backwardMs: 2 * forward, otherMs: 5, loadMs: [1000, 4000] },
    progressMs: PROGRESS_MS,
  })
  const replicas = seatsOf(options)
  const microbatches = Math.min(MOST_MICROBATCHES, replicas * MICROBATCHES_PER_SEAT)
  world.launch({ stages, replicas, steps: steps + 1, microbatches, checkpointEvery: 2, horizon: steps })
  const { random, clock } = world
  const join = () => {
    const slowness = random.chance(slow) ? SLOWNESS : random.between(0.9, 1.15)
    return world.join({ slowness, region: regions > 1 ? Math.floor(random.between(0, regions)) : 0 })
  }
  const fleetNodes: SimNode[] = []
  for (let i = 0; i < nodes; i++) clock.after(random.between(0, 1500), () => void fleetNodes.push(join()))

  /** Calls `what` so often a minute on average, at no regular times. */
  const nowAndThen = (perMinute: number, what: () => void) => {
    if (perMinute <= 0) return
    const wait = () => (-Math.log(1 - random.next()) * MINUTE) / perMinute
    const again = () => {
      what()
      clock.after(wait(), again)
    }
    clock.after(2000 + wait(), again)
  }
  const anyone = (): SimNode | undefined => {
    const place = Math.floor(random.next() * fleetNodes.length)
    return fleetNodes[place]
  }
  nowAndThen(churn * nodes, () => {
    const place = Math.floor(random.next() * fleetNodes.length)
    const node = fleetNodes[place]
    if (!node) return
    const how = random.next()
    if (how < 0.5) world.leave(node)
    else world.crash(node, how >= 0.8)
    fleetNodes[place] = join()
  })
  nowAndThen(restarts, () => world.server.restart(random.between(300, 4000), random.chance(0.5)))
  nowAndThen(accidents, () => {
    const kind = random.next()
    const [a, b] = [anyone(), anyone()]
    if (!a || !b || a === b) return
    if (kind < 0.3) world.network.mute(a, b, random.between(5000, 30_000))
    else if (kind < 0.5) world.network.cut(a, b)
    else if (kind < 0.8) {
      const cut = Array.from({ length: 1 + Math.floor(random.between(0, 0.03 * nodes)) }, anyone)
      world.partition(cut.filter((node) => node !== undefined), random.between(2000, 30_000)) // prettier-ignore
    } else a.hung = true
  })
  return world
}

/** Lets the fleet train its steps. Never throws: what does not hold is in the outcome. */
export function runFleet(seed: number, options: FleetOptions, trace = false): FleetOutcome {
  const world = fleet(seed, options, trace)
  const witness = world.witness()
  let violation: string | null = null
  try {
    world.until(() => witness.committed >= options.steps, DEADLINE_MS)
  } catch (caught) {
    violation = (caught as Error).message.split('\n')[0]!
  }
  const { startedAt, lastCommitAt, commits, rollbacks } = witness
  const seconds = (lastCommitAt - (startedAt ?? 0)) / 1000
  return {
    seed,
    violation,
    commits,
    rollbacks,
    recovered: world.server.recovered,
    restarts: world.server.restarts,
    throughput: seconds > 0 ? options.steps / seconds : 0,
    virtualSeconds: world.clock.now / 1000,
    events: world.clock.events,
    frames: world.network.frames,
    hash: world.clock.hash,
    trace: trace ? world.traced() : null,
  }
}
