/** Proves the injection window: as wide as stage times and links ask for, and no wider than memory is worth. */
import { describe, expect, it } from 'vitest'
import { injectionWindow } from '../../../server/orchestrator/injection.ts'
import { estimateStageMemory, inFlightRoom } from '../../../src/model/memory.ts'
import { runConfigSchema, type RunConfigInput } from '../../../src/protocol/runConfig.ts'
import { training } from './fleet.ts'

const plenty = () => ({ kept: 1000, most: 1000 })
/** Four stages of 40 ms, and three boundaries, in milliseconds there and back. */
const first = (crossings: number, room = plenty) => ({
  least: 5,
  intervalMs: 40,
  busyMs: 40,
  roundTripMs: 4 * 40 + 3 * crossings,
  room,
})

describe('the injection window', () => {
  it('is 1F1B’s while links take next to no time, and grows by what each boundary’s round trip holds', () => {
    expect(injectionWindow(first(0))).toBe(5)
    expect(injectionWindow(first(3))).toBe(5)
    expect(injectionWindow(first(40))).toBe(8)
    expect(injectionWindow(first(100))).toBe(13)
    expect(injectionWindow({ ...first(100), intervalMs: 80 })).toBe(7)
  })

  it('does not grow where nothing was measured', () => {
    expect(injectionWindow({ ...first(0), intervalMs: 0, roundTripMs: 300 })).toBe(5)
    expect(injectionWindow({ ...first(0), intervalMs: 0, busyMs: 0, roundTripMs: 0 })).toBe(5)
  })

  it('asks for no room that it does not want', () => {
    const room = () => {
      throw new Error('It was asked for.')
    }
    expect(injectionWindow(first(3, room))).toBe(5)
    expect(() => injectionWindow(first(100, room))).toThrow()
  })

  it('takes no more in flight than memory holds', () => {
    expect(injectionWindow(first(100, () => ({ kept: 3, most: 9 })))).toBe(9)
    expect(injectionWindow(first(100, () => ({ kept: 0, most: 0 })))).toBe(5)
  })

  it('computes a forward again only where waiting would cost more', () => {
    // 340 ms there and back ask for ten. With nine in flight, two of which are computed again, a microbatch takes 43 ms;
    // with ten, three of which are, 44.
    expect(injectionWindow(first(60))).toBe(10)
    expect(injectionWindow(first(60, () => ({ kept: 7, most: 1000 })))).toBe(9)
    // Whoever is not what limits the run has the time.
    expect(injectionWindow({ ...first(60, () => ({ kept: 7, most: 1000 })), busyMs: 20 })).toBe(10)
    // At 200 ms seven in flight would take 127 ms each.
    expect(injectionWindow(first(200, () => ({ kept: 7, most: 1000 })))).toBeGreaterThan(15)
  })
})

describe('the room for microbatches in flight', () => {
  const config = runConfigSchema.parse({ stages: 4, batch: 64, microbatch: 1, model: { layers: 4 } })
  const { total, activationsPerMicrobatch: each } = estimateStageMemory(config, 1)
  const room = (bytes: number, software = false) => inFlightRoom(config, 1, total + bytes, software)

  it('is for activations first, then for inputs, and never for more than a step has', () => {
    expect(room(-1)).toEqual({ kept: 0, most: 0 })
    const input = config.model.blockSize * config.model.dModel * 2
    expect(room(3 * input)).toEqual({ kept: 0, most: 3 })
    expect(room(2 * each + 3 * input)).toEqual({ kept: 2, most: 5 })
    expect(room(2 ** 40)).toEqual({ kept: 64, most: 64 })
    expect(inFlightRoom(config, 3, 2 ** 40, false)).toEqual({ kept: 1, most: 1 })
  })
})

describe('a round', () => {
  const config = { stages: 3, replicas: 1, batch: 32, microbatch: 1, model: { layers: 3 } }
  const nodes = ['a', 'b', 'c']
  const windows = (
    links: [from: string, to: string, rttMs: number, rate: number | null][],
    memoryBytes?: number,
    more: RunConfigInput = {},
  ) => {
    const fleet = training({ ...config, ...more }, nodes)
    for (const node of fleet.state.nodes.values()) node.memoryBytes = memoryBytes ?? 2 ** 30
    for (const id of nodes) {
      const { step, version, leases } = fleet.view(id)
      fleet.sign(id)
      const losses = id === 'c' ? leases.map(([m]) => [m, 1, 5] as [number, number, number]) : []
      const measured = links.flatMap(([from, to, rttMs, rate]) =>
        from === id ? [[to, rttMs, rate] as [string, number, number | null]] : [],
      )
      fleet.report(id, { type: 'finished', step, version, losses, busyMs: 40, links: measured })
    }
    fleet.sums()
    fleet.updates()
    return nodes.map((id) => fleet.sent('step', id).at(-1)!.window)
  }

  it('tells each node the window that its links ask for', () => {
    expect(windows([])).toEqual([4, 3, 1])
    const slow = [['a', 'b', 100, null], ['b', 'c', 20, null]] as [string, string, number, null][] // prettier-ignore
    // a: 3 × 40 + 100 + 20 ms; b: 2 × 40 + 20 ms; a microbatch each 40 ms.
    expect(windows(slow)).toEqual([7, 4, 1])
    expect(windows(slow, 100)).toEqual([4, 3, 1])
  })

  it('tells it for each of the lanes that a node has, which part its memory', () => {
    const slow = [['a', 'b', 100, null], ['b', 'c', 20, null]] as [string, string, number, null][] // prettier-ignore
    const lanes = (lanes: number, memory?: number) =>
      windows(slow, memory, { sync: 'local', local: { innerSteps: 2, lanes } })
    expect(lanes(2)).toEqual([7, 4, 1])
    // An update of a lane has four microbatches.
    expect(lanes(8)).toEqual([4, 4, 1])
    const least = estimateStageMemory(runConfigSchema.parse(config), 0).total
    // An input of the first stage is a number a token; this is room for six, or for three in each of two lanes.
    const room = least + 6 * 4 * runConfigSchema.parse(config).model.blockSize
    expect(lanes(1, room)).toEqual([6, 3, 1])
    expect(lanes(2, room)).toEqual([4, 3, 1])
  })

  it('reckons with what a slow line takes for a tensor', () => {
    const bytes = 64 * 128 * 2
    // 10 ms a tensor, both ways.
    const rate = (1000 * bytes) / 10
    expect(windows([['a', 'b', 100, rate], ['b', 'a', 100, rate]])).toEqual([7, 3, 1]) // prettier-ignore
    // 80 ms a tensor: a microbatch each 80 ms then.
    const slower = (1000 * bytes) / 80
    expect(windows([['a', 'b', 100, slower], ['b', 'a', 100, slower]])).toEqual([6, 3, 1]) // prettier-ignore
  })

  it('does not believe one end alone that a link is slow', () => {
    expect(windows([['a', 'b', 60_000, null], ['b', 'a', 2, null]])).toEqual([4, 3, 1]) // prettier-ignore
  })
})
