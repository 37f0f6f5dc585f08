/** Owns the decision to cut a run's layers anew: when the slowest stage could be so much faster that a restart pays. */
import { choosePartition, stageCost } from '../../src/model/partition.ts'
import type { LayerCosts, PartitionProblem } from '../../src/model/partition.ts'
import { apportion } from '../../src/protocol/routing.ts'

/** What is gained until the end has to be this many times what the restart takes: measurements and the model both err. */
const LEAST_RETURN = 1.5
/** And each step has to be shorter by this part at least, or noise would cut again and again. */
const LEAST_GAIN = 0.05

export interface Balance {
  /** Layers of each stage now. */
  readonly partition: readonly number[]
  /** Such as `layerCosts` gives. */
  readonly costs: LayerCosts
  /**
   * By stage, for each node that is given leases there: mean milliseconds of one microbatch there and back at the present
   * cut, null while not measured.
   */
  readonly busyMs: readonly (readonly (number | null)[])[]
  /** Bytes that the smallest device of each stage offers. */
  readonly memory: readonly number[]
  /** Such as `stageBytes` gives. */
  readonly bytes: PartitionProblem['bytes']
  /** Microbatches of one step. */
  readonly microbatches: number
  /** Milliseconds from commit to commit, all told. */
  readonly stepMs: number
  readonly stepsLeft: number
  /** Milliseconds from leaving off at a checkpoint until the next step starts from it, cut anew. */
  readonly restartMs: number
}

export interface Rebalancing {
  readonly partition: number[]
  /** Milliseconds by which a step is expected to be shorter. */
  readonly savedMs: number
}

/**
 * Finds the best cut for the speeds that were measured. A node's speed is taken to stay the same whatever layers it has, so
 * that only a cut of which the stages' costs are foreseen well pays; how a pipeline fills is reckoned with, links are not.
 * @returns null while some stage is not measured, and when the present cut is the best or the change does not pay
 */
export function rebalance(balance: Balance): Rebalancing | null {
  const { partition, costs, microbatches, memory, bytes, stepMs, stepsLeft, restartMs } = balance
  const stages = partition.length
  const costAt = (stage: number, layers: number) => stageCost(costs, stage, stages, layers)
  const known = balance.busyMs.map(completed)
  if (known.length !== stages || !known.every((times) => times !== null)) return null
  // Leases are whole microbatches: the stage is as fast as whoever has its own done last.
  const loads = known.map((times) => load(times, microbatches))
  const capacity = loads.map((ms, stage) => (microbatches * costAt(stage, partition[stage]!)) / ms)
  const layers = partition.reduce((sum, count) => sum + count, 0)
  const best = choosePartition({ ...costs, layers, stages, capacity, memory, bytes })
  if (!best) return null

  const expected = (cut: readonly number[]) => {
    const grown = cut.map((count, stage) => costAt(stage, count) / costAt(stage, partition[stage]!))
    const work = grown.map((ratio, stage) => ratio * loads[stage]!)
    const slowest = work.indexOf(Math.max(...work))
    // Before the slowest stage has its first microbatch, and after it has sent its last, the others work on one.
    const fill = grown.reduce((sum, ratio, s) => (s === slowest ? sum : sum + ratio * median(known[s]!)), 0)
    return work[slowest]! + fill
  }
  const now = expected(partition)
  // Time that no stage accounts for, such as the merge, no cut can save.
  const savedMs = Math.min(stepMs, now) * (1 - expected(best) / now)
  const pays = savedMs >= LEAST_GAIN * stepMs && savedMs * stepsLeft > LEAST_RETURN * restartMs
  return pays ? { partition: best, savedMs } : null
}

/** A device that is not measured yet is taken to be as fast as the others of its stage; null where none is measured. */
function completed(times: readonly (number | null)[]): number[] | null {
  const measured = times.filter((ms): ms is number => ms !== null && ms > 0)
  if (measured.length === 0) return null
  const usual = median(measured)
  return times.map((ms) => (ms !== null && ms > 0 ? ms : usual))
}

/** Milliseconds that the stage works in one step. */
function load(times: readonly number[], microbatches: number): number {
  const loads = times.map(() => 0)
  for (const place of apportion(
    times.map((ms) => 1 / ms),
    microbatches,
  ))
    loads[place]! += times[place]!
  return Math.max(...loads)
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!
}
