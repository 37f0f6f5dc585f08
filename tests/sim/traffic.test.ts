/** Proves how many tensors replicas send each other to merge, which is what `npm run bench -- sync` counts bytes by. */
import { expect, it } from 'vitest'
import { mergeTraffic } from '../bench/sync/traffic.ts'
import { FRAME_HEADER_BYTES } from '../../src/protocol/frame.ts'
import { World } from './world.ts'

const REPLICAS = 4
const STEPS = 12

/** Tensors of each kind that are sent in a step, of a stage of four in a calm world; and `… ahead` while a lane has still to end. */
function counted(local?: { innerSteps: number; overlap?: number }): Record<string, number> {
  const world = new World({ seed: 2 })
  const { network } = world
  const sent: Record<string, number> = {}
  const trains = () => [...world.nodes.values()].some(({ machine }) => (machine.current?.openLanes ?? 0) > 0)
  const frame = network.frame.bind(network)
  network.frame = (from, to, what) => {
    if (what.type === 'frame')
      for (const name of [what.address.kind, ...(trains() ? [`${what.address.kind} ahead`] : [])])
        sent[name] = (sent[name] ?? 0) + 1
    frame(from, to, what)
  }
  world.launch({ stages: 1, replicas: REPLICAS, steps: STEPS, microbatches: 8, checkpointEvery: 100, ...(local && { local }) }) // prettier-ignore
  for (let i = 0; i < REPLICAS; i++) world.join()
  world.untilEnded(10 * 60_000)
  return Object.fromEntries(Object.entries(sent).map(([kind, count]) => [kind, count / STEPS]))
}

/** Shards are as many as replicas. What comes twice, because it was asked for as it came, is left out of the count. */
const perShard = (count: number | undefined) => Math.floor((count ?? 0) / REPLICAS)

it('counts two owners’ shares, the first owner’s result for all others, and a keeper’s moments', () => {
  const sent = counted()
  const found = [sent.gradientShard, sent.parameterShard, sent.momentShard].map(perShard)
  // A keeper asks for its moments from the second step on, for both sometimes come too early.
  expect(found[0]).toBe(2 * (REPLICAS - 1))
  expect(found[1]).toBe(REPLICAS - 1)
  expect(sent.momentShard! / REPLICAS).toBeGreaterThan(0.9)
  expect(mergeTraffic(REPLICAS, [{ share: 10, result: 20, state: 30 }])).toBe(
    6 * (10 + FRAME_HEADER_BYTES) + 3 * (20 + FRAME_HEADER_BYTES) + 30 + FRAME_HEADER_BYTES,
  )
})

it('counts no moments with local steps, and one merge for all inner steps', () => {
  const sent = counted({ innerSteps: 3 })
  expect([sent.gradientShard, sent.meanShard].map(perShard)).toEqual([2 * (REPLICAS - 1), REPLICAS - 1])
  expect(sent.momentShard ?? 0).toBe(0)
  expect(sent.parameterShard ?? 0).toBe(0)
})

it('sends as much where merges overlap lanes, and but one or two of eight shards after the last update', () => {
  const [sent, without] = [counted({ innerSteps: 8, overlap: 7 }), counted({ innerSteps: 8 })]
  const shares = 8 * 2 * (REPLICAS - 1)
  const means = 8 * (REPLICAS - 1)
  expect([Math.floor(sent.gradientShard!), Math.floor(sent.meanShard!)]).toEqual([shares, means])
  expect(sent.parameterShard ?? 0).toBe(0)
  expect(sent['gradientShard ahead']).toBeGreaterThan((7 / 8) * shares)
  expect(sent['meanShard ahead']).toBeGreaterThan((6 / 8) * means)
  expect(without['meanShard ahead'] ?? 0).toBe(0)
})
