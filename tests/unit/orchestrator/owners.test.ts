/** Proves who holds the optimizer state from step to step: the last copies are kept, the duties spread, the untrusted left out. */
import { describe, expect, it } from 'vitest'
import { training } from './fleet.ts'

const stage = (nodes: string[], input = {}) =>
  training({ stages: 1, replicas: nodes.length, batch: 12, ...input }, nodes)

describe('owners of the shards', () => {
  it('are three each where there are three, the duties spread evenly', () => {
    const fleet = stage(['a', 'b', 'c', 'd'])
    const { owners } = fleet.view('a')
    expect(owners).toHaveLength(4)
    for (const places of owners) expect(new Set(places).size).toBe(3)
    for (const id of ['a', 'b', 'c', 'd']) expect(owners.flat().filter((other) => other === id)).toHaveLength(3)
    expect(new Set(owners.map(([first]) => first)).size).toBe(4)
  })

  it('are all there are where there are fewer', () => {
    expect(stage(['a', 'b']).view('a').owners).toEqual([
      ['a', 'b'],
      ['b', 'a'],
    ])
    expect(stage(['a']).view('a').owners).toEqual([['a']])
  })

  it('stay from step to step', () => {
    const fleet = stage(['a', 'b', 'c', 'd'])
    const { owners } = fleet.view('a')
    fleet.step()
    fleet.holds()
    fleet.step()
    expect(fleet.view('a').owners).toEqual(owners)
  })

  it('that are both lost leave the shard to the keeper, if it has come by the moments', () => {
    const fleet = stage(['a', 'b', 'c', 'd'])
    fleet.step()
    fleet.holds()
    expect(fleet.view('c').owners[0]).toEqual(['a', 'b', 'c'])
    fleet.leave('a')
    fleet.leave('b')
    expect(fleet.run().generation).toBe(1)
    expect(fleet.view('c').owners[0]![0]).toBe('c')
    fleet.step()
    expect(fleet.run().step).toBe(2)
  })

  it('that are both lost before the keeper has the moments take the state with them', () => {
    const fleet = stage(['a', 'b', 'c', 'd'])
    fleet.step()
    fleet.leave('a')
    fleet.leave('b')
    expect(fleet.told().join(' ')).toContain("A part of the optimizer's state is gone with it.")
    expect(fleet.of('rollBack')).toEqual([{ type: 'rollBack', runId: 'run', toStep: 0 }])
  })

  it('do not count on moments of an older step, nor on those said to come from nowhere', () => {
    const fleet = stage(['a', 'b', 'c', 'd'])
    fleet.step()
    fleet.step()
    fleet.report('c', { type: 'held', step: 1, shard: 0 })
    fleet.report('c', { type: 'held', step: 3, shard: 0 })
    fleet.report('c', { type: 'held', step: 2, shard: 40 })
    expect(fleet.run().holders[0]![0]!.has('c')).toBe(false)
    // Nobody asked `d` to keep this shard: it is in none of its places.
    fleet.report('d', { type: 'held', step: 2, shard: 0 })
    expect(fleet.run().holders[0]![0]!.has('d')).toBe(false)
  })

  it('are filled up from newcomers at the next step', () => {
    const fleet = stage(['a', 'b'])
    fleet.leave('b')
    fleet.step()
    expect(fleet.view('a').owners).toEqual([['a'], ['a']])
    fleet.join('c')
    fleet.ready('c')
    fleet.step()
    expect(fleet.view('c').owners).toEqual([
      ['a', 'c'],
      ['a', 'c'],
    ])
  })

  it('are nobody who is silent, unless it alone has the moments', () => {
    const fleet = stage(['a', 'b', 'c'])
    fleet.step()
    fleet.pass(6000, ['b', 'c'])
    expect(fleet.view('b').owners.flat()).not.toContain('a')
    const alone = stage(['a', 'b'])
    alone.leave('b')
    alone.step()
    alone.join('c')
    alone.ready('c')
    alone.pass(6000, ['c'])
    expect(alone.view('c').owners.map(([first]) => first)).toEqual(['a', 'a'])
    expect(alone.run().generation).toBe(1)
  })

  it('are nobody who failed a moment ago while others are there', () => {
    const fleet = stage(['a', 'b', 'c', 'd'])
    fleet.state.nodes.get('c')!.penaltyUntil = fleet.now + 60_000
    fleet.step()
    expect(fleet.view('a').owners.flat()).not.toContain('c')
    expect(fleet.leasesOf('c')).toEqual([])
  })
})
