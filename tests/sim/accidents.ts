/** Owns the troubled worlds of the simulation: which accidents a seed brings, and when. */
import type { SimNode } from './node.ts'
import { World } from './world.ts'

const MINUTE = 60_000

const SHAPES = [
  { stages: 1, replicas: 2, nodes: 2 },
  { stages: 2, replicas: 1, nodes: 3 },
  { stages: 2, replicas: 2, nodes: 4 },
  { stages: 3, replicas: 2, nodes: 6 },
  { stages: 2, replicas: 2, nodes: 6 },
  { stages: 4, replicas: 1, nodes: 5 },
]

/** Everything that goes wrong does so in the first minutes; whoever is gone is followed by somebody new. */
export function troubled(seed: number): World {
  const world = new World({ seed, duplicates: seed % 3 === 0 ? 0.2 : 0, refusals: seed % 4 === 0 ? 0.15 : 0 })
  const { random, clock } = world
  const { stages, replicas, nodes } = SHAPES[seed % SHAPES.length]!
  const settings = { steps: 14, microbatches: 5, checkpointEvery: 3 }
  world.launch({ stages, replicas, ...settings })
  const join = () => world.join({ slowness: random.chance(0.15) ? 4 : 1 })
  for (let i = 0; i < nodes; i++) clock.after(random.between(0, 8000), join)

  const anyone = () => random.pick([...world.nodes.values()])
  const pairOfMembers = (): [SimNode, SimNode] | null => {
    const members = [...world.state.runs.values()].flatMap((run) => run.members.flat())
    const [a, b] = [random.pick(members), random.pick(members)].map((id) => (id ? world.nodes.get(id) : undefined))
    return a && b && a !== b ? [a, b] : null
  }
  const accidents: (() => void)[] = [
    () => {
      const node = anyone()
      if (!node) return
      if (random.chance(0.3)) world.leave(node)
      else world.crash(node, random.chance(0.4))
      clock.after(random.between(500, 15_000), join)
    },
    () => {
      const node = anyone()
      if (!node || node.paused) return
      node.pause()
      clock.after(random.between(1000, 20_000), () => node.alive && node.resume())
    },
    () => {
      const pair = pairOfMembers()
      if (pair) world.cutLink(...pair)
    },
    () => {
      const node = anyone()
      if (!node?.machine.assignment) return
      const outOfMemory = random.chance(0.5)
      node.fail(node.machine.assignment.generation, outOfMemory ? 'gpu.out_of_memory' : 'gpu.internal')
      // It will hold no stage of this size again in its session.
      if (outOfMemory) clock.after(random.between(500, 15_000), join)
    },
    () => {
      const node = anyone()
      // The same device again, from another tab or after a reload that the server has not noticed.
      if (node) world.join({ deviceId: node.deviceId })
    },
    () => void world.join(),
  ]
  for (let at = random.between(3000, 15_000); at < 2 * MINUTE; at += random.between(3000, 25_000))
    clock.after(at, random.pick(accidents)!)
  if (seed % 5 === 0) clock.after(random.between(10_000, MINUTE), () => world.restartServer())
  if (seed % 7 === 0)
    clock.after(random.between(8000, 30_000), () => {
      const pair = pairOfMembers()
      if (pair) world.muteLink(...pair, 20_000)
    })
  if (seed % 9 === 0)
    clock.after(random.between(8000, 30_000), () => {
      const node = anyone()
      if (!node) return
      node.hung = true
      clock.after(20_000, () => void world.join())
    })
  return world
}
