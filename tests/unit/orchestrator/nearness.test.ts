/** Proves that lanes are of replicas near each other where there is a choice, and that nothing else of the routing changes. */
import { describe, expect, it } from 'vitest'
import { distances, learnLinks, placeNodes } from '../../../server/orchestrator/nearness.ts'
import { deal, pairUp, type Crew, type Pairing } from '../../../server/orchestrator/pairing.ts'
import type { FleetNode } from '../../../server/orchestrator/types.ts'
import type { LinkMeasure } from '../../../src/protocol/control.ts'
import { apportion } from '../../../src/protocol/routing.ts'
import type { RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { training, type Fleet } from './fleet.ts'

const STAGES = 3
const REPLICAS = 8
const CONFIG = {
  stages: STAGES,
  replicas: REPLICAS,
  batch: 12 * REPLICAS,
  microbatch: 1,
  steps: 100,
  model: { layers: 3 },
}
/** Node `n` sits at stage `n % 3`; of each stage half are in one region, at other seats at each. */
const NODES = Array.from({ length: STAGES * REPLICAS }, (_, n) => `n${n}`)
const stageOf = (id: string) => Number(id.slice(1)) % STAGES
const regionOf = (id: string) => {
  const seat = Math.floor(Number(id.slice(1)) / STAGES)
  return [seat % 2, seat < REPLICAS / 2 ? 0 : 1, (seat >> 1) % 2][stageOf(id)]!
}
const rttOf = (a: string, b: string) => (regionOf(a) === regionOf(b) ? 20 : 150)

/** Numbers of one seed, each between `least` and `most`. */
function numbers(seed: number, least: number, most: number) {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return least + ((most - least) * state) / 2 ** 32
  }
}

const start = (more: RunConfigInput = {}, nearerMs?: number) =>
  training({ ...CONFIG, ...more }, NODES, {}, nearerMs === undefined ? {} : { nearerMs })

/** What a node measured: its partners, and once something was merged the owners of its shards. */
const measured =
  (fleet: Fleet, factor: () => number = () => 1) =>
  (id: string): LinkMeasure[] => {
    const { leases, owners, committed } = fleet.view(id)
    const partners = new Set(
      [...leases.flatMap(([, up, down]) => [up, down]), ...(committed > 0 ? owners.flat() : [])].filter(Boolean),
    )
    partners.delete(id)
    return [...partners].map((other) => [other, rttOf(id, other) * factor(), null])
  }

/** `up down` of every pair, with how many microbatches pass between them. */
function pairs(fleet: Fleet): Map<string, number> {
  const counts = new Map<string, number>()
  for (const id of fleet.run().members.flat())
    for (const [, , down] of fleet.view(id).leases)
      if (down !== '') counts.set(`${id} ${down}`, (counts.get(`${id} ${down}`) ?? 0) + 1)
  return counts
}

const crossing = (fleet: Fleet) =>
  [...pairs(fleet).keys()].filter((pair) => {
    const [up, down] = pair.split(' ') as [string, string]
    return regionOf(up) !== regionOf(down)
  })

/** Microbatches that pass from one region to the other, and those that have to: stages have not as many of each. */
const crossed = (fleet: Fleet) => crossing(fleet).reduce((sum, pair) => sum + pairs(fleet).get(pair)!, 0)
const leastCrossed = (fleet: Fleet) => {
  const [first, second, third] = fleet.run().round!.stages.map(({ owner }) => owner.filter((id) => regionOf(id) === 1))
  return Math.abs(first!.length - second!.length) + Math.abs(second!.length - third!.length)
}

describe('the lanes of a round', () => {
  it('stay within a region once links are measured, though few links between its replicas were', () => {
    const fleet = start()
    expect(crossing(fleet).length).toBeGreaterThan(REPLICAS / 2)
    // Lanes alone say nothing of each other: that takes the links of a merge.
    fleet.step({ links: measured(fleet) })
    expect(crossing(fleet).length).toBeGreaterThan(REPLICAS / 2)
    fleet.step({ links: measured(fleet) })
    expect(crossing(fleet)).toEqual([])
    for (const id of NODES) expect(fleet.leasesOf(id)).toHaveLength(12)
  })

  it('go by seats exactly as before while nothing is measured, or nobody looks', () => {
    const [unmeasured, indifferent] = [start(), start({}, Infinity)]
    for (let step = 0; step < 3; step++) {
      unmeasured.step({ busyMs: (id) => 40 + Number(id.slice(1)) })
      indifferent.step({ busyMs: (id) => 40 + Number(id.slice(1)), links: measured(indifferent) })
    }
    for (let stage = 0; stage < STAGES; stage++) {
      const seats = unmeasured.run().members[stage]!
      const speeds = seats.map((id) => 1 / (40 + Number(id.slice(1))))
      const owner = apportion(speeds, CONFIG.batch).map((place) => seats[place]!)
      for (const fleet of [unmeasured, indifferent]) expect(fleet.run().round!.stages[stage]!.owner).toEqual(owner)
    }
  })

  it('leave each replica as many microbatches as its speed says', () => {
    const [near, bySeat] = [start(), start({}, Infinity)]
    const speed = [near, bySeat].map(() => numbers(7, 30, 90))
    for (let step = 0; step < 6; step++) {
      for (const [i, fleet] of [near, bySeat].entries()) fleet.step({ busyMs: speed[i]!, links: measured(fleet) })
      const counts = (fleet: Fleet) => NODES.map((id) => fleet.leasesOf(id).length)
      expect(counts(near)).toEqual(counts(bySeat))
      expect(new Set(counts(near)).size).toBeGreaterThan(3)
    }
    expect(crossing(near).length).toBeLessThan(crossing(bySeat).length / 2)
  })

  it('do not flap while round trips jitter by a tenth', () => {
    const fleet = start()
    const jitter = numbers(1, 0.9, 1.1)
    fleet.step({ links: measured(fleet, jitter) })
    fleet.step({ links: measured(fleet, jitter) })
    const before = pairs(fleet)
    for (let step = 0; step < 20; step++) {
      fleet.step({ links: measured(fleet, jitter) })
      expect(pairs(fleet)).toEqual(before)
    }
  })

  it('need few new links while speeds are never quite the same', () => {
    const fleet = start()
    const busyMs = numbers(3, 45, 55)
    const seen = new Set<string>()
    const fresh = Array.from({ length: 40 }, () => {
      fleet.step({ busyMs, links: measured(fleet) })
      const now = [...pairs(fleet).keys()].filter((pair) => !seen.has(pair))
      now.forEach((pair) => seen.add(pair))
      return now.length
    })
    const later = fresh.slice(20).reduce((sum, count) => sum + count, 0)
    expect(later / 20).toBeLessThan(0.05 * pairs(fleet).size)
  })

  it('keep the other pairs when one of a pair goes', () => {
    const fleet = start()
    for (let step = 0; step < 3; step++) fleet.step({ links: measured(fleet) })
    const before = pairs(fleet)
    const gone = fleet.run().members[1]![2]!
    const bereft = new Set(
      [...before.keys()].filter((pair) => pair.split(' ').includes(gone)).flatMap((pair) => pair.split(' ')),
    )
    fleet.leave(gone)
    fleet.step({ links: measured(fleet) })
    const after = pairs(fleet)
    for (const pair of before.keys()) if (!pair.split(' ').includes(gone)) expect(after.has(pair)).toBe(true)
    for (const pair of after.keys())
      if (!before.has(pair)) expect(pair.split(' ').some((id) => bereft.has(id))).toBe(true)
    expect(crossed(fleet)).toBe(leastCrossed(fleet))
  })

  it('give a newcomer what is left, and its own region once it has measured', () => {
    const fleet = start()
    for (let step = 0; step < 2; step++) fleet.step({ links: measured(fleet) })
    // Of the other region than the seat that falls free.
    fleet.leave('n4')
    fleet.join('n28')
    fleet.report('n28', { type: 'ready', step: fleet.run().step, expectedMs: null })
    expect(stageOf('n28')).toBe(fleet.state.nodes.get('n28')!.stage)
    for (let step = 0; step < 3; step++) fleet.step({ links: measured(fleet) })
    expect(fleet.leasesOf('n28').length).toBeGreaterThan(0)
    expect(crossed(fleet)).toBe(leastCrossed(fleet))
  })

  it('are whole where each takes steps of its own', () => {
    const local = { sync: 'local', local: { innerSteps: 2, lanes: 16 }, batch: 32 } as const
    const fleet = start(local)
    for (let step = 0; step < 2; step++) fleet.step({ links: measured(fleet) })
    expect(crossing(fleet)).toEqual([])
    for (const { owner } of fleet.run().round!.stages)
      for (let lane = 0; lane < 16; lane++) expect(new Set(owner.slice(4 * lane, 4 * lane + 4)).size).toBe(1)
  })
})

/** Nodes by name and place, in milliseconds, that have measured some links. */
function nodesAt(at: Record<string, [x: number, y: number, line: number]>, links: [string, string][]) {
  const rtt = (a: string, b: string) => Math.hypot(at[a]![0] - at[b]![0], at[a]![1] - at[b]![1]) + at[a]![2] + at[b]![2]
  const nodes = Object.keys(at).map((id) => {
    const partners = links.flatMap(([a, b]) => (a === id ? [b] : b === id ? [a] : []))
    const measures = new Map(partners.map((other) => [other, { rttMs: rtt(id, other), bytesPerMs: null }]))
    return { id, links: measures, nearness: { rttMs: new Map(), coordinate: null } } as unknown as FleetNode
  })
  nodes.forEach(learnLinks)
  return { nodes, rtt }
}

describe('how far two nodes are from each other', () => {
  it('is guessed within a quarter, mostly, from the links of each to a few', () => {
    const random = numbers(5, 0, 1)
    const cities = [[0, 0], [90, 10], [150, 80], [40, 120]] as const // prettier-ignore
    const at = Object.fromEntries(
      Array.from({ length: 120 }, (_, n) => [`m${n}`, [cities[n % 4]![0] + 8 * random(), cities[n % 4]![1] + 8 * random(), 3 + 12 * random()] as [number, number, number]]), // prettier-ignore
    )
    const names = Object.keys(at)
    const links = names.flatMap((a) => Array.from({ length: 8 }, (): [string, string] => [a, names[Math.floor(120 * random())]!])).filter(([a, b]) => a !== b) // prettier-ignore
    const { nodes, rtt } = nodesAt(at, links)
    placeNodes(nodes)
    const { ms, linked } = distances(nodes, nodes)
    const errors: number[] = []
    for (const [cell, guess] of ms.entries()) {
      const [a, b] = [names[Math.floor(cell / 120)]!, names[cell % 120]!]
      if (a !== b && !linked[cell]) errors.push(Math.abs(guess - rtt(a, b)) / rtt(a, b))
    }
    errors.sort((a, b) => a - b)
    expect(errors[errors.length >> 1]).toBeLessThan(0.1)
    expect(errors[Math.floor(0.9 * errors.length)]).toBeLessThan(0.25)
  })

  it('is what both ends measured, by the longer word: one alone cannot claim to be near', () => {
    const { nodes } = nodesAt({ a: [0, 0, 10], b: [80, 0, 10], c: [0, 5, 10] }, [['a', 'b'], ['a', 'c'], ['b', 'c']]) // prettier-ignore
    const [a, b, c] = nodes as [FleetNode, FleetNode, FleetNode]
    b.nearness.rttMs.set('a', 1)
    placeNodes(nodes)
    expect([...distances([a], [b, c]).ms]).toEqual([100, 25])
    a.nearness.rttMs.delete('b')
    expect([...distances([a], [b, c]).linked]).toEqual([0, 1])
  })

  it('follows a round trip only where it changes clearly', () => {
    const node = {
      links: new Map(),
      nearness: { rttMs: new Map([['b', 100]]), coordinate: null },
    } as unknown as FleetNode
    const hears = (rttMs: number) => {
      node.links = new Map([['b', { rttMs, bytesPerMs: null }]])
      return [learnLinks(node), node.nearness.rttMs.get('b')]
    }
    expect(hears(120)).toEqual([false, 100])
    expect(hears(80)).toEqual([false, 100])
    expect(hears(130)).toEqual([true, 130])
    expect(hears(130)).toEqual([false, 130])
  })

  it('is the usual one where nothing is known', () => {
    const { nodes } = nodesAt({ a: [0, 0, 10], b: [80, 0, 10], c: [0, 0, 5] }, [['a', 'b']])
    const [a, b, c] = nodes as [FleetNode, FleetNode, FleetNode]
    expect([...distances([a], [b, c]).ms]).toEqual([100, 100])
  })
})

describe('a pairing', () => {
  const twoByTwo = (rtts: Record<string, number>) => {
    const ids = ['a', 'b', 'x', 'y']
    const nodes = ids.map((id) => {
      const rttMs = new Map(ids.flatMap((other) => {
        const ms = rtts[id + other] ?? rtts[other + id]
        return ms === undefined ? [] : [[other, ms] as const]
      })) // prettier-ignore
      return { id, nearness: { rttMs, coordinate: null } } as unknown as FleetNode
    })
    const crew = (from: number): Crew => ({ nodes: nodes.slice(from, from + 2), counts: [6, 6] })
    return [crew(0), crew(2)] as const
  }
  const straight: Pairing = [['a', 'x', 6], ['b', 'y', 6]] // prettier-ignore
  const crossed = [['a', 'y', 6], ['b', 'x', 6]] // prettier-ignore

  it('stands until another is better by a clear margin', () => {
    const over = (ms: number) => pairUp(...twoByTwo({ ax: 100, by: 100, ay: ms, bx: ms }), straight, 10)
    expect(over(90)).toEqual(straight)
    expect(over(75)).toEqual(straight)
    expect(over(60)).toEqual(crossed)
  })

  it('is the nearest there is where nothing stands', () => {
    expect(pairUp(...twoByTwo({ ax: 100, by: 100, ay: 30, bx: 30 }), [], 10)).toEqual(crossed)
  })

  it('goes by the sum: it is no gain when one link is as much longer as another is shorter', () => {
    expect(pairUp(...twoByTwo({ ax: 50, by: 50, ay: 10, bx: 90 }), straight, 10)).toEqual(straight)
  })

  it('is dealt evenly, so that no partner waits for its first', () => {
    const nodes = ['x', 'y'].map((id) => ({ id }) as FleetNode)
    const owner = deal(['a', 'a', 'a', 'a', 'a', 'a'], { nodes, counts: [4, 2] }, [['a', 'x', 4], ['a', 'y', 2]]) // prettier-ignore
    expect(owner).toEqual(['x', 'x', 'y', 'x', 'x', 'y'])
  })
})
