/** Owns what a run is expected to cost and to take: a pure function of its configuration, the price and the devices there. */
import { stepCredit } from '../../src/model/credit.ts'
import { costOf } from '../../src/protocol/payment.ts'
import type { Quote } from '../../src/protocol/quote.ts'
import type { RunConfig } from '../../src/protocol/runConfig.ts'
import type { CloudGpu } from './cloudGpus.ts'

/**
 * @param planckPerPflop null where nobody is paid
 * @param speeds of each connected device that may serve the run, in model FLOPs a second; null where it is not measured
 */
export function quoteFor(
  config: RunConfig,
  planckPerPflop: bigint | null,
  speeds: readonly (number | null)[],
  gpus: readonly CloudGpu[],
): Quote {
  const perStep = stepCredit(config)
  const credit = perStep * BigInt(config.steps)
  const cost = (of: bigint) => (planckPerPflop === null ? null : String(costOf(of, planckPerPflop)))
  return {
    credit: String(credit),
    creditPerStep: String(perStep),
    cost: cost(credit),
    costPerStep: cost(perStep),
    time: timeFor(config, Number(credit), speeds),
    clouds: gpus.map((gpu) => {
      const seconds = Number(credit) / (gpu.peakFlops * gpu.mfu)
      return { ...gpu, seconds, dollars: (seconds / 3600) * gpu.dollarsPerHour }
    }),
  }
}

function timeFor({ stages, replicas }: RunConfig, credit: number, speeds: readonly (number | null)[]): Quote['time'] {
  const present = speeds.length
  const unknown = (reason: string) => ({ known: false, reason }) as const
  if (present === 0) return unknown('No device that may serve this run is connected.')
  if (present < stages) {
    const are = present === 1 ? '1 is' : `${present} are`
    return unknown(`A run of ${stages} stages needs ${stages} devices at least; ${are} connected.`)
  }
  const measured = speeds.filter((speed) => speed !== null)
  if (measured.length === 0)
    return unknown('No connected device has had part in a step since the server started: nothing is measured.')
  const flopsPerSecond = measured.reduce((sum, speed) => sum + speed, 0) / measured.length
  const devices = Math.min(present, stages * replicas)
  return {
    known: true,
    seconds: credit / (flopsPerSecond * devices),
    devices,
    measured: measured.length,
    flopsPerSecond,
  }
}
