/** Proves that fleets of several shapes, undisturbed, train exactly what one machine trains. */
import { describe, expect, it } from 'vitest'
import { World, type RunOptions } from './world.ts'

const MINUTE = 60_000

function train(seed: number, run: RunOptions, nodes: number, duplicates = 0): World {
  const world = new World({ seed, weather: { duplicates } })
  world.launch(run)
  for (let i = 0; i < nodes; i++) world.join()
  return world.untilEnded(10 * MINUTE)
}

describe('a fleet without accidents', () => {
  it.each([
    { stages: 1, replicas: 1, nodes: 1 },
    { stages: 4, replicas: 1, nodes: 4 },
    { stages: 1, replicas: 4, nodes: 4 },
    { stages: 2, replicas: 2, nodes: 4 },
    { stages: 3, replicas: 2, nodes: 6 },
    // Fewer volunteers than seats: replicas are uneven.
    { stages: 2, replicas: 2, nodes: 3 },
    { stages: 3, replicas: 3, nodes: 5 },
    { stages: 3, replicas: 3, nodes: 7 },
    // More replicas than microbatches: some own none and still hold a shard.
    { stages: 2, replicas: 8, nodes: 16 },
    // More replicas than shards: most hold none.
    { stages: 2, replicas: 12, nodes: 24, microbatches: 24 },
  ])('trains $stages × $replicas with $nodes nodes as one machine would', ({ nodes, ...run }) => {
    const world = train(1, run, nodes)
    const witness = world.witness()
    expect(witness.ended).toMatchObject({ state: 'finished', valLoss: witness.reference.valLoss })
    expect(witness.commits).toBe(9)
    expect(witness.rollbacks).toBe(0)
    expect(world.server.recovered).toBe(0)
    // A keeper asks at once for moments that are still being updated, and may then get them twice.
    expect(world.refusedFrames()).toBeLessThanOrEqual(0.1 * world.network.frames)
  })

  it.each([
    { stages: 1, replicas: 1, nodes: 1, lanes: 1 },
    { stages: 1, replicas: 4, nodes: 4, lanes: 4 },
    { stages: 3, replicas: 2, nodes: 6, lanes: 2 },
    // Somebody has several lanes, and in stages of different numbers of nodes not the same ones.
    { stages: 3, replicas: 3, nodes: 7, lanes: 8 },
    { stages: 2, replicas: 2, nodes: 3, lanes: 4 },
    { stages: 3, replicas: 1, nodes: 3, lanes: 4 },
    // And here somebody has none.
    { stages: 2, replicas: 4, nodes: 8, lanes: 2 },
  ])('trains $stages × $replicas with $nodes nodes in $lanes lanes of local steps as one machine would', (shape) => {
    const { nodes, lanes, ...run } = shape
    for (const overlap of [0, 2]) {
      const world = train(1, { ...run, microbatches: 8, local: { innerSteps: 3, lanes, overlap } }, nodes)
      const witness = world.witness()
      expect(witness.ended).toMatchObject({ state: 'finished', valLoss: witness.reference.valLoss })
      expect(witness.commits).toBe(9)
      expect(witness.rollbacks).toBe(0)
      expect(world.server.recovered).toBe(0)
      expect(world.refusedFrames()).toBeLessThanOrEqual(0.1 * world.network.frames)
    }
  })

  it('counts nothing twice when frames arrive twice', () => {
    let refused = 0
    for (let seed = 1; seed <= 6; seed++) {
      const world = train(seed, { stages: 3, replicas: 2 }, 6, 0.4)
      expect(world.witness()).toMatchObject({ commits: 9, ended: { state: 'finished' } })
      refused += world.refusedFrames()
    }
    expect(refused).toBeGreaterThan(200)
  })

  it('scores over several rounds', () => {
    const world = train(5, { stages: 2, replicas: 2, steps: 2, evalWindows: 150 }, 4, 0.2)
    const { reference, ended } = world.witness()
    expect(ended?.valLoss).toBe(reference.valLoss)
  })

  it('keeps going at the pace of a straggler', () => {
    const world = new World({ seed: 3 })
    world.launch({ stages: 2, replicas: 2 })
    for (const slowness of [1, 4, 1, 4]) world.join({ slowness })
    world.untilEnded(10 * MINUTE)
    expect(world.witness().rollbacks).toBe(0)
  })

  it('gives two runs of one fleet their own generations', () => {
    const world = new World({ seed: 4, weather: { duplicates: 0.3 } })
    world.launch({ id: 'first', stages: 2, replicas: 1, steps: 6 })
    for (let i = 0; i < 2; i++) world.join()
    world.until(() => world.witness('first').committed === 3, MINUTE)
    world.launch({ id: 'second', stages: 2, replicas: 1, steps: 5 })
    world.cancel('first')
    world.untilEnded(10 * MINUTE)
    expect(world.witness('first').ended!.state).toBe('cancelled')
    expect(world.witness('second').ended!.state).toBe('finished')
  })
})
