/** Proves whom a node is connected to before it has anything to say: the lanes of its leases first, then its shards' owners. */
import { expect, it } from 'vitest'
import { Neighbours } from '../../../src/stage/neighbours.ts'

const generation = 3
const step = {
  type: 'step',
  generation,
  step: 7,
  mode: 'train',
  version: 1,
  peers: ['u1', 'd1', 'd2'],
  leases: [
    [0, 0, 1],
    [1, 0, 2],
    [2, -1, 2],
  ],
  owners: [['o1', 'o2', 'k'], ['o2']],
  committed: 6,
  window: 2,
} as const

/** What the server's schema gives is mutable. */
const asSent = <T>(message: T) => structuredClone(message) as never

it('names the lanes, the owners, whoever is summed and whoever takes parameters', () => {
  const neighbours = new Neighbours()
  expect(neighbours.hear(asSent(step))).toEqual(['u1', 'd1', 'd2', 'o1', 'o2', 'k'])
  const leases = { type: 'leases', generation, step: 7, version: 2, peers: ['u2', 'd2'], leases: [[0, 0, 1]] }
  expect(neighbours.hear(asSent(leases))).toEqual(['u2', 'd2', 'o1', 'o2', 'k'])
  const owners = { type: 'owners', generation, step: 7, owners: [['o2'], ['o2', 'o3']] }
  expect(neighbours.hear(asSent(owners))).toEqual(['u2', 'd2', 'o2', 'o3'])
  const contributors = [
    ['c1', 1],
    ['o2', 1],
  ]
  const reduce = { type: 'reduce', generation, step: 7, attempt: 1, contributors }
  expect(neighbours.hear(asSent(reduce))).toEqual(['u2', 'd2', 'o2', 'o3', 'c1'])
  const apply = { type: 'apply', generation, step: 7, lr: 1, scale: 1, owners: [['o3']], receivers: ['r1', 'u2'] }
  expect(neighbours.hear(asSent(apply))).toEqual(['u2', 'd2', 'o3', 'r1'])
  expect(neighbours.hear(asSent({ ...step, leases: [] }))).toEqual(['o1', 'o2', 'k'])
})
