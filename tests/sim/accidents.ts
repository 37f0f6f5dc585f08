/** Owns the troubled worlds of the simulation: which accidents a seed brings, and when. */
import type { SimNode } from './node.ts'
import { type RunOptions, World } from './world.ts'

const MINUTE = 60_000

const SHAPES = [
  { stages: 1, replicas: 2, nodes: 2 },
  { stages: 2, replicas: 1, nodes: 3 },
  { stages: 2, replicas: 2, nodes: 4 },
  { stages: 3, replicas: 2, nodes: 6 },
  { stages: 2, replicas: 3, nodes: 7 },
  { stages: 4, replicas: 1, nodes: 5 },
  { stages: 2, replicas: 4, nodes: 9 },
]

/** With as many lanes as replicas, fewer, and more, so that somebody has several from the start. */
const LANES = [2, 1, 2, 4, 3, 2, 8]

/** Everything that goes wrong does so in the first minutes; whoever is gone is followed by somebody new. */
export function troubled(seed: number): World {
  return troubledWorld(seed, 60)
}

/** The same where lanes take three steps of their own before each merge. */
export function troubledLanes(seed: number): World {
  return troubledWorld(seed, 40, { innerSteps: 3, lanes: LANES[seed % LANES.length]! })
}

/** And where shards become final over the last three of four, and merge while lanes go on. */
export function troubledOverlaps(seed: number): World {
  return troubledWorld(seed, 40, { innerSteps: 4, lanes: LANES[seed % LANES.length]!, overlap: 3 })
}

function troubledWorld(seed: number, steps: number, local?: RunOptions['local']): World {
  const world = new World({
    seed,
    weather: {
      loss: seed % 2 === 0 ? 0.02 : 0.08,
      duplicates: seed % 3 === 0 ? 0.2 : 0.01,
      reordered: seed % 5 === 0 ? 0.1 : 0.01,
      jitterMs: seed % 3 === 1 ? 60 : 10,
      shardMs: 2,
      boundaryMs: 1,
    },
    refusals: seed % 4 === 0 ? 0.15 : 0,
    progressMs: 4 * MINUTE,
  })
  const { random, clock } = world
  const { stages, replicas, nodes } = SHAPES[seed % SHAPES.length]!
  world.launch({
    stages,
    replicas,
    steps,
    microbatches: local?.lanes === 3 ? 9 : 8,
    checkpointEvery: 4,
    ...(local && { local }),
  })
  const join = () => world.join({ slowness: random.chance(0.15) ? 4 : 1 })
  for (let i = 0; i < nodes; i++) clock.after(random.between(0, 8000), join)
  for (let at = random.between(3000, 9000); at < 2 * MINUTE; at += random.between(1500, 9000))
    clock.after(at, random.pick(accidentsOf(world, join))!)
  return world
}

/** An owner that sums or updates falsely for a while, in a stage where another one can tell. */
export function untruthful(seed: number): World {
  const world = new World({
    seed,
    weather: { loss: 0.02, duplicates: 0.01, reordered: 0.01, jitterMs: 10, shardMs: 2, boundaryMs: 1 },
  })
  const { random, clock } = world
  world.launch({ stages: 2, replicas: 4, steps: 16, microbatches: 8, checkpointEvery: 3 })
  for (let i = 0; i < 9; i++) clock.after(random.between(0, 3000), () => world.join())
  const lie = () => {
    const liar = random.pick(members(world))
    if (!liar?.tenure) return void clock.after(1000, lie)
    const { tenure } = liar
    tenure.falsehood = random.chance(0.5) ? 'sum' : 'update'
    clock.after(random.between(4000, 10_000), () => (tenure.falsehood = null))
  }
  clock.after(random.between(6000, 12_000), lie)
  return world
}

function members(world: World): SimNode[] {
  const ids = [...world.state.runs.values()].flatMap((run) => run.members.flat())
  return ids.flatMap((id) => world.nodes.get(id) ?? [])
}

function accidentsOf(world: World, join: () => SimNode): (() => void)[] {
  const { random, clock, network } = world
  const anyone = () => random.pick([...world.nodes.values()])
  const pairOfMembers = (): [SimNode, SimNode] | null => {
    const [a, b] = [random.pick(members(world)), random.pick(members(world))]
    return a && b && a !== b ? [a, b] : null
  }
  const vanish = () => {
    const node = anyone()
    if (!node) return
    const how = random.next()
    if (how < 0.5) world.leave(node)
    else world.crash(node, how >= 0.8)
    clock.after(random.between(200, 9000), join)
  }
  return [
    vanish,
    vanish,
    vanish,
    vanish,
    () => {
      const node = anyone()
      if (!node || node.paused) return
      node.pause()
      clock.after(random.between(1000, 20_000), () => node.alive && node.resume())
    },
    () => {
      const pair = pairOfMembers()
      if (pair) network.cut(...pair)
    },
    () => {
      const pair = pairOfMembers()
      if (pair) network.mute(...pair, random.between(3000, 20_000))
    },
    () => {
      const node = anyone()
      if (node) world.partition([node], random.between(1000, 25_000))
    },
    () => {
      const node = anyone()
      if (!node) return
      if (node.socket) {
        // The control line breaks and is dialled again.
        const { socket } = node
        node.onClosed(socket)
        clock.after(random.between(50, 3000), () => world.server.onClosed(socket))
      }
    },
    () => {
      const node = anyone()
      if (!node?.machine.assignment) return
      const outOfMemory = random.chance(0.3)
      node.fail(node.machine.assignment.generation, outOfMemory ? 'gpu.out_of_memory' : 'gpu.internal')
      // It will hold no stage of this size again in its session.
      if (outOfMemory) clock.after(random.between(500, 9000), join)
    },
    () => {
      const node = random.chance(0.3) ? anyone() : undefined
      if (!node) return
      node.hung = true
      clock.after(random.between(1000, 9000), join)
    },
    () => {
      const node = anyone()
      // The same device again, from another tab or after a reload that the server has not noticed.
      if (node) world.join({ deviceId: node.deviceId })
    },
    () => world.server.restart(random.between(200, 5000), random.chance(0.5)),
    () => void join(),
  ]
}
