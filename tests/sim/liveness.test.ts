/** Proves that a run ends wherever enough volunteers remain: dead links, hung devices, small memories, lost checkpoints. */
import { describe, expect, it } from 'vitest'
import { World } from './world.ts'

const MINUTE = 60_000
const SEEDS = [1, 2, 3, 4, 5]

function fleet(seed: number, nodes: number, run: Parameters<World['launch']>[0], unreachable: [string, string][] = []) {
  const world = new World({ seed, unreachable })
  world.launch(run)
  for (let i = 0; i < nodes; i++) world.join()
  return world
}
const run = (world: World) => world.state.runs.get('run')!
const member = (world: World, stage: number, seat = 0) => world.nodes.get(run(world).members[stage]![seat]!)!
const finished = (world: World, deadlineMs = 15 * MINUTE) => {
  world.untilEnded(deadlineMs)
  expect(world.witness().ended!.state).toBe('finished')
}

describe.each(SEEDS)('seed %i', (seed) => {
  it('goes on unevenly after a loss, without going back: one replica here, two there', () => {
    const world = fleet(seed, 4, { stages: 2, replicas: 2, steps: 60 })
    world.until(() => world.witness().committed === 5, 5 * MINUTE)
    world.crash(member(world, 1), false)
    world.until(() => run(world).members.flat().length === 3, 5 * MINUTE)
    expect(run(world).members.map((ids) => ids.length)).toEqual([2, 1])
    expect(run(world).generation).toBe(1)
    finished(world)
    expect(world.witness()).toMatchObject({ rollbacks: 0, commits: 60 })
  })

  it.each(['leaves', 'crashes', 'falls silent'])('computes at no other stage anything twice when one %s', (how) => {
    const world = fleet(seed, 6, { stages: 3, replicas: 2, microbatches: 8 })
    world.until(() => (run(world).round?.step ?? 0) === 4, 5 * MINUTE)
    const lost = member(world, 1, 1)
    const { machine } = lost
    world.until(() => machine.current?.step === 4 && machine.current.done > 1, MINUTE)
    if (how === 'leaves') world.leave(lost)
    else world.crash(lost, how === 'falls silent')
    finished(world)
    expect(world.witness()).toMatchObject({ rollbacks: 0, commits: 9 })
    expect(world.server.recovered).toBeGreaterThan(0)
    const [first, middle, last] = world.watch.backwards
    expect([first, last]).toEqual([72, 72])
    // What the lost one had summed was redone, and no more than that.
    expect(middle).toBeGreaterThan(72)
    expect(middle).toBeLessThanOrEqual(76)
  })

  it('moves a volunteer when a stage has lost its last one', () => {
    const world = fleet(seed, 3, { stages: 2, replicas: 2 })
    world.until(() => world.witness().committed === 5, 5 * MINUTE)
    world.crash(member(world, run(world).members[1]!.length === 1 ? 1 : 0), true)
    finished(world)
    expect(world.witness().rollbacks).toBe(1)
  })

  it('leaves out one end of a link that never opens', () => {
    // n3 reaches n1 only; n2 is what is wrong with every other pair.
    finished(fleet(seed, 3, { stages: 2, replicas: 1 }, [['n1', 'n2'], ['n2', 'n3']])) // prettier-ignore
  })

  it('comes out of a link that swallows frames without a word', () => {
    const world = fleet(seed, 2, { stages: 2, replicas: 1 })
    world.until(() => world.witness().committed === 2, 5 * MINUTE)
    const [a, b] = [...world.nodes.values()]
    world.network.mute(a!, b!, 30_000)
    finished(world)
  })

  it('replaces a device that hangs while its heart beats', () => {
    const world = fleet(seed, 3, { stages: 2, replicas: 1 })
    world.until(() => world.witness().committed === 2, 5 * MINUTE)
    member(world, 0).hung = true
    finished(world)
  })

  it('seats who joins while the others train, within the generation', () => {
    const world = fleet(seed, 3, { stages: 2, replicas: 2, steps: 30 })
    world.until(() => world.witness().committed === 2, MINUTE)
    const late = world.join()
    world.until(() => run(world).round?.stages.some(({ owner }) => owner.includes(late.id)) ?? false, MINUTE)
    expect(run(world).members.map((ids) => ids.length)).toEqual([2, 2])
    expect(run(world).generation).toBe(1)
    finished(world)
    expect(world.witness()).toMatchObject({ rollbacks: 0, commits: 30 })
  })

  it('tries again when every member failed at once', () => {
    const world = fleet(seed, 4, { stages: 2, replicas: 2 })
    world.until(() => run(world).state === 'preparing', MINUTE)
    for (const node of world.nodes.values())
      world.clock.after(900, () => {
        const { assignment } = node.machine
        if (assignment) node.fail(assignment.generation, 'gpu.internal')
      })
    finished(world)
  })

  it('keeps a checkpoint that the store still reads when its members are gone', () => {
    const world = fleet(seed, 3, { stages: 2, replicas: 1 })
    world.until(() => run(world).saving?.publishing != null, 5 * MINUTE)
    const { step } = run(world).saving!
    world.crash(member(world, 0), false)
    finished(world)
    const { commits, rollbacks } = world.witness()
    // Nothing before that checkpoint is trained again.
    expect(commits).toBeLessThanOrEqual(9 + (9 - step))
    expect(rollbacks).toBeLessThanOrEqual(1)
  })

  it('goes on from where it was after the server died in any phase', () => {
    const world = fleet(seed, 4, { stages: 2, replicas: 2, steps: 40 })
    // Apart: one that dies again between recording a step as finished and telling anybody to finish it goes back.
    for (const at of [3, 9, 14, 22, 31, 44, 60])
      world.clock.after(at * 1000 * world.random.between(0.85, 1.15), () =>
        world.server.restart(world.random.between(100, 3000), world.random.chance(0.5)),
      )
    finished(world)
    expect(world.server.restarts).toBeGreaterThan(3)
    expect(world.witness()).toMatchObject({ rollbacks: 0, commits: 40 })
  })
})

describe('who fits where', () => {
  it('gives the large stage to the one volunteer that can hold it, whoever came first', () => {
    for (const order of [
      [100, 1],
      [1, 100],
    ]) {
      const world = new World({ seed: 1 })
      world.launch({ stages: 2, replicas: 1, stageBytes: [1, 100] })
      for (const memoryBytes of order) world.join({ memoryBytes })
      finished(world)
    }
  })

  it('waits, saying which stage, until somebody comes who can hold it', () => {
    const world = new World({ seed: 2 })
    world.launch({ stages: 2, replicas: 1, stageBytes: [1, 2 ** 21] })
    world.join({ memoryBytes: 1 })
    world.join({ memoryBytes: 1 })
    world.until(() => world.clock.now > MINUTE, 2 * MINUTE)
    expect(run(world).detail).toBe(
      'Stage 2 of 2 waits for a volunteer (1 of 2 are here). Nobody here can hold it: it takes 2 MiB, and the largest ' +
        'offer is 0 MiB. More stages or a smaller microbatch take less.',
    )
    world.join({ memoryBytes: 2 ** 21 })
    finished(world)
  })

  it('finds the device that runs out of memory another stage, and trains to the end', () => {
    const world = new World({ seed: 3 })
    world.launch({ stages: 2, replicas: 1, stageBytes: [70, 100] })
    const weak = world.join()
    world.join()
    let failures = 0
    const watch = () => {
      const { assignment } = weak.machine
      // It said that it has 100 bytes, and has 75.
      if (assignment?.stage === 1 && world.clock.now < 10 * MINUTE) {
        failures++
        weak.fail(assignment.generation, 'gpu.out_of_memory')
      }
      world.clock.after(50, watch)
    }
    watch()
    finished(world)
    expect(failures).toBeLessThanOrEqual(1)
  })

  it('calls a run failed whose every attempt breaks, and not before eight minutes of trying', () => {
    const world = fleet(1, 2, { stages: 2, replicas: 1 }, [['n1', 'n2']])
    const failing = () => {
      for (const node of world.nodes.values()) {
        const { assignment } = node.machine
        if (assignment) node.fail(assignment.generation, 'transfer.failed')
      }
      world.clock.after(100, failing)
    }
    failing()
    world.untilEnded(60 * MINUTE)
    expect(world.witness().ended!.state).toBe('failed')
    expect(world.clock.now).toBeGreaterThan(5 * MINUTE)
  })
})
