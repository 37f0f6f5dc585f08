/** Proves that layers move to where they are computed faster, and only where that is worth a restart. */
import { describe, expect, it } from 'vitest'
import { rebalance } from '../../../server/orchestrator/rebalance.ts'
import type { Balance } from '../../../server/orchestrator/rebalance.ts'

const costs = { layerCost: 1, embeddingCost: 0, headCost: 0 }

/** The second stage takes 30 ms for its two layers, the first 10: cut 3 + 1, both take 15. */
const lopsided: Balance = {
  partition: [2, 2],
  costs,
  busyMs: [[10], [30]],
  memory: [1000, 1000],
  bytes: (_stage, layers) => 100 * layers,
  microbatches: 10,
  stepMs: 400,
  stepsLeft: 1000,
  restartMs: 10_000,
}

describe('rebalancing', () => {
  it('moves a layer from the slow stage to the fast one', () => {
    // 10 x 30 ms and 10 to fill become 10 x 15 ms and 15.
    const found = rebalance(lopsided)!
    expect(found.partition).toEqual([3, 1])
    expect(found.savedMs).toBeCloseTo(310 - 165, 9)
  })

  it('leaves a run alone that is cut as well as can be', () => {
    expect(rebalance({ ...lopsided, busyMs: [[20], [20]] })).toBeNull()
    expect(rebalance({ ...lopsided, partition: [3, 1], busyMs: [[15], [15]] })).toBeNull()
    expect(rebalance({ ...lopsided, partition: [1, 1] })).toBeNull()
  })

  it('is content after the move: what it foresaw is measured then', () => {
    let { partition, busyMs } = lopsided
    const speeds = [0.2, 2 / 30]
    const cuts = []
    for (let i = 0; i < 4; i++) {
      const found = rebalance({ ...lopsided, partition, busyMs })
      if (!found) break
      cuts.push(found.partition)
      partition = found.partition
      busyMs = partition.map((layers, stage) => [layers / speeds[stage]!])
    }
    expect(cuts).toEqual([[3, 1]])
  })

  it('wants one and a half times what the restart takes, over the steps that are left', () => {
    // 145 ms a step.
    const enough = { ...lopsided, stepsLeft: 104 }
    expect(rebalance({ ...enough, restartMs: 10_000 })).not.toBeNull()
    expect(rebalance({ ...enough, stepsLeft: 103, restartMs: 10_000 })).toBeNull()
    expect(rebalance({ ...enough, stepsLeft: 0, restartMs: 0 })).toBeNull()
  })

  it('wants a twentieth of a step, of which links and merge may be the most', () => {
    expect(rebalance({ ...lopsided, stepMs: 20 * 145 - 1, restartMs: 0 })).not.toBeNull()
    expect(rebalance({ ...lopsided, stepMs: 20 * 145 + 1, restartMs: 0 })).toBeNull()
  })

  it('never counts on saving more than the step takes', () => {
    const { savedMs } = rebalance({ ...lopsided, stepMs: 200 })!
    expect(savedMs).toBeCloseTo(200 * (1 - 165 / 310), 9)
  })

  it('counts every device of a stage, in whole microbatches', () => {
    // Three devices of 30 ms part ten microbatches as 3, 4, 3: 120 ms, no worse than one of 10 ms with its 100.
    expect(rebalance({ ...lopsided, busyMs: [[10], [30, 30, 30]] })).toBeNull()
    // Eleven devices are no faster with one microbatch than one is.
    const single = { ...lopsided, microbatches: 1, stepMs: 40, restartMs: 0 }
    const crowd = Array.from({ length: 11 }, () => 30)
    expect(rebalance({ ...single, busyMs: [[10], crowd] })).toEqual(rebalance(single))
    expect(rebalance(single)).not.toBeNull()
    // Two more devices take work off the first stage's one, and so the stage takes a layer.
    const evened = { ...lopsided, microbatches: 12, busyMs: [[20], [20]] }
    expect(rebalance(evened)).toBeNull()
    expect(rebalance({ ...evened, busyMs: [[20, 20, 20], [20]] })?.partition).toEqual([3, 1])
  })

  it('takes a device that is not measured for one like the others, and waits for a stage that is not', () => {
    const of = (busyMs: Balance['busyMs']) => rebalance({ ...lopsided, microbatches: 12, busyMs })
    expect(of([[20, null, null], [20]])).toEqual(of([[20, 20, 20], [20]]))
    expect(of([[20, 20, 20], [null]])).toBeNull()
    expect(of([[20, 20, 20], []])).toBeNull()
  })

  it('keeps to what the devices can hold', () => {
    expect(rebalance({ ...lopsided, memory: [299, 1000] })).toBeNull()
    expect(rebalance({ ...lopsided, memory: [300, 1000] })?.partition).toEqual([3, 1])
  })

  it('knows that the head is no layer: it stays where it is', () => {
    // The last stage's 30 ms are one layer's 10 and the head's 20: its layer is all that it can give.
    const run = { ...lopsided, costs: { layerCost: 1, embeddingCost: 0, headCost: 2 }, stepsLeft: 1e6 }
    expect(rebalance({ ...run, partition: [3, 1], busyMs: [[30], [30]] })).toBeNull()
    const three = { ...run, partition: [1, 1, 2], memory: [1000, 1000, 1000] }
    expect(rebalance({ ...three, busyMs: [[10], [10], [40]] })?.partition).toEqual([1, 2, 1])
  })

  it('does not fill the pipeline more slowly than it empties it', () => {
    // One microbatch passes every stage once: the slowest of them matters no more than the others.
    const one = { ...lopsided, partition: [2, 2], microbatches: 1, restartMs: 0, stepMs: 40 }
    expect(rebalance({ ...one, busyMs: [[20], [21]] })).toBeNull()
    const found = rebalance({ ...one, busyMs: [[10], [30]] })!
    expect(found.savedMs).toBeCloseTo(40 - 30, 9)
  })
})
